"""What a filesystem's listings tell, which the standard library hides: getdents64(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from supervisor.kernel import libc

_SYS_GETDENTS64 = {"x86_64": 217, "i686": 220, "armv7l": 217, "armv6l": 217, "ppc64le": 202, "s390x": 220}
_SYS_GETDENTS64_GENERIC = 61  # aarch64, riscv64, loongarch64
_ENTRY = struct.Struct("=QqHB")  # inode, offset, length of the record, type; the name follows
_ROOM = 32 << 10
_UNKNOWN = 0


def tells_types(folder: Path) -> bool:
    """Whether listings of `folder` say of each name what it is (man 3 readdir, `d_type`).

    Every folder has `.`, so an empty one will do; overlayfs depends on it. Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return any(kind != _UNKNOWN for kind in _types(descriptor, folder))
    finally:
        os.close(descriptor)


def _types(descriptor: int, folder: Path) -> Iterator[int]:
    """The types of the first entries."""
    number = _SYS_GETDENTS64.get(os.uname().machine, _SYS_GETDENTS64_GENERIC)
    room = ctypes.create_string_buffer(_ROOM)
    arguments = (ctypes.c_int(descriptor), room, ctypes.c_size_t(_ROOM))
    filled = libc.syscall(number, *arguments, call="getdents64", path=folder)
    place = 0
    while place < filled:
        _, _, length, kind = _ENTRY.unpack_from(room.raw, place)
        yield kind
        place += length
