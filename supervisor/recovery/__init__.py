"""Metadata that survives: backups of the store, what takes a damaged one's place, and `fsck`."""
