# The subnetwork that only the proxy's nodes are in: NAT serves it and nothing else.

resource "google_compute_subnetwork" "proxy" {
  project       = local.network_project
  region        = var.region
  name          = var.name
  network       = local.network_path
  ip_cidr_range = var.subnet_cidr
  description   = "Nodes and pods of the egress proxy: the only ones that leave with the permitted source address."

  # Images, logs and metrics reach Google without NAT, and cost none of its ports.
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = local.pod_range_name
    ip_cidr_range = var.pod_cidr
  }
}

# Private NAT translates to addresses of a subnetwork that exists for that purpose only.
resource "google_compute_subnetwork" "private_nat" {
  count = local.public ? 0 : 1

  project       = local.network_project
  region        = var.region
  name          = "${var.name}-nat"
  network       = local.network_path
  ip_cidr_range = var.private_nat_cidr
  purpose       = "PRIVATE_NAT"
  description   = "Source addresses that the partner permits."
}
