"""Entries made into files (containerd: pkg/archive, applyNaive). Runs in the worker, in its own root.

Every path is absolute and without links: it is resolved here, component by component, as chroot
resolves it, and what is missing is made. The process is chrooted into the layer, so that even a
mistake here cannot reach a file outside of it.
"""

from __future__ import annotations

import errno
import os
import stat

from supervisor.diff import whiteout
from supervisor.diff.entry import Entry, Kind
from supervisor.diff.hiding import Hiding
from supervisor.diff.limits import Limits
from supervisor.diff.removal import remove
from supervisor.diff.tar_reader import TarReader
from supervisor.errors import SupervisorError

MAX_PATH_BYTES = 4095
MAX_LINKS = 255
MAX_KNOWN_DIRECTORIES = 10_000

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LATEST = (1 << 63) - 1
_LARGEST_ID = 0xFFFF_FFFE
_LARGEST_MAJOR, _LARGEST_MINOR = 0xFFF, 0xF_FFFF
_DEFAULT_MODE = 0o755
# What a filesystem, or the confinement, has no way to keep: dropped, as containerd drops it.
_XATTR_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM)
_XATTR_REFUSED = ("trusted.", "security.")
_XATTR_EXCEPT = "security.capability"


class Unpacker:
    """Makes the tree that an archive describes, below the root of this process."""

    def __init__(self, hiding: Hiding, limits: Limits, *, drop_xattrs: tuple[str, ...] = ()) -> None:
        self._hiding = hiding
        self._limits = limits
        self._made = 0
        self._drop_xattrs = (*_XATTR_REFUSED, *drop_xattrs)
        self._known: dict[tuple[bytes, ...], bytes] = {}
        self._directory_times: dict[bytes, tuple[int, int]] = {}
        self.implied: dict[bytes, None] = {}

    def unpack(self, archive: TarReader) -> None:
        """Make every entry of `archive`, and set the times of its directories at the end."""
        for entry in archive:
            self._count()
            self._limits.check_size(entry.shown(), entry.size)
            try:
                self._one(entry, archive)
            except OSError as error:
                raise SupervisorError(
                    f"unpack {entry.kind.value} {entry.shown()}: {error.strerror}"
                ) from error
        self._finish()

    def _count(self) -> None:
        """Take account of an entry, or of a directory that one implies."""
        self._made += 1
        self._limits.check_entries(self._made)

    def _one(self, entry: Entry, archive: TarReader) -> None:
        if entry.kind is Kind.GLOBAL:
            return
        *parents, base = cleaned(entry.name) or (b"",)
        if not base:
            return  # the root itself, which belongs to the snapshot
        if not base.startswith(whiteout.PREFIX):
            self._make(entry, self._directory(tuple(parents)) + b"/" + base, archive)
            return
        try:
            parent = self._directory(tuple(parents))
        except NotADirectoryError:
            return  # umoci whites out what was in a directory that it makes a file: it is hidden already
        self._known.clear()
        if whiteout.is_opaque(base):
            self._hiding.hide_below(parent)
        else:
            self._hiding.hide(parent + b"/" + whiteout.hidden(base), entry.uid, entry.gid)

    def _make(self, entry: Entry, path: bytes, archive: TarReader) -> None:
        match entry.kind:
            case Kind.FILE:
                self._make_file(entry, path, archive)
            case Kind.DIRECTORY:
                self._make_directory(entry, path)
            case _:
                if mode_of(path) is not None:
                    self._make_room(path)
                self._make_special(entry, path)
                self._describe(entry, path, stat.S_ISLNK(os.lstat(path).st_mode))
        self._hiding.made(path)

    def _make_file(self, entry: Entry, path: bytes, archive: TarReader) -> None:
        if mode_of(path) is not None:
            self._make_room(path)
        descriptor = os.open(path, _NEW_FILE, entry.mode & 0o777)
        try:
            write_data(descriptor, entry, archive)
            self._describe_open(entry, descriptor)
        finally:
            os.close(descriptor)

    def _describe_open(self, entry: Entry, descriptor: int) -> None:
        """As `_describe`, but for what is right already: each change is one to be written to the disk."""
        made = os.fstat(descriptor)
        if owner(entry) != (made.st_uid, made.st_gid):
            os.fchown(descriptor, *owner(entry))
        self._set_xattrs(entry, descriptor, follow=True)
        if entry.mode & 0o7777 != stat.S_IMODE(made.st_mode):
            os.fchmod(descriptor, entry.mode & 0o7777)
        os.utime(descriptor, ns=times(entry))

    def _make_directory(self, entry: Entry, path: bytes) -> None:
        found = mode_of(path)
        if found is None:
            os.mkdir(path, 0o700)
        elif not stat.S_ISDIR(found):
            self._make_room(path)
            os.mkdir(path, 0o700)
            self._hiding.replaced(path)
        os.lchown(path, *owner(entry))
        self._set_xattrs(entry, path, follow=False)
        os.chmod(path, entry.mode & 0o7777)
        self._directory_times[path] = times(entry)
        self.implied.pop(path, None)

    def _make_special(self, entry: Entry, path: bytes) -> None:
        match entry.kind:
            case Kind.SYMLINK:
                os.symlink(entry.link, path)
            case Kind.HARDLINK:
                os.link(self._link_target(entry), path, follow_symlinks=False)
            case Kind.FIFO:
                os.mkfifo(path, 0o600)
            case Kind.CHARACTER | Kind.BLOCK:
                kind = stat.S_IFCHR if entry.kind is Kind.CHARACTER else stat.S_IFBLK
                os.mknod(path, kind | 0o600, device(entry))
            case _:
                raise SupervisorError(f"unpack {entry.shown()}: its type is none that a layer can hold")

    def _link_target(self, entry: Entry) -> bytes:
        """The name that a hard link gets a second name for; a link itself is not followed."""
        *parents, base = cleaned(entry.link) or (b"",)
        return self._directory(tuple(parents)) + b"/" + base

    def _make_room(self, path: bytes) -> None:
        """Remove what is there: only a directory is merged with an entry of its name."""
        remove(path)
        self._known.clear()
        self._directory_times.pop(path, None)

    def _describe(self, entry: Entry, path: bytes, is_link: bool) -> None:
        """Owner first, since a change of owner takes set-id bits and file capabilities away."""
        os.lchown(path, *owner(entry))
        self._set_xattrs(entry, path, follow=False)
        if not is_link:
            os.chmod(path, entry.mode & 0o7777)
        os.utime(path, ns=times(entry), follow_symlinks=False)

    def _set_xattrs(self, entry: Entry, target: bytes | int, *, follow: bool) -> None:
        for key, value in entry.xattrs.items():
            if key.startswith(self._drop_xattrs) and key != _XATTR_EXCEPT:
                continue
            try:
                os.setxattr(target, os.fsencode(key), value, follow_symlinks=follow)
            except OSError as error:
                if error.errno not in _XATTR_UNSUPPORTED:
                    raise

    def _directory(self, parts: tuple[bytes, ...]) -> bytes:
        """The path, without links, of the directory that `parts` lead to; missing ones are made."""
        found = self._known.get(parts)
        if found is None:
            found = self._walk(parts)
            if len(self._known) >= MAX_KNOWN_DIRECTORIES:
                self._known.clear()
            self._known[parts] = found
        return found

    def _walk(self, parts: tuple[bytes, ...]) -> bytes:
        path, links = b"", 0
        ahead = list(reversed(parts))
        while ahead:
            part = ahead.pop()
            if part == b"..":
                path = path.rpartition(b"/")[0]
                continue
            step = path + b"/" + part
            mode = mode_of(step)
            if mode is not None and stat.S_ISLNK(mode):
                links += 1
                target = os.readlink(step)
                path = b"" if target.startswith(b"/") else path
                ahead += reversed([part for part in target.split(b"/") if part not in (b"", b".")])
            else:
                self._enter(step, mode)
                path = step
            if links > MAX_LINKS or len(path) > MAX_PATH_BYTES:
                raise OSError(
                    errno.ELOOP if links > MAX_LINKS else errno.ENAMETOOLONG, "too many links, or too deep"
                )
        return path

    def _enter(self, path: bytes, mode: int | None) -> None:
        if mode is None:
            self._count()
            os.mkdir(path, _DEFAULT_MODE)
            os.chmod(path, _DEFAULT_MODE)
            self.implied[path] = None
            self._hiding.made(path)
        elif not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, "a directory on the way is a file")

    def _finish(self) -> None:
        """Directories last, because each file made in one changes its time."""
        for path, both in self._directory_times.items():
            mode = mode_of(path)
            if mode is not None and stat.S_ISDIR(mode):
                os.utime(path, ns=both, follow_symlinks=False)


