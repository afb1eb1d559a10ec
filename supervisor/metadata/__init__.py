"""The store: one SQLite file for all that the daemon knows (containerd: core/metadata)."""
