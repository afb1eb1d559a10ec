"""Disk usage of a tree (containerd: continuity/fs, DiskUsage): allocated bytes, each inode counted once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BLOCK_BYTES = 512  # st_blocks has this unit, whatever the filesystem's block size


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Allocated bytes and number of inodes."""

    size: int = 0
    inodes: int = 0


def disk_usage(root: Path) -> DiskUsage:
    """Measure `root` with all below it; what vanishes while measuring is not counted."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for status in _statuses(root):
        identity = (status.st_dev, status.st_ino)
        if identity not in seen:
            seen.add(identity)
            size += status.st_blocks * _BLOCK_BYTES
    return DiskUsage(size, len(seen))


def _statuses(root: Path) -> Iterator[os.stat_result]:
    yield os.lstat(root)
    pending = [str(root)]
    while pending:
        with suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
