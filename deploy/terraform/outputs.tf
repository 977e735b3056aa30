# What the manifests and the proxy's configuration take from here.

output "source_addresses" {
  description = "Addresses that the partner sees and permits: sourceIp.expected of the proxy. Empty with nat_type PRIVATE, whose range is private_nat_cidr."
  value       = local.nat_addresses
}

output "address_names" {
  description = "Names of these addresses, for existing_address_names of a next apply or module."
  value       = local.nat_address_names
}

output "nat_ports" {
  description = "Ports of one node for each destination address and port: nat.ports of the proxy."
  value       = module.port_plan.ports_per_node
}

output "capacity" {
  description = "What the port plan comes to: nodes that fit, and new connections a second that a node and the whole can keep up, each a second long."
  value       = module.port_plan.capacity
}

output "egress_config" {
  description = "Part of the proxy's configuration file that depends on NAT: paste it, or set it from here."
  value = yamlencode({
    sourceIp = { expected = local.addresses_to_expect }
    nat = {
      ports           = module.port_plan.ports_per_node
      replicasPerNode = var.replicas_per_node
      timeWait        = "${var.time_wait_seconds}s"
    }
  })
}

output "node_selector" {
  description = "nodeSelector of the proxy's pods."
  value       = { "cloud.google.com/gke-nodepool" = var.name }
}

output "toleration" {
  description = "Toleration of the proxy's pods, and of nothing else."
  value       = { key = local.taint_key, operator = "Equal", value = var.name, effect = "NoSchedule" }
}

output "load_balancer_address_name" {
  description = "Annotation networking.gke.io/load-balancer-ip-addresses of the Service for callers outside the cluster. Null if none is reserved."
  value       = one(google_compute_address.load_balancer[*].name)
}

output "subnetwork" {
  description = "The proxy's subnetwork and its ranges: what to give the cluster (README), and what firewalls elsewhere may see."
  value = {
    name      = google_compute_subnetwork.proxy.name
    nodes     = google_compute_subnetwork.proxy.ip_cidr_range
    pods      = var.pod_cidr
    pod_range = local.pod_range_name
  }
}

output "attach_subnetwork" {
  description = "Command that gives the cluster the subnetwork, once, before the node pool."
  value       = "gcloud container clusters update ${var.cluster} --project=${var.project} --location=${var.location} --additional-ip-ranges=subnetwork=${google_compute_subnetwork.proxy.name},pod-ipv4-range=${local.pod_range_name}"
}
