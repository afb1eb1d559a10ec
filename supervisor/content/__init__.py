"""Content-addressed blobs and the writes on their way to become one (containerd: core/content)."""
