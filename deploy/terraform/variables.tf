# Inputs of the module. Only the first five have no default.

variable "project" {
  type        = string
  description = "Project of the cluster."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id: 6 to 30 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "region" {
  type        = string
  description = "Region of the cluster, of the address and of NAT: all three in the same one, for example us-central1."

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region such as us-central1, not a zone such as us-central1-a."
  }
}

variable "network" {
  type        = string
  description = "Name of the VPC network that the cluster is in."

  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", var.network))
    error_message = "The network's name, not its path."
  }
}

variable "cluster" {
  type        = string
  description = "Name of the existing GKE Standard cluster (VPC-native, 1.30.3 or later) that gets the proxy's node pool."

  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", var.cluster))
    error_message = "The cluster's name, not its path."
  }
}

variable "location" {
  type        = string
  description = "Location of the cluster: its region, or its zone if it is zonal."

  validation {
    condition     = var.location == var.region || startswith(var.location, "${var.region}-")
    error_message = "The region itself, or a zone in it: NAT serves its own region only."
  }
}

variable "network_project" {
  type        = string
  default     = null
  description = "Host project of a Shared VPC: subnetwork, source address, router, NAT, firewall and alerts go there. Null: the network is in var.project."
}

variable "name" {
  type        = string
  default     = "eco-egress"
  description = "First part of every name this module gives; also the name of the node pool and the value of its taint."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,29}$", var.name)) && !endswith(var.name, "-")
    error_message = "1 to 30 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

# The address

variable "existing_address_names" {
  type        = list(string)
  default     = []
  description = "Names of regional addresses that are reserved already and that NAT shall send from. Empty: this module reserves one."

  validation {
    condition     = length(var.existing_address_names) == length(distinct(var.existing_address_names))
    error_message = "Name each address once."
  }
}

variable "drain_address_names" {
  type        = list(string)
  default     = []
  description = "Names of addresses that NAT sent from and shall leave: open connections keep theirs, new ones get another."

  validation {
    condition     = length(setintersection(var.drain_address_names, var.existing_address_names)) == 0
    error_message = "An address is in use or drained, not both."
  }
}

variable "expected_addresses" {
  type        = list(string)
  default     = []
  description = "The addresses that the partner permits, for example [\"34.123.45.67\"]. If given, the plan fails unless NAT sends from these and no others."

  validation {
    condition     = alltrue([for address in var.expected_addresses : can(cidrhost("${address}/32", 0))])
    error_message = "IPv4 addresses, without a prefix length."
  }

  validation {
    condition     = length(var.expected_addresses) == 0 || var.nat_type == "PUBLIC"
    error_message = "Private NAT sends from any address of private_nat_cidr: the partner permits that range."
  }
}

variable "nat_enabled" {
  type        = bool
  default     = true
  description = "False leaves NAT away, so that everything else can be built while the address still belongs to a load balancer."

  validation {
    condition     = !var.nat_enabled || var.node_pool_enabled
    error_message = "NAT without its nodes: set node_pool_enabled too, in terraform.tfvars and not by -var, or the nodes that there are would be destroyed."
  }
}

variable "nat_type" {
  type        = string
  default     = "PUBLIC"
  description = "PUBLIC: the partner's name has public addresses. PRIVATE: it has private ones, reached by VPN or Interconnect, where public NAT does nothing."

  validation {
    condition     = contains(["PUBLIC", "PRIVATE"], var.nat_type)
    error_message = "PUBLIC or PRIVATE."
  }
}

variable "private_nat_cidr" {
  type        = string
  default     = null
  description = "With nat_type PRIVATE: the range that packets leave with. The partner permits all of it; four of its addresses cannot be used."

  validation {
    condition     = (var.nat_type == "PRIVATE") == (var.private_nat_cidr != null)
    error_message = "Set with nat_type PRIVATE, and only then."
  }

  validation {
    condition     = var.private_nat_cidr == null || can(cidrhost(var.private_nat_cidr, 7))
    error_message = "An IPv4 range of /29 or larger."
  }
}

variable "private_nat_match" {
  type        = string
  default     = "nexthop.is_hybrid"
  description = "With nat_type PRIVATE: which packets are translated. The default is VPN and Interconnect; for Network Connectivity Center: nexthop.hub == '//networkconnectivity.googleapis.com/projects/P/locations/global/hubs/H'."

  validation {
    condition     = can(regex("^nexthop\\.(is_hybrid|hub == '//networkconnectivity\\.googleapis\\.com/.+')", var.private_nat_match))
    error_message = "Begins with nexthop.is_hybrid or nexthop.hub == '//networkconnectivity.googleapis.com/…'."
  }
}

# Ports: see modules/port-plan for the arithmetic.

variable "ports_per_node" {
  type        = number
  default     = 8192
  description = "Ports of the address that each node gets, for each destination address and port: a power of two. This is nat.ports of the proxy."
}

variable "time_wait_seconds" {
  type        = number
  default     = 120
  description = "How long NAT keeps a port after its connection closed. This is nat.timeWait of the proxy. A shorter time carries more connections, and risks that the partner still knows the old one."
}

variable "replicas_per_node" {
  type        = number
  default     = 1
  description = "Pods of the proxy on one node at one time: they share its ports. This is nat.replicasPerNode of the proxy."
}

# Nodes

variable "node_pool_enabled" {
  type        = bool
  default     = true
  description = "False leaves the node pool away, until the cluster has been given the subnetwork (README)."
}

variable "nodes_min" {
  type        = number
  default     = 3
  description = "Fewest nodes, in all zones together: one for each of two replicas, and one for the replica that a rollout adds. The pool begins with one in each zone."

  validation {
    condition     = var.nodes_min >= 1 && floor(var.nodes_min) == var.nodes_min
    error_message = "A whole number, 1 or more."
  }
}

