"""Where a layer goes, worked out from its snapshot's mounts (containerd: core/diff/apply, apply_linux.go).

An overlay's upper directory is written to directly, with the kernel's own marks for what is hidden;
so the layers below need not be mounted. A plain bind is its source. All else is mounted first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.errors import InvalidArgument
from supervisor.model.mount import Mount

_PLAIN_BIND = frozenset(("rw", "bind", "rbind"))
_UNESCAPED_COLON = re.compile(r"(?<!\\):")


@dataclass(frozen=True, slots=True)
class Target:
    """A tree to unpack into: `root` as it stands if given, else what `mounts` show when mounted.

    `marks`: hide by overlay's marks instead of by removal. `lowers` are the layers below, nearest first.
    """

    root: str = ""
    mounts: tuple[Mount, ...] = ()
    marks: bool = False
    lowers: tuple[str, ...] = ()
    user_xattrs: bool = False


def plan(mounts: Sequence[Mount], *, in_user_namespace: bool) -> Target:
    """How to unpack into the tree that `mounts` describe; raises InvalidArgument when there are none."""
    if not mounts:
        raise InvalidArgument("no mounts were given: a layer is applied to the mounts of an active snapshot")
    if len(mounts) == 1 and not mounts[0].target:
        return _single(mounts[0], in_user_namespace)
    return Target(mounts=tuple(mounts))


def apart(mounts: Sequence[Mount]) -> Target:
    """Where a layer of an overlay goes whose lower ones are not known yet: the one folder of `mounts`.

    Raises InvalidArgument unless they are a writable bind of a folder, as a snapshot without parent has.
    """
    if len(mounts) != 1 or mounts[0].type != "bind" or not _PLAIN_BIND.issuperset(mounts[0].options):
        raise InvalidArgument(f"a layer apart from its parents needs one plain bind, and not {mounts}")
    return Target(root=mounts[0].source, marks=True)


def lowers(mounts: Sequence[Mount]) -> tuple[str, ...]:
    """The folders of the layers that the read-only `mounts` of a snapshot show, the uppermost first."""
    (mount,) = mounts
    return _lowers(mount) if mount.type == "overlay" else (mount.source,)


def _single(mount: Mount, in_user_namespace: bool) -> Target:
    upper = _option(mount, "upperdir")
    if mount.type == "overlay" and upper and not in_user_namespace:
        return Target(
            root=upper,
            marks=True,
            lowers=_lowers(mount),
            user_xattrs="userxattr" in mount.options,
        )
    if mount.type == "bind" and _PLAIN_BIND.issuperset(mount.options) and os.path.isdir(mount.source):
        return Target(root=mount.source)
    return Target(mounts=(mount,))


def _lowers(mount: Mount) -> tuple[str, ...]:
    lower = _option(mount, "lowerdir")
    return tuple(_UNESCAPED_COLON.split(lower)) if lower else ()


def _option(mount: Mount, key: str) -> str:
    """The value of the last `key=` among the options."""
    values = [word.partition("=")[2] for word in mount.options if word.startswith(f"{key}=")]
    return values[-1] if values else ""
