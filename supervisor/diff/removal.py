"""Removal of trees by the unpacking worker: names as bytes, links never followed, no recursion."""

from __future__ import annotations

import os
from collections.abc import Callable


def remove(path: bytes) -> None:
    """Remove what is at `path`, with all that is below it; nothing there is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # A directory: Linux says EISDIR, POSIX also allows EPERM.
        remove_below(path, keep=lambda _: False)
        os.rmdir(path)


def remove_below(path: bytes, keep: Callable[[bytes], bool]) -> None:
    """Empty the directory `path`, but for what `keep` says of; a kept directory is itself gone through."""
    doomed: list[bytes] = []
    ahead = [path]
    while ahead:
        for found in _listing(ahead.pop()):
            kept = keep(found.path)
            if found.is_dir(follow_symlinks=False):
                ahead.append(found.path)
                if not kept:
                    doomed.append(found.path)
            elif not kept:
                os.unlink(found.path)
    for directory in reversed(doomed):
        os.rmdir(directory)


def _listing(path: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(path) as found:
        return list(found)