def cleaned(name: bytes) -> tuple[bytes, ...]:
    """The components of `name` with `.` and `..` worked out; `..` at the top stays at the top."""
    if len(name) > MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a path of {len(name)} bytes is too long")
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path has a NUL byte")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


def mode_of(path: bytes) -> int | None:
    """The mode of what is at `path` itself; None when nothing is."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def owner(entry: Entry) -> tuple[int, int]:
    """User and group of an entry; raises SupervisorError when the kernel has no such number."""
    for number in (entry.uid, entry.gid):
        if not 0 <= number <= _LARGEST_ID:
            raise SupervisorError(
                f"unpack {entry.shown()}: owner {number} is not between 0 and {_LARGEST_ID}"
            )
    return entry.uid, entry.gid


def device(entry: Entry) -> int:
    """The number of a device; raises SupervisorError when the kernel has no such one."""
    if not (0 <= entry.major <= _LARGEST_MAJOR and 0 <= entry.minor <= _LARGEST_MINOR):
        raise SupervisorError(
            f"unpack {entry.shown()}: the device {entry.major}:{entry.minor} is not between 0:0 and"
            f" {_LARGEST_MAJOR}:{_LARGEST_MINOR}"
        )
    return os.makedev(entry.major, entry.minor)


def times(entry: Entry) -> tuple[int, int]:
    """Access and modification time, neither before 1970, the first never before the second."""
    return clamped(max(entry.atime, entry.mtime)), clamped(entry.mtime)


def clamped(nanoseconds: int) -> int:
    """A time that the kernel can set."""
    return min(max(nanoseconds, 0), _LATEST)


def write_data(descriptor: int, entry: Entry, archive: TarReader) -> None:
    """Write a file's bytes; holes stay holes."""
    position = 0
    for offset, piece in archive.data():
        if offset != position:
            os.lseek(descriptor, offset, os.SEEK_SET)
        _write_all(descriptor, piece)
        position = offset + len(piece)
    if position != entry.size:
        os.ftruncate(descriptor, entry.size)


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
