"""Root and state: whose they are, who else may reach in, and what is left of space."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from supervisor.doctor import tree
from supervisor.doctor.finding import Check, Finding, failure, note, ok, size, some, warning
from supervisor.doctor.place import Place
from supervisor.doctor.tree import nearest
from supervisor.kernel import features
from supervisor.kernel.usage import free_bytes

_THEME = "files"
_MEMORY = ("tmpfs", "ramfs")
_GROUP_WRITES, _OTHERS_WRITE, _LOOK, _PASS = 0o020, 0o002, 0o044, 0o011
_SCARCE, _NONE_LEFT = 1 << 30, 64 << 20
"""Free bytes below which the next pull may fail, and below which the store itself does."""
_SCARCE_STATE, _NO_STATE_LEFT = 16 << 20, 1 << 20
_SCARCE_INODES, _NO_INODES_LEFT = 20_000, 100
"""One image of a distribution with some software has ten thousand files."""


def checks(place: Place) -> list[Check]:
    """Of folders that need not be there yet."""
    return [
        Check(_THEME, "root", lambda: folder(place.root, _owner(place))),
        Check(_THEME, "state", lambda: folder(place.state, _owner(place))),
        Check(_THEME, "root's space", partial(space, place.root, _SCARCE, _NONE_LEFT)),
        Check(_THEME, "state's space", partial(space, place.state, _SCARCE_STATE, _NO_STATE_LEFT)),
        Check(_THEME, "inodes", partial(inodes, place.root)),
        Check(_THEME, "state's kind", lambda: kind_of_state(place.state)),
        Check(_THEME, "store", lambda: store(place)),
        Check(_THEME, "trash", lambda: trash(place)),
    ]


def _owner(place: Place) -> int:
    """Whose the daemon's files are to be: the daemon's, who is root unless one runs that is not."""
    pid = place.daemon()
    return os.stat(f"/proc/{pid}").st_uid if pid else 0


def folder(path: Path, owner: int) -> Finding:
    """Owned by the daemon's user, entered by others at most, and below folders of which the same holds."""
    above = [problem for one in path.parents if (problem := _open_to_others(one, owner))]
    if above:
        return failure(some(above), f"whoever may write there can replace {path}: chmod go-w, chown root")
    status = tree.status(path)
    if status is None:
        return ok(f"{path} is not there yet; the daemon makes it")
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        return failure(f"{path} is no folder", "move it away, or give the daemon another (--root, --state)")
    if status.st_uid != owner:
        return failure(
            f"{path} belongs to user {status.st_uid}, who can replace what is in it",
            f"chown {owner} {path}, after a look at what is in it",
        )
    if others_write(status):
        return failure(f"{path} has mode {mode:04o}: others may write to it", f"chmod 0711 {path}")
    if mode & _LOOK:
        return warning(f"{path} has mode {mode:04o}: others may look around in it", f"chmod 0711 {path}")
    if not mode & _PASS:
        return note(
            f"{path} has mode {mode:04o}: containers with shifted user ids cannot pass through it",
            f"chmod 0711 {path}, if there are such containers",
        )
    return ok(f"{path}, of user {status.st_uid}, mode {mode:04o}")


def others_write(status: os.stat_result) -> bool:
    """Whether others than the owner may write; root's own group is no other."""
    return bool(status.st_mode & _OTHERS_WRITE or (status.st_mode & _GROUP_WRITES and status.st_gid))


def _open_to_others(path: Path, owner: int) -> str:
    """What is wrong with a folder on the way; the sticky bit, as /tmp has it, protects what is in it."""
    status = tree.status(path)
    if status is None:
        return ""
    if status.st_uid not in (0, owner):
        return f"{path} belongs to user {status.st_uid}"
    if others_write(status) and not status.st_mode & stat.S_ISVTX:
        return f"others may write to {path}"
    return ""


def space(path: Path, scarce: int, none_left: int) -> Finding:
    """Bytes that are free on the filesystem of `path`."""
    there = nearest(path)
    facts = os.statvfs(there)
    free, whole = free_bytes(there), facts.f_blocks * facts.f_frsize
    told = f"{size(free)} of {size(whole)} free on {features.filesystem_type(there)}, at {there}"
    advice = "sctr gc plan shows what would go, sctr gc run removes it; or give it more room"
    if free < none_left:
        return failure(told, advice)
    return warning(told, advice) if free < scarce else ok(told)


def inodes(path: Path) -> Finding:
    """Files that can still be made: a filesystem can run out of them with bytes to spare."""
    there = nearest(path)
    facts = os.statvfs(there)
    if not facts.f_files:
        return ok(f"{features.filesystem_type(there)} makes them as they are needed")
    told = f"{facts.f_favail} of {facts.f_files} free, at {there}"
    advice = "remove images with many files (sctr gc plan), or make the filesystem with more inodes (mkfs -N)"
    if facts.f_favail < _NO_INODES_LEFT:
        return failure(told, advice)
    return warning(told, advice) if facts.f_favail < _SCARCE_INODES else ok(told)


def kind_of_state(path: Path) -> Finding:
    """Bundles and sockets are worth nothing after a reboot."""
    there = nearest(path)
    kind = features.filesystem_type(there)
    if kind in _MEMORY:
        return ok(f"{there} is on {kind}, and empty after a reboot")
    return note(
        f"{there} is on {kind}: what is left in it after a reboot is cleared up by the daemon's start"
    )


def store(place: Place) -> Finding | None:
    """The store's file: for its owner alone, since it has the environments of containers."""
    path = place.store
    status = tree.status(path)
    if status is None:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return failure(f"{path} has mode {mode:04o}: it tells others of secrets", f"chmod 0600 {path}*")
    return ok(f"{path}, mode {mode:04o}")


def trash(place: Place) -> Finding | None:
    """What was removed and not yet deleted."""
    left = list(_removed(place))
    if not left:
        return None
    if place.daemon():
        return ok(f"{len(left)} that a running daemon deletes: {some(left)}")
    return note(
        f"{len(left)} not yet deleted, and taking up space: {some(left)}", "the next start deletes them"
    )


def _removed(place: Place) -> Iterator[Path]:
    """Names in the trash of snapshots, and the hidden ones of bundles."""
    for driver in place.drivers:
        yield from tree.children(place.root / f"io.containerd.snapshotter.v1.{driver}" / "trash")
    for top in (place.settings.bundles, place.settings.works):
        yield from (path for path in tree.grandchildren(top) if path.name.startswith("."))
