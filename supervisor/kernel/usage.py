"""Disk usage of a tree (containerd: continuity/fs, DiskUsage): allocated bytes, each inode counted once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.kernel import paths

_BLOCK_BYTES = 512  # st_blocks has this unit, whatever the filesystem's block size
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LONG_PATH = 1024  # well below what the kernel takes in one call
_MAX_ANCHORS = 100
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Allocated bytes and number of inodes."""

    size: int = 0
    inodes: int = 0


def free_bytes(folder: Path) -> int:
    """What an unprivileged process could still write to the filesystem of `folder`, in bytes."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def disk_usage(root: Path) -> DiskUsage:
    """Measure `root` with all below it; what vanishes while measuring is not counted.

    The tree may be a running container's: no link in it is followed, also not one put there meanwhile.
    """
    seen: set[tuple[int, int]] = set()
    size = 0
    for status in _statuses(root):
        identity = (status.st_dev, status.st_ino)
        if identity not in seen:
            seen.add(identity)
            size += status.st_blocks * _BLOCK_BYTES
    return DiskUsage(size, len(seen))


def _statuses(root: Path) -> Iterator[os.stat_result]:
    folder = os.open(root, _FOLDER)
    try:
        yield os.fstat(folder)
        yield from _below(folder, str(root), _MAX_ANCHORS)
    finally:
        os.close(folder)


def _below(anchor: int, name: str, anchors: int) -> Iterator[os.stat_result]:
    """All below the folder `anchor`; where paths from there get too long, from a deeper anchor on."""
    if not anchors:
        raise OSError(errno.ENAMETOOLONG, "the folders in it are nested too deeply to be measured", name)
    pending = ["."]
    while pending:
        path = pending.pop()
        with _vanishing(), _opened(anchor, path) as folder:
            if len(path) > _LONG_PATH:
                yield from _below(folder, name, anchors - 1)
            else:
                yield from _entries(folder, path, pending)


def _entries(folder: int, path: str, pending: list[str]) -> Iterator[os.stat_result]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/{entry.name}")


@contextmanager
def _vanishing() -> Iterator[None]:
    """Pass over a folder that is gone by now, or has become something else."""
    try:
        yield
    except OSError as error:
        if error.errno not in _VANISHED:
            raise


@contextmanager
def _opened(anchor: int, path: str) -> Iterator[int]:
    folder = paths.openat2(anchor, path, _FOLDER, 0, paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS)
    try:
        yield folder
    finally:
        os.close(folder)
