# Whether the ports of the addresses suffice for the nodes, and what they carry. Needs no provider.

terraform {
  required_version = ">= 1.9.0"
}

locals {
  # NAT uses ports 1024 to 65535 of an address, for each destination address, port and protocol.
  ports_per_address = 64512

  # Counted for each address alone: a node whose ports would be split over two is not relied on.
  nodes_that_fit = var.addresses * floor(local.ports_per_address / var.ports_per_node)

  # A port is taken while its connection lasts and for TIME_WAIT after: here one second and TIME_WAIT.
  new_connections_per_second_per_node = var.ports_per_node / (var.time_wait_seconds + 1)
}
