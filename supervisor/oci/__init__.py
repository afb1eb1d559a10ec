"""OCI image and runtime specifications, as far as they are spoken here (containerd: pkg/oci, core/images)."""
