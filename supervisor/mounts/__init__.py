"""Mounts that need preparation: planned, filled in, performed and undone (containerd: core/mount/manager)."""
