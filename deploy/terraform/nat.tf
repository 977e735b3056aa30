# NAT for the proxy's subnetwork, from the permitted address and no other.

module "port_plan" {
  source = "./modules/port-plan"

  addresses         = local.public ? max(1, length(var.existing_address_names)) : pow(2, 32 - tonumber(split("/", var.private_nat_cidr)[1])) - 4
  ports_per_node    = var.ports_per_node
  nodes_max         = var.nodes_max
  nodes_surge       = var.nodes_surge
  time_wait_seconds = var.time_wait_seconds
  replicas_per_node = var.replicas_per_node
}

resource "google_compute_router" "proxy" {
  project = local.network_project
  region  = var.region
  name    = var.name
  network = local.network_path
}

resource "google_compute_router_nat" "proxy" {
  count = var.nat_enabled ? 1 : 0

  project = local.network_project
  region  = var.region
  router  = google_compute_router.proxy.name
  name    = var.name
  type    = var.nat_type

  # MANUAL_ONLY: when its ports are all given away, Google adds no address that the partner does not know.
  nat_ip_allocate_option = local.public ? "MANUAL_ONLY" : null
  nat_ips                = local.public ? local.nat_address_links : null
  drain_nat_ips          = local.public ? [for address in data.google_compute_address.drained : address.self_link] : null

  # Nodes' and pods' ranges: whether GKE masquerades pods or not, their packets are translated.
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"
  subnetwork {
    name                    = google_compute_subnetwork.proxy.self_link
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  dynamic "rules" {
    for_each = google_compute_subnetwork.private_nat
    content {
      rule_number = 100
      description = "To the partner, by VPN, Interconnect or hub"
      match       = var.private_nat_match
      action {
        source_nat_active_ranges = [rules.value.self_link]
      }
    }
  }

  # A fixed share of ports: the proxy counts against it, so it must not move.
  enable_dynamic_port_allocation      = false
  enable_endpoint_independent_mapping = false
  min_ports_per_vm                    = module.port_plan.ports_per_node

  tcp_time_wait_timeout_sec        = var.time_wait_seconds
  tcp_established_idle_timeout_sec = 1200

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }

  lifecycle {
    precondition {
      condition     = length(setintersection(local.nat_addresses, local.load_balancer_addresses)) == 0
      error_message = "A load balancer has ${join(", ", setintersection(local.nat_addresses, local.load_balancer_addresses))}. Detach it first (README, Cutover), or apply with nat_enabled = false."
    }

    precondition {
      condition     = length(var.expected_addresses) == 0 || toset(var.expected_addresses) == toset(local.nat_addresses)
      error_message = "NAT would send from ${join(", ", local.nat_addresses)}, the partner permits ${join(", ", var.expected_addresses)}."
    }
  }
}
