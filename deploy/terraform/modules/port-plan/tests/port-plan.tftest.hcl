# Run by: terraform test, in modules/port-plan. Needs no credentials and no provider.

variables {
  addresses         = 1
  ports_per_node    = 8192
  nodes_max         = 6
  nodes_surge       = 1
  time_wait_seconds = 120
  replicas_per_node = 2
}

run "fits_to_the_last_node" {
  command = plan

  assert {
    condition     = output.ports_per_node == 8192
    error_message = "7 nodes of 8192 ports are 57344, below 64512."
  }

  assert {
    condition     = output.capacity.nodes_that_fit == 7
    error_message = "One address has room for 7 nodes of 8192 ports."
  }

  assert {
    condition     = output.capacity.ports_per_replica == 4096
    error_message = "Two proxies on a node share its ports."
  }

  assert {
    condition     = floor(output.capacity.new_connections_per_second_per_node) == 67
    error_message = "8192 ports, each taken for 121 s."
  }
}

run "the_upgrade_node_does_not_fit" {
  command = plan

  variables {
    nodes_max = 7
  }

  expect_failures = [output.ports_per_node]
}

run "a_second_address_makes_room" {
  command = plan

  variables {
    addresses = 2
    nodes_max = 13
  }

  assert {
    condition     = output.capacity.nodes_that_fit == 14
    error_message = "Two addresses have room for 7 nodes each."
  }
}

run "not_a_power_of_two" {
  command = plan

  variables {
    ports_per_node = 8191
  }

  expect_failures = [var.ports_per_node]
}

run "more_ports_than_an_address_has" {
  command = plan

  variables {
    ports_per_node = 65536
    nodes_max      = 1
    nodes_surge    = 0
    addresses      = 2
  }

  expect_failures = [var.ports_per_node]
}
