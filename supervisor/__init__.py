"""A container supervisor that speaks containerd's API."""
