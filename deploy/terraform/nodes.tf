# Private nodes for the proxy alone: whatever runs here leaves with the permitted address.

resource "google_container_node_pool" "proxy" {
  count = var.node_pool_enabled ? 1 : 0

  project           = var.project
  location          = var.location
  cluster           = var.cluster
  name              = var.name
  node_locations    = var.node_locations
  max_pods_per_node = var.max_pods_per_node

  # In each zone; the autoscaler knows better from then on.
  initial_node_count = 1

  # Totals, not per zone: the port plan counts all nodes that share the address.
  autoscaling {
    total_min_node_count = var.nodes_min
    total_max_node_count = var.nodes_max
    location_policy      = "BALANCED"
  }

  upgrade_settings {
    strategy        = "SURGE"
    max_surge       = var.nodes_surge
    max_unavailable = var.nodes_surge > 0 ? 0 : 1
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  network_config {
    # A node with an external address of its own would pass NAT by.
    enable_private_nodes = true
    subnetwork           = google_compute_subnetwork.proxy.id
    pod_range            = local.pod_range_name
  }

  node_config {
    machine_type    = var.machine_type
    image_type      = "COS_CONTAINERD"
    disk_size_gb    = 50
    service_account = var.node_service_account
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    tags            = [local.node_tag]
    metadata        = { disable-legacy-endpoints = "true" }

    taint {
      key    = local.taint_key
      value  = var.name
      effect = "NO_SCHEDULE"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}
