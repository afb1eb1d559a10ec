"""A filesystem configured parameter by parameter: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).

Unlike mount(2) it has no limit of a page for all parameters together; overlayfs takes its lower layers
one by one, as `lowerdir+`, since Linux 6.7.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from supervisor.kernel import libc

_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_AT_FDCWD = -100
_MOVE_MOUNT_F_EMPTY_PATH = 4
_ATTRIBUTES = 0xF  # read-only, nosuid, nodev and noexec have the bits of mount(2)


def mount_with(fstype: str, target: str, flags: int, parameters: Iterable[tuple[str, str | None]]) -> None:
    """Mount a filesystem on `target`; parameters without a value are switches."""
    name = ctypes.c_char_p(fstype.encode())
    context = libc.syscall(libc.SYS_FSOPEN, name, ctypes.c_uint(_CLOEXEC), call=f"fsopen {fstype}")
    try:
        for key, value in parameters:
            _configure(context, _SET_FLAG if value is None else _SET_STRING, key, value, target)
        _configure(context, _CMD_CREATE, None, None, target)
        mounted = _mounted(context, flags & _ATTRIBUTES, target)
    finally:
        os.close(context)
    try:
        move_mount(mounted, target)
    finally:
        os.close(mounted)


def _configure(context: int, command: int, key: str | None, value: str | None, target: str) -> None:
    words = [ctypes.c_char_p(None if word is None else os.fsencode(word)) for word in (key, value)]
    arguments = (ctypes.c_int(context), ctypes.c_uint(command), *words, ctypes.c_int(0))
    libc.syscall(libc.SYS_FSCONFIG, *arguments, call=f"fsconfig {key or 'create'}={value}", path=target)


def _mounted(context: int, attributes: int, target: str) -> int:
    arguments = (ctypes.c_int(context), ctypes.c_uint(_CLOEXEC), ctypes.c_uint(attributes))
    return libc.syscall(libc.SYS_FSMOUNT, *arguments, call="fsmount", path=target)


def move_mount(mounted: int, target: str) -> None:
    """move_mount(2): attach a mount that has no place yet to `target`."""
    empty, name = ctypes.c_char_p(b""), ctypes.c_char_p(os.fsencode(target))
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    arguments = (ctypes.c_int(mounted), empty, ctypes.c_int(_AT_FDCWD), name, flags)
    libc.syscall(libc.SYS_MOVE_MOUNT, *arguments, call="move_mount", path=target)
