"""A mount as data: what a snapshotter answers and what a shim performs (containerd: core/mount)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: `options` are fstab words; `target` is a path below the mount point, or empty."""

    type: str
    source: str
    options: tuple[str, ...] = ()
    target: str = ""