variable "nodes_max" {
  type        = number
  default     = 6
  description = "Most nodes, in all zones together, without those that an upgrade adds. One more than the proxy has replicas at most: a rollout adds a replica, and no two share a node."

  validation {
    condition     = var.nodes_max >= var.nodes_min
    error_message = "Not below nodes_min."
  }
}

variable "nodes_surge" {
  type        = number
  default     = 1
  description = "Nodes that an upgrade may add. They take ports like any other."
}

variable "node_locations" {
  type        = list(string)
  default     = null
  description = "Zones of the nodes. Null: the cluster's."

  validation {
    condition     = alltrue([for zone in coalesce(var.node_locations, []) : startswith(zone, "${var.region}-")])
    error_message = "Zones of var.region: NAT serves its own region only."
  }
}

variable "machine_type" {
  type        = string
  default     = "e2-standard-2"
  description = "Machine type of the nodes. The proxy uses one core."
}

variable "node_service_account" {
  type        = string
  default     = null
  description = "Service account of the nodes, with roles/container.defaultNodeServiceAccount. Null: the project's default one, which usually may do too much."

  validation {
    condition     = can(regex("^[^@]+@[^@]+$", coalesce(var.node_service_account, "a@b")))
    error_message = "The account's e-mail address."
  }
}

# Ranges

variable "subnet_cidr" {
  type        = string
  default     = "10.200.0.0/26"
  description = "Addresses of the nodes. Free in the network."

  validation {
    condition     = can(cidrhost(var.subnet_cidr, 7))
    error_message = "An IPv4 range of /29 or larger."
  }
}

variable "pod_cidr" {
  type        = string
  default     = "10.200.4.0/22"
  description = "Addresses of the pods on these nodes. Free in the network; each node takes twice as many as max_pods_per_node, rounded up to a power of two."

  validation {
    condition     = can(cidrhost(var.pod_cidr, 127))
    error_message = "An IPv4 range of /25 or larger."
  }

  validation {
    condition     = pow(2, 32 - tonumber(split("/", var.pod_cidr)[1])) >= (var.nodes_max + var.nodes_surge) * pow(2, ceil(log(2 * var.max_pods_per_node, 2)))
    error_message = "Too small for nodes_max and nodes_surge: each node takes ${pow(2, ceil(log(2 * var.max_pods_per_node, 2)))} addresses."
  }
}

variable "max_pods_per_node" {
  type        = number
  default     = 32
  description = "Most pods on one node. The node's own take about ten."

  validation {
    condition     = var.max_pods_per_node >= 16 && var.max_pods_per_node <= 110
    error_message = "Between 16 and 110."
  }
}

# Firewall

variable "restrict_egress" {
  type        = bool
  default     = false
  description = "True lets these nodes reach the partner, the cluster and Google's APIs only. Read the README first: without private DNS for Google's APIs nodes cannot start."

  validation {
    condition     = !var.restrict_egress || length(var.partner_cidrs) > 0
    error_message = "Say in partner_cidrs which addresses the partner has."
  }
}

variable "partner_cidrs" {
  type        = list(string)
  default     = []
  description = "Ranges that the partner's name resolves to. Firewall rules know addresses only: leave it empty for a partner whose addresses move."

  validation {
    condition     = alltrue([for range in var.partner_cidrs : can(cidrhost(range, 0))])
    error_message = "IPv4 ranges such as 203.0.113.0/28."
  }
}

variable "partner_ports" {
  type        = list(number)
  default     = [443, 80]
  description = "Ports of the partner, as in the proxy's configuration."

  validation {
    condition     = alltrue([for port in var.partner_ports : port >= 1 && port <= 65535])
    error_message = "Ports between 1 and 65535."
  }
}

variable "internal_cidrs" {
  type        = list(string)
  default     = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  description = "With restrict_egress: the cluster's nodes, pods, services, control plane and DNS. The default is every private range; narrower is better."

  validation {
    condition     = alltrue([for range in var.internal_cidrs : can(cidrhost(range, 0))])
    error_message = "IPv4 ranges such as 10.8.0.0/14."
  }
}

variable "google_apis_cidrs" {
  type        = list(string)
  default     = ["199.36.153.8/30", "199.36.153.4/30"]
  description = "With restrict_egress: private.googleapis.com and restricted.googleapis.com, for images, logs and metrics."

  validation {
    condition     = alltrue([for range in var.google_apis_cidrs : can(cidrhost(range, 0))])
    error_message = "IPv4 ranges such as 199.36.153.8/30."
  }
}

# A load balancer in front, for callers outside the cluster

variable "load_balancer_subnetwork" {
  type        = string
  default     = null
  description = "Name of the cluster's own subnetwork, to reserve an internal address in it for the Service of callers outside the cluster. Null: none is reserved. Nothing leaves with this address."
}

variable "health_check_rule" {
  type        = bool
  default     = false
  description = "True permits the health checks of a load balancer in front of the proxy. GKE does so itself, except in a Shared VPC whose host project it may not change."
}

# Alerts

variable "alerts_enabled" {
  type        = bool
  default     = true
  description = "Alerts on dropped packets, on failed allocations and on ports running out."
}

variable "notification_channels" {
  type        = list(string)
  default     = []
  description = "Ids of the Cloud Monitoring channels that alerts go to: projects/P/notificationChannels/N."

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "projects/P/notificationChannels/N."
  }
}

variable "port_usage_alert_ratio" {
  type        = number
  default     = 0.7
  description = "Part of ports_per_node from which a node's ports are said to run out. The proxy itself warns at the same 70 %."

  validation {
    condition     = var.port_usage_alert_ratio > 0 && var.port_usage_alert_ratio < 1
    error_message = "Between 0 and 1."
  }
}
