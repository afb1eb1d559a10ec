"""Whole trees copied and removed without following anything inside them (containerd: continuity/fs, CopyDir).

A container made these trees: they may be deeper than the longest path and hold any kind of file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supervisor.kernel.mountinfo import mounts_below

_FICLONE = 0x40049409
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)
_NO_MORE_DATA = errno.ENXIO


def remove_contents(folder: Path) -> None:
    """Empty `folder`, whatever the depth of what it holds.

    Folders found are first moved up beside their siblings, so neither a long path, nor a descriptor
    per level, nor recursion is needed. Refuses while anything is mounted inside.
    """
    if busy := mounts_below(folder):
        raise OSError(errno.EBUSY, "not emptied, a filesystem is mounted inside", busy[0].mount_point)
    with _opened(folder) as top:
        serial = _first_free_serial(top)
        pending = os.listdir(top)
        while pending:
            name = pending.pop()
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                    moved = _flatten(top, name, serial)
                    serial += len(moved)
                    pending += moved
                    os.rmdir(name, dir_fd=top)
                else:
                    os.unlink(name, dir_fd=top)


def _first_free_serial(top: int) -> int:
    used = [int(name[1:]) for name in os.listdir(top) if name.startswith("~") and name[1:].isdigit()]
    return max(used, default=0) + 1


def _flatten(top: int, name: str, serial: int) -> list[str]:
    """Empty one folder: files go, folders in it are moved to `top`; answers their new names."""
    moved: list[str] = []
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    moved.append(f"~{serial + len(moved)}")
                    os.rename(entry.name, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
                else:
                    os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)
    return moved


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy_tree(source: Path, destination: Path) -> None:
    """Copy what is in `source`, and its own attributes, to the existing folder `destination`.

    Owners, modes, times, hard links, devices and holes are kept; an extended attribute that the
    destination refuses is left out, as containerd does.
    """
    linked: dict[tuple[int, int], str] = {}
    folders = [(str(source), str(destination))]
    for origin, copy in folders:  # grows while it is walked
        with os.scandir(origin) as entries:
            for entry in entries:
                target = os.path.join(copy, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(target)
                    folders.append((entry.path, target))
                else:
                    _copy_file(entry.path, target, linked)
    # Deepest first and at the end, because making an entry in a folder moves the folder's times.
    for origin, copy in reversed(folders):
        copy_attributes(origin, copy)


def _copy_file(origin: str, target: str, linked: dict[tuple[int, int], str]) -> None:
    status = os.lstat(origin)
    identity = (status.st_dev, status.st_ino)
    if status.st_nlink > 1 and identity in linked:
        os.link(linked[identity], target, follow_symlinks=False)
        return
    linked[identity] = target
    if stat.S_ISREG(status.st_mode):
        _copy_bytes(origin, target)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(origin), target)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    copy_attributes(origin, target)


def _copy_bytes(origin: str, target: str) -> None:
    with open(origin, "rb") as source, open(target, "xb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            _copy_segments(source.fileno(), copy.fileno())


def _copy_segments(source: int, copy: int) -> None:
    """Copy the data of a file and leave its holes."""
    end = os.fstat(source).st_size
    os.ftruncate(copy, end)
    start = 0
    while start < end:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == _NO_MORE_DATA:
                return
            raise
        stop = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(copy, start, os.SEEK_SET)
        while start < stop:
            sent = os.sendfile(copy, source, start, stop - start)
            if sent == 0:  # the file became shorter meanwhile
                return
            start += sent


def copy_attributes(origin: str, target: str) -> None:
    """Give `target` the owner, mode, extended attributes and times of `origin`; links are not followed."""
    status = os.lstat(origin)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(origin, follow_symlinks=False):
        with suppress(OSError):
            os.setxattr(target, name, os.getxattr(origin, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
