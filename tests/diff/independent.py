"""What a layer should become, by Python's own tarfile, gzip and a plain model of a tree.

Where the dialects of tar leave room (tarfile and Go's reader do not agree on all of it), or where a path
leads through a link, nothing is said: None.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import stat
import tarfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

MAX_BYTES = 8 << 20
MAX_PATH = 1000
_GNU, _POSIX = b"ustar  \0", b"ustar\x0000"


@dataclass(frozen=True, slots=True)
class Node:
    """What is at a path. Mode, owner and time are None where the archive does not say."""

    kind: int
    data: bytes = b""
    device: int = 0
    mode: int | None = None
    owner: tuple[int, int] | None = None
    mtime: float | None = None


Tree = dict[bytes, Node]


def decompressed(blob: bytes) -> bytes | None:
    """The layer's tar; None when it is too large, or cannot be read."""
    try:
        if blob[:3] == b"\x1f\x8b\x08":
            with gzip.open(io.BytesIO(blob)) as file:
                plain = file.read(MAX_BYTES + 1)
        elif blob[:4] == b"\x28\xb5\x2f\xfd" or (blob[1:4] == b"\x2a\x4d\x18" and blob[0] >> 4 == 5):
            reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(blob), read_across_frames=True)
            plain = reader.read(MAX_BYTES + 1)
        else:
            plain = blob
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        return None
    return plain if len(plain) <= MAX_BYTES else None


def expected(data: bytes) -> Tree | None:
    """The tree that the archive `data` describes, without the root; None when that is not certain."""
    members = _members(data)
    if members is None:
        return None
    tree: Tree = {}
    for info, content in members:
        if not _add(tree, info, content):
            return None
    return tree


def found(root: Path) -> Tree:
    """The tree that is below `root`."""
    tree: Tree = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            tree[path[len(top) :]] = _seen(path)
    return tree


def differences(wanted: Tree, seen: Tree) -> list[str]:
    """What is in one tree and not, or not so, in the other."""
    told = [f"{path!r} should be there" for path in wanted.keys() - seen.keys()]
    told += [f"{path!r} should not be there" for path in seen.keys() - wanted.keys()]
    for path in wanted.keys() & seen.keys():
        if not _agrees(wanted[path], seen[path]):
            told.append(f"{path!r} is {seen[path]}, should be {wanted[path]}")
    return told


def _agrees(wanted: Node, seen: Node) -> bool:
    return (
        (wanted.kind, wanted.data, wanted.device) == (seen.kind, seen.data, seen.device)
        and wanted.mode in (None, seen.mode)
        and wanted.owner in (None, seen.owner)
        and (wanted.mtime is None or seen.mtime is None or abs(wanted.mtime - seen.mtime) <= 1)
    )


def _seen(path: bytes) -> Node:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    data = b""
    if kind == stat.S_IFREG:
        data = Path(os.fsdecode(path)).read_bytes()
    elif kind == stat.S_IFLNK:
        data = os.readlink(path)
    owner = (status.st_uid, status.st_gid)
    return Node(kind, data, status.st_rdev, stat.S_IMODE(status.st_mode), owner, status.st_mtime)


