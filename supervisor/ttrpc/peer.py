"""Who is at the other end of a unix socket (containerd: ttrpc/unixcreds_linux.go)."""

from __future__ import annotations

import _socket
import os
import struct

_UCRED = struct.Struct("3i")


def is_same_user(connection: _socket.socket) -> bool:
    """Whether the peer's effective uid and gid, as of its connect, are both our own."""
    raw = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED.size)
    _, uid, gid = _UCRED.unpack(raw)
    return (uid, gid) == (os.geteuid(), os.getegid())


def plain_path(address: str) -> str:
    """The path that an address names; `unix://` in front of it may be there or not."""
    return address.removeprefix("unix://")
