"""Values that every other part speaks in: identities, descriptors, mounts, labels, filters. No I/O."""
