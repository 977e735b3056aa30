# Run by: terraform init && terraform test. Needs the provider, no credentials: nothing is created.

mock_provider "google" {
  mock_data "google_compute_address" {
    defaults = {
      address      = "34.123.45.67"
      address_type = "EXTERNAL"
      self_link    = "projects/p/regions/us-central1/addresses/partner"
    }
  }

  mock_data "google_compute_forwarding_rules" {
    defaults = {
      rules = []
    }
  }
}

variables {
  project                = "sit-project"
  region                 = "us-central1"
  location               = "us-central1"
  network                = "sit"
  cluster                = "sit"
  existing_address_names = ["partner"]
  expected_addresses     = ["34.123.45.67"]
}

run "sends_from_the_permitted_address_only" {
  command = plan

  assert {
    condition     = google_compute_router_nat.proxy[0].nat_ip_allocate_option == "MANUAL_ONLY" && google_compute_router_nat.proxy[0].min_ports_per_vm == 8192
    error_message = "NAT must not add addresses of its own, and each node gets what the proxy counts."
  }

  assert {
    condition     = length(google_compute_address.nat) == 0
    error_message = "The address is reserved already."
  }

  assert {
    condition     = output.node_selector["cloud.google.com/gke-nodepool"] == google_container_node_pool.proxy[0].name && google_container_node_pool.proxy[0].network_config[0].enable_private_nodes
    error_message = "Pods find private nodes."
  }

  assert {
    condition     = output.toleration.key == google_container_node_pool.proxy[0].node_config[0].taint[0].key && output.toleration.value == google_container_node_pool.proxy[0].node_config[0].taint[0].value
    error_message = "Pods tolerate the taint of the nodes."
  }

  assert {
    condition     = yamldecode(output.egress_config).sourceIp.expected[0] == "34.123.45.67" && yamldecode(output.egress_config).nat.timeWait == "120s"
    error_message = "The proxy gets the values of the NAT."
  }

  assert {
    condition     = length(google_compute_firewall.egress_allow) == 0 && length(google_compute_firewall.egress_deny) == 0 && length(google_monitoring_alert_policy.nat) == 3
    error_message = "As shipped: alerts, and no firewall rules."
  }
}

run "each_alert_has_its_filter" {
  command = plan

  assert {
    condition     = endswith(google_monitoring_alert_policy.nat["dropped"].conditions[0].condition_threshold[0].filter, "AND metric.type = \"router.googleapis.com/nat/dropped_sent_packets_count\" AND metric.label.reason = \"OUT_OF_RESOURCES\"")
    error_message = "Drops for want of ports, and no others."
  }

  assert {
    condition     = endswith(google_monitoring_alert_policy.nat["allocation"].conditions[0].condition_threshold[0].filter, "AND metric.type = \"router.googleapis.com/nat/nat_allocation_failed\"")
    error_message = "A filter ends with its last term."
  }

  assert {
    condition     = google_monitoring_alert_policy.nat["usage"].conditions[0].condition_threshold[0].threshold_value == 5734
    error_message = "70 % of 8192 ports."
  }
}

run "address_still_on_a_load_balancer" {
  command = plan

  override_data {
    target = data.google_compute_forwarding_rules.region
    values = {
      rules = [{ name = "istio-egressgateway-external", ip_address = "34.123.45.67" }]
    }
  }

  expect_failures = [google_compute_router_nat.proxy]
}

run "prepared_while_the_load_balancer_has_the_address" {
  command = plan

  variables {
    nat_enabled = false
  }

  assert {
    condition     = length(google_compute_router_nat.proxy) == 0 && length(google_monitoring_alert_policy.nat) == 0 && length(google_container_node_pool.proxy) == 1
    error_message = "Everything but NAT and its alerts."
  }
}

run "another_address_than_the_partner_permits" {
  command = plan

  variables {
    expected_addresses = ["34.123.45.68"]
  }

  expect_failures = [google_compute_router_nat.proxy]
}

run "load_balancer_for_callers_outside" {
  command = plan

  variables {
    load_balancer_subnetwork = "sit"
  }

  assert {
    condition     = output.load_balancer_address_name == "eco-egress-external" && google_compute_address.load_balancer[0].address_type == "INTERNAL"
    error_message = "An internal address by the name that the Service's annotation has."
  }

  assert {
    condition     = join(",", output.source_addresses) == "34.123.45.67"
    error_message = "The load balancer's address is no source address."
  }
}

run "restricted_egress" {
  command = plan

  variables {
    restrict_egress = true
    partner_cidrs   = ["203.0.113.0/28"]
  }

  assert {
    condition     = length(google_compute_firewall.egress_allow) == 3 && google_compute_firewall.egress_deny[0].priority > google_compute_firewall.egress_allow["partner"].priority
    error_message = "Three permissions before the denial of everything else."
  }
}

run "restricted_to_nothing" {
  command = plan

  variables {
    restrict_egress = true
  }

  expect_failures = [var.restrict_egress]
}

run "private_partner" {
  command = plan

  variables {
    nat_type               = "PRIVATE"
    private_nat_cidr       = "10.201.0.0/29"
    existing_address_names = []
    expected_addresses     = []
  }

  assert {
    condition     = google_compute_subnetwork.private_nat[0].purpose == "PRIVATE_NAT" && length(google_compute_address.nat) == 0 && length(google_compute_router_nat.proxy[0].rules) == 1
    error_message = "Translated to a private range by a rule, and no public address reserved."
  }

  assert {
    condition     = output.capacity.nodes_that_fit == 28
    error_message = "Four usable addresses of a /29, seven nodes each."
  }

  assert {
    condition     = join(",", yamldecode(output.egress_config).sourceIp.expected) == "10.201.0.2,10.201.0.3,10.201.0.4,10.201.0.5"
    error_message = "The proxy expects the usable addresses: it refuses an empty list."
  }
}

run "private_range_without_private_nat" {
  command = plan

  variables {
    private_nat_cidr = "10.201.0.0/29"
  }

  expect_failures = [var.private_nat_cidr]
}

run "location_in_another_region" {
  command = plan

  variables {
    location = "europe-west1"
  }

  expect_failures = [var.location]
}

run "pod_range_too_small_for_the_nodes" {
  command = plan

  variables {
    pod_cidr = "10.200.4.0/24"
  }

  expect_failures = [var.pod_cidr]
}

run "nat_without_its_nodes" {
  command = plan

  variables {
    node_pool_enabled = false
  }

  expect_failures = [var.nat_enabled]
}
