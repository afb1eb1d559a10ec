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


def _single(mount: Mount, in_user_namespace: bool) -> Target:
    upper = _option(mount, "upperdir")
    if mount.type == "overlay" and upper and not in_user_namespace:
        return Target(
            root=upper,
            marks=True,
            lowers=tuple(_UNESCAPED_COLON.split(lower)) if (lower := _option(mount, "lowerdir")) else (),
            user_xattrs="userxattr" in mount.options,
        )
    if mount.type == "bind" and _PLAIN_BIND.issuperset(mount.options) and os.path.isdir(mount.source):
        return Target(root=mount.source)
    return Target(mounts=(mount,))


def _option(mount: Mount, key: str) -> str:
    """The value of the last `key=` among the options."""
    values = [word.partition("=")[2] for word in mount.options if word.startswith(f"{key}=")]
    return values[-1] if values else ""
