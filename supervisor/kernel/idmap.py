"""Mounts with shifted owners (containerd: core/mount, mount_idmapped_linux.go).

`uidmap=` and `gidmap=` are comma lists of `container:host:size`: what the disk says is owned by the
container's id is seen as owned by the host's. The kernel takes the map from a user namespace, and a
namespace needs a process to be made: a child of ours that lives for that moment.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from supervisor.kernel import libc, overlay_data
from supervisor.kernel.filesystem_context import move_mount
from supervisor.kernel.mount_options import MS_REC, Parsed
from supervisor.model.mount import Mount

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOUNT_ATTR_IDMAP = 0x00100000
_MNT_DETACH = 2
_IDENTITY = "0:0:4294967295"

# Runs in the child: a new user namespace, a line when it is there, and the end with our pipe's end.
_HOLD_NAMESPACE = (
    "import ctypes,os,sys\n"
    "failed = ctypes.CDLL(None, use_errno=True).unshare(0x10000000)\n"
    "os.write(1, b'%d\\n' % (ctypes.get_errno() if failed else 0))\n"
    "sys.stdin.read()"
)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_mapped(mount: Mount, parsed: Parsed, target: str) -> None:
    """Perform a bind or an overlay whose owners are shifted; of an overlay, the lower layers' owners."""
    with _user_namespace(parsed.uid_map or _IDENTITY, parsed.gid_map or _IDENTITY) as namespace:
        if mount.type == "overlay":
            _mount_overlay(mount, parsed, target, namespace)
        else:
            _bind(mount.source, target, namespace, recursive=bool(parsed.flags & MS_REC))


def _mount_overlay(mount: Mount, parsed: Parsed, target: str, namespace: int) -> None:
    """The folder that all lower layers lie in is bound shifted, to where the overlay then finds them.

    The overlay keeps what it found, so that the bind can go at once.
    """
    folder, options = overlay_data.shorten(parsed.data)
    with _temporary_bind(folder, namespace) as shifted:
        absolute = os.path.abspath(target)
        data = ",".join(options)
        overlay_data.in_folder(
            shifted, lambda: libc.mount(mount.source, absolute, "overlay", parsed.flags, data)
        )


@contextmanager
def _temporary_bind(folder: str, namespace: int) -> Iterator[str]:
    point = tempfile.mkdtemp(prefix="idmapped-")
    try:
        _bind(folder, point, namespace, recursive=False)
        try:
            yield point
        finally:
            libc.umount2(point, _MNT_DETACH)
    finally:
        os.rmdir(point)


def _bind(source: str, target: str, namespace: int, *, recursive: bool) -> None:
    below = _AT_RECURSIVE if recursive else 0
    tree = _open_tree(source, _OPEN_TREE_CLONE | os.O_CLOEXEC | below)
    try:
        _set_mapping(tree, namespace, _AT_EMPTY_PATH | below, source)
        move_mount(tree, target)
    finally:
        os.close(tree)


def _open_tree(path: str, flags: int) -> int:
    name = ctypes.c_char_p(os.fsencode(path))
    arguments = (ctypes.c_int(_AT_FDCWD), name, ctypes.c_uint(flags))
    return libc.syscall(libc.SYS_OPEN_TREE, *arguments, call="open_tree", path=path)


def _set_mapping(tree: int, namespace: int, flags: int, path: str) -> None:
    attributes = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    arguments = (
        ctypes.c_int(tree),
        ctypes.c_char_p(b""),
        ctypes.c_uint(flags),
        ctypes.byref(attributes),
        size,
    )
    libc.syscall(libc.SYS_MOUNT_SETATTR, *arguments, call="mount_setattr with shifted owners", path=path)


@contextmanager
def _user_namespace(uid_map: str, gid_map: str) -> Iterator[int]:
    """A descriptor of a user namespace with these maps."""
    command = [sys.executable, "-I", "-S", "-c", _HOLD_NAMESPACE]
    # On an exception Popen's own exit closes the pipes, which ends the child, and waits for it.
    import subprocess  # it loads threading, see `apart`

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        failure = int(child.stdout.readline() or b"1")
        if failure:
            raise OSError(failure, f"unshare for shifted owners: {os.strerror(failure)}")
        _write_map(child.pid, "uid_map", uid_map)
        _write_map(child.pid, "gid_map", gid_map)
        namespace = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _write_map(pid: int, name: str, ranges: str) -> None:
    lines: Sequence[str] = [text.replace(":", " ") for text in ranges.split(",")]
    try:
        Path(f"/proc/{pid}/{name}").write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise OSError(error.errno, f"{name.replace('_', '')}={ranges}: {error.strerror}") from None
