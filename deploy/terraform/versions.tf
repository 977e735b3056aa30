terraform {
  # 1.9: a validation may refer to other variables.
  required_version = ">= 1.9.0"

  required_providers {
    google = {
      source = "hashicorp/google"
      # The first versions of 7 cannot put a node pool into a subnetwork of its own.
      version = ">= 7.35.0, < 8.0.0"
    }
  }
}
