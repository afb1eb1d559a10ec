"""Snapshot drivers: folders and mounts as data (containerd: core/snapshots, plugins/snapshots)."""
