"""Garbage collection: what roots reach stays, all else goes (containerd: core/metadata/gc.go)."""
