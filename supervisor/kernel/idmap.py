"""Mounts with shifted owners (containerd: core/mount, mount_idmapped_linux.go)."""

from __future__ import annotations

import errno

from supervisor.kernel.mount_options import Parsed
from supervisor.model.mount import Mount


def mount_mapped(mount: Mount, parsed: Parsed, target: str) -> None:
    """Perform a mount whose owners are shifted by uidmap= and gidmap=."""
    raise OSError(errno.EOPNOTSUPP, f"mount {mount.type}: uidmap= is not offered", target)
