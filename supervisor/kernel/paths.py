"""Resolution of untrusted paths below a held directory: openat2(2) (what containerd's fs.RootPath is for).

`open_beneath` refuses to leave the directory; `open_in_root` takes the directory for the root, as chroot
would, so that an absolute link or `..` stays inside. Neither follows a magic link of /proc.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from supervisor.kernel import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_RACES = 128


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """openat2(2); the descriptor is close-on-exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    arguments = (
        ctypes.c_int(directory),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    for _ in range(_RACES):
        # Somebody renamed a folder on the way: the kernel could not tell whether `..` led out.
        with suppress(BlockingIOError):
            return libc.syscall(libc.SYS_OPENAT2, *arguments, call="openat2", path=path)
    return libc.syscall(libc.SYS_OPENAT2, *arguments, call="openat2", path=path)


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` below `directory`; a step out of it, by `..` or by a link, is an OSError (EXDEV)."""
    return openat2(directory, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def open_in_root(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as if `directory` were `/`."""
    return openat2(directory, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def descriptor_path(descriptor: int) -> str:
    """The path by which this process can name what `descriptor` refers to, whatever its name is by now."""
    return f"/proc/self/fd/{descriptor}"
