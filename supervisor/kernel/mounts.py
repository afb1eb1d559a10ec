"""Mounts performed and undone (containerd: core/mount, mount_linux.go).

A mount comes as data (`supervisor.model.mount.Mount`); this is the one place that performs it. What
was mounted half way is undone in reverse before the error leaves.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from supervisor.kernel import libc, loop, overlay_data, paths
from supervisor.kernel.apart import CLONE_NEWNS, apart
from supervisor.kernel.mount_options import (
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_REMOUNT,
    PER_MOUNT,
    Parsed,
    parse,
)
from supervisor.kernel.mountinfo import mounts_below
from supervisor.model.mount import Mount

_UMOUNT_NOFOLLOW = 8
_BUSY_ATTEMPTS = 50
_BUSY_PAUSE = 0.05  # seconds
_NOT_MOUNTED = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR)


def mount_all(mounts: Sequence[Mount], root: Path) -> None:
    """Perform `mounts` in order on `root`, each on its `target` below it; all of them or none."""
    done: list[Path] = []
    try:
        for mount in mounts:
            _mount_below(mount, root, done)
    except BaseException:
        for point in reversed(done):
            _unmount_top(point)
        raise


def _mount_below(mount: Mount, root: Path, done: list[Path]) -> None:
    """Resolve the target as chroot would: a link inside an image must not lead a mount to the host."""
    if not mount.target:
        _perform(mount, str(root), root, done)
        return
    with ExitStack() as stack:
        held = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, held)
        target = paths.open_in_root(held, mount.target, os.O_PATH)
        stack.callback(os.close, target)
        held_path = paths.descriptor_path(target)
        _perform(mount, held_path, Path(os.readlink(held_path)), done)


def _perform(mount: Mount, target: str, point: Path, done: list[Path]) -> None:
    parsed = parse(mount.options)
    try:
        _attach(mount, parsed, target)
        done.append(point)
        _finish(parsed, str(point))
    except OSError as error:
        # The place in the bundle says more to a reader than the descriptor that it was reached by.
        raise OSError(error.errno, error.strerror, str(point)) from error


def _attach(mount: Mount, parsed: Parsed, target: str) -> None:
    with ExitStack() as stack:
        source = mount.source
        if parsed.loop:
            device, source = loop.attach(source, read_only=parsed.read_only)
            stack.callback(os.close, device)
        if parsed.id_mapped:
            # Rare, and it imports what no shim otherwise needs in its memory.
            from supervisor.kernel import idmap

            idmap.mount_mapped(mount, parsed, target)
        elif parsed.bind:
            libc.mount(source, target, "", parsed.flags & (MS_BIND | MS_REC | MS_REMOUNT), "")
        elif mount.type == "overlay":
            overlay_data.mount_overlay(source, target, parsed.flags, parsed.data)
        else:
            libc.mount(source, target, mount.type, parsed.flags, ",".join(parsed.data))


def _finish(parsed: Parsed, target: str) -> None:
    """What takes calls of its own: flags on a bind, then propagation."""
    if parsed.bind and parsed.flags & PER_MOUNT:
        libc.mount("none", target, "", MS_BIND | MS_REMOUNT | _kept_flags(parsed, target), "")
    for flags in parsed.propagation:
        libc.mount("none", target, "", flags, "")


def _kept_flags(parsed: Parsed, target: str) -> int:
    """The flags to ask for, with those that the source's mount had: a remount drops what it does not name."""
    inherited = os.statvfs(target).f_flag & PER_MOUNT & ~parsed.cleared
    return (parsed.flags & PER_MOUNT) | inherited


def unmount(path: Path) -> None:
    """Take off everything that is mounted on `path` itself; nothing mounted, or no such path, is fine.

    Without MNT_DETACH: a busy mount is waited for a while and then an OSError (EBUSY), because a
    filesystem that is only hidden would be written to behind the next owner's back.
    """
    while _unmount_top(path):
        pass


def _unmount_top(path: Path) -> bool:
    """Take off the top mount of `path`; False when there was none."""
    for attempt in range(_BUSY_ATTEMPTS):
        try:
            libc.umount2(str(path), _UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in _NOT_MOUNTED:
                return False
            if error.errno != errno.EBUSY or attempt == _BUSY_ATTEMPTS - 1:
                raise
            time.sleep(_BUSY_PAUSE)
        else:
            return True
    return False


def unmount_recursive(root: Path) -> None:
    """Take off the mounts on `root` and below it, deepest first; `root` need not exist."""
    # The table is read again after each, because a mount may have hidden others by lying on top of them.
    while any(_unmount_top(Path(entry.mount_point)) for entry in mounts_below(root)):
        pass


@contextmanager
def mounted(mounts: Sequence[Mount], parent: Path) -> Iterator[Path]:
    """`mounts` on a fresh folder below `parent`, for as long as the `with` lasts."""
    point = parent / f"mount-{os.urandom(6).hex()}"
    point.mkdir(mode=0o700)
    try:
        mount_all(mounts, point)
        try:
            yield point
        finally:
            unmount_recursive(point)
    finally:
        # Never a recursive removal: if something is still mounted here, this fails and loses nothing.
        os.rmdir(point)


def in_private_namespace(action: Callable[[], None]) -> None:
    """Run `action` where its mounts are seen by nobody else, and gone when it ends, however it ends."""

    def run() -> None:
        libc.mount("none", "/", "", MS_REC | MS_PRIVATE, "")
        action()

    apart(CLONE_NEWNS, run)
