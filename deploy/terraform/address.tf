# The source address: reserved here, or reserved before and found by its name.

resource "google_compute_address" "nat" {
  count = local.public && length(var.existing_address_names) == 0 ? 1 : 0

  project      = local.network_project
  region       = var.region
  name         = var.name
  address_type = "EXTERNAL"
  description  = "The source address that the partner permits. Released, it is gone for good."

  lifecycle {
    prevent_destroy = true
  }
}

# Where callers outside the cluster find the proxy; nothing leaves with it.
resource "google_compute_address" "load_balancer" {
  count = var.load_balancer_subnetwork == null ? 0 : 1

  # Of the cluster's project, also where the network is another's.
  project      = var.project
  region       = var.region
  name         = "${var.name}-external"
  address_type = "INTERNAL"
  subnetwork   = "projects/${local.network_project}/regions/${var.region}/subnetworks/${var.load_balancer_subnetwork}"
  description  = "The proxy's internal load balancer."
}

data "google_compute_address" "nat" {
  for_each = toset(local.public ? var.existing_address_names : [])

  project = local.network_project
  region  = var.region
  name    = each.key

  lifecycle {
    postcondition {
      condition     = self.address_type == "EXTERNAL"
      error_message = "${each.key} is an internal address: public NAT sends from external ones only."
    }
  }
}

data "google_compute_address" "drained" {
  for_each = toset(local.public ? var.drain_address_names : [])

  project = local.network_project
  region  = var.region
  name    = each.key
}

# A forwarding rule and NAT cannot both own an address: nat.tf refuses one that a load balancer has.
data "google_compute_forwarding_rules" "region" {
  count = local.public && var.nat_enabled && length(var.existing_address_names) > 0 ? 1 : 0

  project = local.network_project
  region  = var.region
}

locals {
  load_balancer_addresses = flatten([for list in data.google_compute_forwarding_rules.region : list.rules[*].ip_address])

  nat_addresses     = concat(google_compute_address.nat[*].address, [for address in data.google_compute_address.nat : address.address])
  nat_address_links = concat(google_compute_address.nat[*].self_link, [for address in data.google_compute_address.nat : address.self_link])
  # Four addresses of a private range cannot be used: the first two and the last two. A list of more than 1,024 is left to the reader.
  private_bits        = tonumber(split("/", coalesce(var.private_nat_cidr, "0.0.0.0/29"))[1])
  private_addresses   = [for number in range(2, local.private_bits < 22 ? 2 : pow(2, 32 - local.private_bits) - 2) : cidrhost(coalesce(var.private_nat_cidr, "0.0.0.0/29"), number)]
  addresses_to_expect = local.public ? local.nat_addresses : local.private_addresses

  nat_address_names = concat(google_compute_address.nat[*].name, [for address in data.google_compute_address.nat : address.name])
}
