"""Planned mounts performed one by one, and undone (containerd: core/mount/manager, loopback handler)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from supervisor.kernel import loop, mounts
from supervisor.kernel.mount_options import parse
from supervisor.kernel.mountinfo import MountEntry
from supervisor.model import instant
from supervisor.model.activation import ActiveMount
from supervisor.model.mount import Mount
from supervisor.mounts import mkdir, mkfs, template
from supervisor.mounts.plan import LOOP, Step

DEVICE = "device"
BACKING_SUFFIX = ".backing"
"""Ends the name of a link beside a device's that says what the device was given."""


def ready(step: Step, active: Sequence[ActiveMount], roots: Sequence[Path]) -> Mount:
    """The mount with its transforms applied; `active` are those in front of it that are mounted."""
    mount = replace(step.mount, type=step.type)
    for name in step.transforms:
        match name:
            case "format":
                mount = template.filled(mount, active)
            case "mkdir":
                mount = mkdir.apply(mount, roots)
            case "mkfs":
                mount = mkfs.apply(mount, roots)
    return mount


def perform(mount: Mount, point: Path) -> ActiveMount:
    """Mount on `point`, which is made; raises OSError and leaves nothing."""
    if mount.type == LOOP:
        return _attach(mount, point)
    point.mkdir(mode=0o700)
    try:
        mounts.mount_all([_apart(mount)], point)
    except BaseException:
        point.rmdir()
        raise
    return ActiveMount(mount, instant.now(), str(point))


def _apart(mount: Mount) -> Mount:
    """A bind that hears of its source's mounts, while its own unmounting is not told to the source."""
    parsed = parse(mount.options)
    if not parsed.bind or parsed.propagation:
        return mount
    return replace(mount, options=(*mount.options, "rslave"))


def _attach(mount: Mount, point: Path) -> ActiveMount:
    device, backing = loop.attach_lasting(
        mount.source, read_only="ro" in mount.options, direct="direct-io" in mount.options
    )
    try:
        _backing_link(point).symlink_to(backing)
        point.symlink_to(device)
    except BaseException:
        loop.detach(device, backing)
        raise
    return ActiveMount(mount, instant.now(), str(point), {DEVICE: device})


def undo_all(folder: Path) -> None:
    """Undo what was performed on points in `folder`, last first, and remove it; no such folder is fine.

    Raises OSError (EBUSY) at one in use. Nothing is removed recursively, so nothing of a mount can be.
    """
    with suppress(FileNotFoundError):
        points = [point for point in folder.iterdir() if point.suffix != BACKING_SUFFIX]
        for point in sorted(points, key=lambda point: int(point.name), reverse=True):
            _undo(point)
        for link in folder.iterdir():
            link.unlink()
        folder.rmdir()


def _undo(point: Path) -> None:
    if point.is_symlink():
        with suppress(FileNotFoundError):
            loop.detach(os.readlink(point), os.readlink(_backing_link(point)))
        point.unlink()
        return
    mounts.unmount_recursive(point)
    point.rmdir()


def holds(active: ActiveMount, table: Sequence[MountEntry]) -> bool:
    """Whether the mount is still there; `table` is what is mounted now."""
    if active.mount.type == LOOP:
        return _is_attached(Path(active.mount_point))
    point = os.path.realpath(active.mount_point)
    return any(entry.mount_point == point or entry.mount_point.startswith(f"{point}/") for entry in table)


def _is_attached(point: Path) -> bool:
    try:
        return loop.is_backed(os.readlink(point), os.readlink(_backing_link(point)))
    except OSError:
        return False


def _backing_link(point: Path) -> Path:
    return point.with_name(point.name + BACKING_SUFFIX)
