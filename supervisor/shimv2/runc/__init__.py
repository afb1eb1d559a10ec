"""The shim process `containerd-shim-oci-v2` (containerd: cmd/containerd-shim-runc-v2)."""
