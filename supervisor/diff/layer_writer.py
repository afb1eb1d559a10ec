"""Changes made into a layer (containerd: pkg/archive, ChangeWriter). Contract 9.2."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from supervisor.diff import changes, tar_writer, whiteout
from supervisor.diff.changes import Change
from supervisor.diff.entry import Entry, Kind
from supervisor.diff.tar_header import SECOND
from supervisor.errors import SupervisorError

PIECE_BYTES = 256 << 10

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}

Inode = tuple[int, int]


class LayerWriter:
    """Writes entries for the changes it is given, in their order, each behind its directories."""

    def __init__(self, root: bytes, write: Callable[[bytes], None], latest: int | None) -> None:
        """Read files below `root`; no time is told that is later than `latest` (nanoseconds)."""
        self._root = root
        self._write = write
        self._latest = latest
        self._directories: set[bytes] = {b""}
        self._names: dict[Inode, bytes] = {}
        self._waiting: dict[Inode, list[bytes]] = {}

    def take(self, change: Change) -> None:
        """Write what one change takes."""
        if change.status is None:
            self._parents(change.path)
            parent, _, name = change.path.rpartition(b"/")
            self._entry(Entry(Kind.FILE, (parent + b"/" + whiteout.PREFIX + name).lstrip(b"/")))
        elif stat.S_IFMT(change.status.st_mode) in _KINDS:  # a socket is not of a layer
            self._file(change, change.status)

    def finish(self) -> None:
        """End the archive."""
        self._write(tar_writer.END)

    def _file(self, change: Change, status: os.stat_result) -> None:
        """A changed file with all its bytes, or as a further name of one that is written already.

        A name that is unchanged waits: if its file gets a new name, both must be told as one.
        """
        unchanged = change.kind is changes.Kind.UNCHANGED
        if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
            self._whole(change.path, status)
            return
        inode = (status.st_dev, status.st_ino)
        if inode in self._names:
            self._link(change.path, self._names[inode], status)
        elif unchanged:
            self._waiting.setdefault(inode, []).append(change.path)
        else:
            self._names[inode] = change.path
            self._whole(change.path, status)
            for path in self._waiting.pop(inode, []):
                self._link(path, change.path, status)

    def _whole(self, path: bytes, status: os.stat_result) -> None:
        self._parents(path)
        if stat.S_ISDIR(status.st_mode):
            if path in self._directories:
                return
            self._directories.add(path)
        entry = self._described(path, status)
        if entry.kind is Kind.FILE and entry.size:
            self._data(entry, path)
        else:
            self._entry(entry)

    def _link(self, path: bytes, target: bytes, status: os.stat_result) -> None:
        self._parents(path)
        entry = self._described(path, status)
        entry.kind, entry.link, entry.size = Kind.HARDLINK, target.lstrip(b"/"), 0
        entry.xattrs = {}
        self._entry(entry)

    def _parents(self, path: bytes) -> None:
        """The directories above, from the top down, each once with its own metadata."""
        parent = path.rpartition(b"/")[0]
        if parent not in self._directories:
            self._whole(parent, os.lstat(self._root + parent))

    def _described(self, path: bytes, status: os.stat_result) -> Entry:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        mtime = status.st_mtime_ns // SECOND * SECOND
        entry = Entry(
            kind=kind,
            name=path.lstrip(b"/") + (b"/" if kind is Kind.DIRECTORY else b""),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime=mtime if self._latest is None else min(mtime, self._latest),
        )
        if kind is Kind.FILE:
            entry.size = status.st_size
        elif kind is Kind.SYMLINK:
            entry.link = os.readlink(self._root + path)
        elif kind in (Kind.CHARACTER, Kind.BLOCK):
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        kept = changes.capability(self._root + path)
        if kept is not None:
            entry.xattrs[changes.CAPABILITY] = kept
        return entry

    def _entry(self, entry: Entry) -> None:
        self._write(tar_writer.header(entry))

    def _data(self, entry: Entry, path: bytes) -> None:
        """The header is written once the file is open, so that an unreadable one is told before it."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(self._root + path, flags), "rb", buffering=0) as file:
            self._entry(entry)
            left = entry.size
            while left:
                piece = file.read(min(left, PIECE_BYTES))
                if not piece:
                    raise SupervisorError(f"{entry.shown()} became shorter while it was read")
                self._write(piece)
                left -= len(piece)
        self._write(tar_writer.padding(entry.size))
