# What the plan comes to.

output "ports_per_node" {
  description = "Ports of each node; known only if those of all nodes fit the addresses."
  value       = var.ports_per_node

  precondition {
    condition     = var.nodes_max + var.nodes_surge <= local.nodes_that_fit
    error_message = "${var.nodes_max} nodes, and ${var.nodes_surge} more during an upgrade, of ${var.ports_per_node} ports each: there is room for ${local.nodes_that_fit}. The last would have no way out. Lower nodes_max or ports_per_node."
  }
}

output "capacity" {
  description = "Nodes that fit, ports of one proxy, and new connections a second that can be kept up, each a second long."
  value = {
    nodes_that_fit                      = local.nodes_that_fit
    ports_per_replica                   = floor(var.ports_per_node / var.replicas_per_node)
    new_connections_per_second_per_node = local.new_connections_per_second_per_node
    new_connections_per_second          = local.new_connections_per_second_per_node * var.nodes_max
  }
}
