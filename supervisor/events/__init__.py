"""Telling subscribers of events (containerd: core/events)."""
