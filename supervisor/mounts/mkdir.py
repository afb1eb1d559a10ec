"""The transform `mkdir/`: folders that a mount needs are made before it (containerd: core/mount/manager)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from supervisor.errors import FailedPrecondition, InvalidArgument
from supervisor.model.mount import Mount
from supervisor.mounts.roots import parent_of

PREFIX = "X-containerd.mkdir."
DEFAULT_MODE = 0o700

_VALUE = re.compile(r"path=([^:]+)(?::([0-7]{1,4})(?::(\d{1,10}):(\d{1,10}))?)?")
_MAX_ID = 2**32 - 2  # the last one means "leave it" to chown


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    mode: int
    uid: int
    gid: int


def apply(mount: Mount, roots: Sequence[Path]) -> Mount:
    """Make the folders that the mount's options name; answers the mount without these options.

    A folder that is there must be as it was asked for. Raises InvalidArgument for an option that cannot be
    read or a path outside of `roots`, FailedPrecondition for what is there and differs, OSError.
    """
    for option in mount.options:
        if option.startswith(PREFIX):
            _ensure(_parsed(option), roots)
    return replace(mount, options=tuple(o for o in mount.options if not o.startswith(PREFIX)))


def _parsed(option: str) -> _Folder:
    match = _VALUE.fullmatch(option.removeprefix(PREFIX))
    if match is None:
        raise InvalidArgument(f"mount option {option!r} must be {PREFIX}path=PATH[:MODE[:UID:GID]]")
    path, mode, uid, gid = match.groups()
    folder = _Folder(
        path,
        int(mode, 8) if mode else DEFAULT_MODE,
        int(uid) if uid else os.geteuid(),
        int(gid) if gid else os.getegid(),
    )
    if folder.mode > 0o777 or max(folder.uid, folder.gid) > _MAX_ID:
        raise InvalidArgument(f"mount option {option!r}: mode or owner is out of range")
    return folder


def _ensure(folder: _Folder, roots: Sequence[Path]) -> None:
    with parent_of(folder.path, roots) as (parent, name):
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            _check(folder, os.stat(name, dir_fd=parent, follow_symlinks=False))
            return
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchown(made, folder.uid, folder.gid)
            os.fchmod(made, folder.mode)
        finally:
            os.close(made)


def _check(folder: _Folder, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise FailedPrecondition(f"mkdir of {folder.path!r} for a mount: it exists and is no folder")
    have = (stat.S_IMODE(found.st_mode) & 0o777, found.st_uid, found.st_gid)
    if have != (folder.mode, folder.uid, folder.gid):
        raise FailedPrecondition(
            f"mkdir of {folder.path!r} for a mount: it has mode {have[0]:o} and owner {have[1]}:{have[2]}"
        )
