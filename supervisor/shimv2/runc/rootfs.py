"""A container's root filesystem, mounted in its bundle (containerd: runc/container.go; contract: rootfs)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from supervisor.errors import SupervisorError
from supervisor.kernel.mounts import mount_all, unmount_recursive
from supervisor.model.mount import Mount
from supervisor.shimv2.runc.bundle import ROOTFS


def mount(mounts: Sequence[Mount], bundle: str) -> None:
    """Perform `mounts` on the bundle's rootfs, all or none; raises SupervisorError."""
    if not mounts:
        return
    point = f"{bundle}/{ROOTFS}"
    try:
        os.makedirs(point, mode=0o711, exist_ok=True)
        mount_all(mounts, Path(point))
    except OSError as error:
        raise SupervisorError(f"failed to mount rootfs component: {error}") from error


def unmount(bundle: str) -> None:
    """Take off whatever is mounted there, which may be nothing; raises SupervisorError while it is in use."""
    try:
        unmount_recursive(Path(bundle, ROOTFS))
    except OSError as error:
        raise SupervisorError(f"failed to unmount rootfs: {error}") from error
