"""Which mounts the manager performs, and which it leaves to the caller (containerd: core/mount/manager).

A type like `format/mkdir/overlay` names transforms in front of the mount's own type. What a mount with a
transform builds on has to be mounted first, so everything in front of it is performed here; the mount
itself is only made ready, and whoever asked performs it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.errors import Unimplemented
from supervisor.model.mount import Mount

LOOP = "loop"
"""The type of a mount that is a loop device, not a filesystem: only the manager can make it."""

TRANSFORMS = frozenset(("format", "mkdir", "mkfs"))


@dataclass(frozen=True, slots=True)
class Step:
    """One mount: the transforms to apply, first to last, and the type that it has after them."""

    mount: Mount
    transforms: tuple[str, ...]
    type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Mounts that the manager performs, then those that it only makes ready."""

    performed: tuple[Step, ...]
    left: tuple[Step, ...]


def are_plain(mounts: Sequence[Mount]) -> bool:
    """Whether none of the mounts needs the manager."""
    return all(_needed(0, _step(mount)) < 0 for mount in mounts)


def plan(mounts: Sequence[Mount], *, temporary: bool) -> Plan:
    """Divide the mounts; a `temporary` activation performs them all.

    Raises Unimplemented when none of them needs the manager: clients then perform them as they are.
    """
    steps = [_step(mount) for mount in mounts]
    count = len(steps) if temporary else max(map(_needed, range(len(steps)), steps), default=-1)
    if count < 0 or not steps:
        raise Unimplemented("none of these mounts needs the mount manager; perform them as they are")
    return Plan(tuple(steps[:count]), tuple(steps[count:]))


def _step(mount: Mount) -> Step:
    transforms: list[str] = []
    rest = mount.type
    while (parts := rest.partition("/"))[1] and parts[0] in TRANSFORMS:
        transforms.append(parts[0])
        rest = parts[2]
    return Step(mount, tuple(transforms), rest)


def _needed(index: int, step: Step) -> int:
    """How many mounts must be performed for this one's sake, -1 for a plain one."""
    if step.type == LOOP:
        return index + 1
    return index if step.transforms else -1
