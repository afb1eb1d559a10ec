"""The client of registries: the OCI distribution protocol on requests (containerd: core/remotes/docker)."""
