"""What makes one tree different from another (containerd: continuity/fs, diff.go). Contract 9.2.

Changes come in the order of paths, where the slash is the lowest character: a directory, then what is
in it, then its next neighbour.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

CAPABILITY = "security.capability"
_COMPARE_BYTES = 256 << 10
_SECOND = 1_000_000_000

Listing = dict[bytes, os.stat_result]


class Kind(enum.Enum):
    """How a path of the one tree stands to the other."""

    ADDED = "added"
    MODIFIED = "modified"
    REMOVED = "removed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """A path below the trees' roots; `status` is that of the right tree, None when it is removed there.

    Of what is unchanged only files with several names are told, since one of the others may be new.
    """

    kind: Kind
    path: bytes
    status: os.stat_result | None


def changes(left: bytes | None, right: bytes) -> Iterator[Change]:
    """The changes that make the tree `left` (None: nothing) the tree `right`."""
    return _Trees(left or b"", right).below(b"", in_left=left is not None)


@dataclass(frozen=True, slots=True)
class _Trees:
    left: bytes
    right: bytes

    def below(self, folder: bytes, *, in_left: bool) -> Iterator[Change]:
        """The changes below a directory that the right tree has."""
        before = _listing(self.left + folder) if in_left else {}
        after = _listing(self.right + folder)
        for name in sorted(before.keys() | after.keys()):
            path = folder + b"/" + name
            old, new = before.get(name), after.get(name)
            if new is None:
                yield Change(Kind.REMOVED, path, None)
                continue
            kind = self._kind(path, old, new)
            if kind is not Kind.UNCHANGED or (new.st_nlink > 1 and not stat.S_ISDIR(new.st_mode)):
                yield Change(kind, path, new)
            if stat.S_ISDIR(new.st_mode):
                yield from self.below(path, in_left=old is not None and stat.S_ISDIR(old.st_mode))

    def _kind(self, path: bytes, old: os.stat_result | None, new: os.stat_result) -> Kind:
        if old is None:
            return Kind.ADDED
        same = os.path.samestat(old, new) or self._equal(path, old, new)
        return Kind.UNCHANGED if same else Kind.MODIFIED

    def _equal(self, path: bytes, old: os.stat_result, new: os.stat_result) -> bool:
        if _identity(old) != _identity(new):
            return False
        left, right = self.left + path, self.right + path
        if capability(left) != capability(right):
            return False
        return stat.S_ISDIR(new.st_mode) or _same_content(left, right, old, new)


def capability(path: bytes) -> bytes | None:
    """The file capabilities of `path`, the one xattr that a layer keeps; None for none."""
    try:
        return os.getxattr(path, CAPABILITY, follow_symlinks=False)
    except OSError:
        return None  # the kernel has one errno for "none" and another for each kind of "never any"


def _listing(path: bytes) -> Listing:
    with os.scandir(path) as found:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in found}


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_rdev


def _same_content(left: bytes, right: bytes, old: os.stat_result, new: os.stat_result) -> bool:
    """By size and time; where the times lack their fraction, which layers cut off, by the bytes."""
    if old.st_size != new.st_size or old.st_mtime_ns // _SECOND != new.st_mtime_ns // _SECOND:
        return False
    if old.st_mtime_ns % _SECOND or new.st_mtime_ns % _SECOND:
        return old.st_mtime_ns == new.st_mtime_ns
    if stat.S_ISLNK(new.st_mode):
        return os.readlink(left) == os.readlink(right)
    return not stat.S_ISREG(new.st_mode) or _same_bytes(left, right)


def _same_bytes(left: bytes, right: bytes) -> bool:
    with open(left, "rb", buffering=0) as one, open(right, "rb", buffering=0) as other:
        while True:
            piece = one.read(_COMPARE_BYTES)
            if piece != other.read(_COMPARE_BYTES):
                return False
            if not piece:
                return True