def _members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]] | None:
    """All entries, if they end where the archive does and none of them is of a dialect in dispute."""
    members = []
    try:
        with tarfile.open(
            fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            for info in tar:
                if info.size > MAX_BYTES or not _is_certain(data, info):
                    return None
                file = tar.extractfile(info) if info.isreg() else None
                members.append((info, file.read() if file else b""))
            end, is_global = tar.offset, bool(tar.pax_headers)
    except Exception:  # whatever a broken archive does to tarfile
        return None
    return None if is_global or data[end : end + 512].strip(b"\0") else members


def _is_certain(data: bytes, info: tarfile.TarInfo) -> bool:
    if not all(info.pax_headers.values()):
        return False  # an empty value leaves the header's own in force, as Go has it
    if info.offset_data - info.offset > 512 and not _is_preceded_by_one(data, info.offset):
        return False
    if info.issparse():
        return True
    header = data[info.offset_data - 512 : info.offset_data]
    magic, prefix = header[257:265], header[345:500]
    if magic == _GNU:
        return not prefix.strip(b"\0")
    return magic == _POSIX and header[508:] != b"tar\0"


def _is_preceded_by_one(data: bytes, place: int) -> bool:
    """Whether one extended header stands before an entry, and says something.

    Of several readers differ in which counts; an empty name leaves the header's own in force, as Go has it.
    """
    if data[place + 156 : place + 157] not in (b"x", b"L", b"K"):
        return data[place + 156 : place + 157] == b"S"
    size = int(data[place + 124 : place + 136].strip(b" \0") or b"0", 8)
    if not size or not data[place + 512]:
        return False
    following = place + 512 + size + -size % 512
    return data[following + 156 : following + 157] not in (b"x", b"g", b"L", b"K", b"X")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _path(name: str) -> bytes:
    """Absolute and cleaned; the root is empty."""
    return posixpath.normpath(b"/" + _bytes(name).lstrip(b"/")).rstrip(b"/")


def _add(tree: Tree, info: tarfile.TarInfo, content: bytes) -> bool:
    """Make the entry in the model; False when it is not certain what becomes of it."""
    path = _path(info.name)
    if len(path) > MAX_PATH or b"\0" in path or posixpath.basename(path).startswith(b".wh."):
        return False
    if not _imply(tree, path):
        return False
    if not path:
        return True
    if info.isdir():
        return _add_directory(tree, path, info)
    _remove(tree, path)
    if info.islnk():
        return _add_name(tree, path, _path(info.linkname))
    node = _node(info, content)
    if node is not None:
        tree[path] = node
    return node is not None


def _imply(tree: Tree, path: bytes) -> bool:
    """Have the directories above; False when something else is one of them."""
    parts = path.split(b"/")[1:-1]
    for depth in range(1, len(parts) + 1):
        above = b"/" + b"/".join(parts[:depth])
        if tree.setdefault(above, Node(stat.S_IFDIR)).kind != stat.S_IFDIR:
            return False
    return True


def _remove(tree: Tree, path: bytes) -> None:
    for below in [one for one in tree if one == path or one.startswith(path + b"/")]:
        del tree[below]


def _add_directory(tree: Tree, path: bytes, info: tarfile.TarInfo) -> bool:
    if path in tree and tree[path].kind != stat.S_IFDIR:
        _remove(tree, path)
    tree[path] = Node(stat.S_IFDIR, mode=info.mode & 0o7777, owner=(info.uid, info.gid), mtime=_time(info))
    return True


def _add_name(tree: Tree, path: bytes, target: bytes) -> bool:
    """A second name of a file: what the two say of it is one, so neither is held to it."""
    if target not in tree or tree[target].kind == stat.S_IFDIR or not _imply(tree, target):
        return False
    shared = replace(tree[target], mode=None, owner=None, mtime=None)
    for name, node in tree.items():
        if node is tree[target]:
            tree[name] = shared
    tree[path] = shared
    return True


def _node(info: tarfile.TarInfo, content: bytes) -> Node | None:
    owner, mtime = (info.uid, info.gid), _time(info)
    if info.issym():
        return Node(stat.S_IFLNK, _bytes(info.linkname), owner=owner, mtime=mtime)
    kinds = {tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}
    kind = stat.S_IFREG if info.isreg() else kinds.get(info.type)
    if kind is None:
        return None
    device = 0
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = os.makedev(info.devmajor, info.devminor)
    return Node(kind, content, device, info.mode & 0o7777, owner, mtime)


def _time(info: tarfile.TarInfo) -> float | None:
    return float(info.mtime) if 0 <= info.mtime < 2**33 else None
