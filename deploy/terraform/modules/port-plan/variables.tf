# What the plan is made from.

variable "addresses" {
  type        = number
  description = "Addresses that NAT sends from."

  validation {
    condition     = var.addresses >= 1
    error_message = "At least one address."
  }
}

variable "ports_per_node" {
  type        = number
  description = "Ports that each node gets, for each destination address and port."

  validation {
    condition     = contains([for exponent in range(6, 16) : pow(2, exponent)], var.ports_per_node)
    error_message = "A power of two between 64 and 32768: NAT rounds anything else up, and then fewer nodes fit."
  }
}

variable "nodes_max" {
  type        = number
  description = "Most nodes at any time but an upgrade."

  validation {
    condition     = var.nodes_max >= 1 && floor(var.nodes_max) == var.nodes_max
    error_message = "A whole number, 1 or more."
  }
}

variable "nodes_surge" {
  type        = number
  description = "Nodes that an upgrade adds."

  validation {
    condition     = var.nodes_surge >= 0 && floor(var.nodes_surge) == var.nodes_surge
    error_message = "A whole number, 0 or more."
  }
}

variable "time_wait_seconds" {
  type        = number
  description = "How long a port stays taken after its connection closed."

  validation {
    condition     = var.time_wait_seconds >= 30 && var.time_wait_seconds <= 600
    error_message = "Between 30 and 600 seconds."
  }
}

variable "replicas_per_node" {
  type        = number
  description = "Proxies that share a node's ports."

  validation {
    condition     = var.replicas_per_node >= 1 && floor(var.replicas_per_node) == var.replicas_per_node
    error_message = "A whole number, 1 or more."
  }
}
