"""ttrpc: the small RPC protocol between daemon and shims (containerd: github.com/containerd/ttrpc)."""
