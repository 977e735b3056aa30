# What the proxy's nodes may reach, beneath the NetworkPolicy and the proxy's own allowlist.

locals {
  egress_rules = {
    partner     = { ranges = var.partner_cidrs, protocol = "tcp", ports = var.partner_ports }
    cluster     = { ranges = var.internal_cidrs, protocol = "all", ports = [] }
    google-apis = { ranges = var.google_apis_cidrs, protocol = "tcp", ports = [443] }
  }
}

resource "google_compute_firewall" "egress_allow" {
  for_each = { for name, rule in local.egress_rules : name => rule if var.restrict_egress }

  project            = local.network_project
  name               = "${var.name}-to-${each.key}"
  network            = local.network_path
  direction          = "EGRESS"
  priority           = 1000
  target_tags        = [local.node_tag]
  destination_ranges = each.value.ranges

  allow {
    protocol = each.value.protocol
    ports    = each.value.ports
  }
}

resource "google_compute_firewall" "egress_deny" {
  count = var.restrict_egress ? 1 : 0

  project            = local.network_project
  name               = "${var.name}-to-nothing-else"
  network            = local.network_path
  direction          = "EGRESS"
  priority           = 65000
  target_tags        = [local.node_tag]
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}

# Google's health checkers; 10256 is kube-proxy's check, the rest are Services' own (externalTrafficPolicy: Local).
resource "google_compute_firewall" "health_checks" {
  count = var.health_check_rule ? 1 : 0

  project       = local.network_project
  name          = "${var.name}-health-checks"
  network       = local.network_path
  direction     = "INGRESS"
  priority      = 1000
  target_tags   = [local.node_tag]
  source_ranges = ["35.191.0.0/16", "130.211.0.0/22"]

  allow {
    protocol = "tcp"
    ports    = ["10256", "30000-32767"]
  }
}
