# Names that several files use.

locals {
  network_project = coalesce(var.network_project, var.project)
  network_path    = "projects/${local.network_project}/global/networks/${var.network}"
  public          = var.nat_type == "PUBLIC"

  # What the pods tolerate: tolerations in deploy/kubernetes.
  taint_key = "dedicated"
  node_tag  = "${var.name}-node"

  pod_range_name = "${var.name}-pods"
}
