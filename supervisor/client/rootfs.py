"""Reading a file of a container's root without mounting it, and without ever leaving it.

The mounts that a snapshotter answers say which folders the root is made of. They are searched from
the top; no symbolic link is followed, since an image decides where its links point.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import PurePosixPath

from supervisor.errors import FailedPrecondition, PermissionDenied, ResourceExhausted
from supervisor.model.mount import Mount

MAX_FILE_BYTES = 1 << 20
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def read_file(mounts: Sequence[Mount], path: str) -> bytes:
    """The content of the regular file `path` in the root that `mounts` make; empty when there is none.

    Raises FailedPrecondition where a link, or a kind of mount not known here, is in the way.
    """
    parts = PurePosixPath(path).parts[1:]
    for folder in _folders(mounts):
        with ExitStack() as held:
            found = _look(folder, parts, held)
        if found is not None:
            return found
    return b""


def _folders(mounts: Sequence[Mount]) -> list[str]:
    """The folders that are stacked, the topmost first."""
    if len(mounts) == 1 and mounts[0].type == "bind":
        return [mounts[0].source]
    if len(mounts) == 1 and mounts[0].type == "overlay":
        words = dict(option.partition("=")[::2] for option in mounts[0].options)
        return [*filter(None, [words.get("upperdir")]), *words.get("lowerdir", "").split(":")]
    kinds = ", ".join(mount.type for mount in mounts) or "nothing"
    raise FailedPrecondition(f"look into a root made of {kinds}: only bind and overlay are known here")


def _look(folder: str, parts: Sequence[str], held: ExitStack) -> bytes | None:
    """What one folder says: the content, empty for "deleted here", None for "look below"."""
    try:
        here = _open(folder, os.O_DIRECTORY, held)
    except PermissionError:
        raise PermissionDenied(f"look into {folder}: be root, or give user:group in numbers") from None
    for part in parts[:-1]:
        status = _status(here, part)
        if status is None:
            return None
        if not stat.S_ISDIR(status.st_mode):
            return _obstacle(status, part)
        here = _open(part, os.O_DIRECTORY, held, here)
        if _is_opaque(here):
            return _content(here, parts[-1], held) or b""
    return _content(here, parts[-1], held)


def _content(here: int, name: str, held: ExitStack) -> bytes | None:
    status = _status(here, name)
    if status is None:
        return None
    if not stat.S_ISREG(status.st_mode):
        return _obstacle(status, name)
    data = os.read(_open(name, 0, held, here), MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ResourceExhausted(f"read {name} of the container's root: more than {MAX_FILE_BYTES} bytes")
    return data


def _obstacle(status: os.stat_result, name: str) -> bytes:
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return b""  # overlay's mark for "deleted here"
    raise FailedPrecondition(f"{name} in the container's root is no plain file; give user:group in numbers")


def _status(here: int, name: str) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=here, follow_symlinks=False)
    return None


def _open(name: str, flags: int, held: ExitStack, here: int | None = None) -> int:
    # The file may have become something else since it was looked at: no link, and no waiting for a fifo.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=here)
    held.callback(os.close, fd)
    return fd


def _is_opaque(here: int) -> bool:
    for name in _OPAQUE:
        with suppress(OSError):
            return os.getxattr(here, name) == b"y"
    return False
