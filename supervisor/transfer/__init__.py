"""Images moved between registries, archives and the store: pulled, pushed, imported, exported, unpacked."""
