# Alerts on what NAT does silently: a packet without a port is dropped without a message.

locals {
  alerts = var.alerts_enabled && var.nat_enabled ? {
    dropped = {
      title     = "NAT drops packets: out of ports"
      severity  = "CRITICAL"
      metric    = "router.googleapis.com/nat/dropped_sent_packets_count"
      label     = "metric.label.reason = \"OUT_OF_RESOURCES\""
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      advice    = "Connections to the partner time out. The proxy's eco_egress_nat_ports_used should have refused before: see that nat.ports, nat.replicasPerNode and nat.timeWait are this module's outputs. Then raise ports_per_node, or find who opens a connection for each request (docs/port-economy.md)."
    }
    allocation = {
      title     = "NAT cannot serve a node: no ports left to give"
      severity  = "CRITICAL"
      metric    = "router.googleapis.com/nat/nat_allocation_failed"
      label     = ""
      aligner   = "ALIGN_COUNT_TRUE"
      reducer   = "REDUCE_SUM"
      threshold = 0
      advice    = "There are more nodes in the subnetwork than ports for them, so a node has no way out. Lower nodes_max or ports_per_node."
    }
    usage = {
      title     = "NAT ports of a node run out"
      severity  = "WARNING"
      metric    = "router.googleapis.com/nat/port_usage"
      label     = ""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = floor(var.ports_per_node * var.port_usage_alert_ratio)
      advice    = "One node has this many connections to one address and port of the partner. At ports_per_node its next ones are dropped. Which clients open them: docs/port-economy.md."
    }
  } : {}
}

resource "google_monitoring_alert_policy" "nat" {
  for_each = local.alerts

  project               = local.network_project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels

  conditions {
    display_name = each.value.title

    condition_threshold {
      filter = join(" AND ", compact([
        "resource.type = \"nat_gateway\"",
        "resource.label.gateway_name = \"${var.name}\"",
        "resource.label.region = \"${var.region}\"",
        "metric.type = \"${each.value.metric}\"",
        each.value.label,
      ]))
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "0s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }
    }
  }

  documentation {
    content   = each.value.advice
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "1800s"
  }
}
