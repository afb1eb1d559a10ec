"""The daemon: the one place that wires all parts together (containerd: cmd/containerd)."""
