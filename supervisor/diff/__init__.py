"""Layers as archives: applied to a tree, compared with another (containerd: core/diff, pkg/archive)."""
