"""Connecting to a host with several addresses: the next is tried while one still hesitates (RFC 8305).

A host whose IPv6 leads nowhere would otherwise cost every connection the whole dial timeout.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

Address = tuple[int, int, int, Any]
"""Family, type, protocol and address, as getaddrinfo has them."""

Option = tuple[int, int, int | bytes]
"""What setsockopt takes."""

HESITATION = 0.3
"""Seconds that an address has for itself, before the next one is tried beside it; as in Go."""
LONGEST = 3600.0


def dial(host: str, port: int, timeout: float | None, options: Sequence[Option]) -> socket.socket:
    """A connected socket; raises socket.gaierror, TimeoutError, or the OSError of the last address."""
    addresses = _interleaved(host, port)
    ends = time.monotonic() + (timeout if timeout is not None else LONGEST)
    error = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    with _Race() as race:
        while addresses or race.runs():
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "no connection in time")
            try:
                if addresses:
                    race.start(addresses.pop(0), options)
                if winner := race.winner(min(left, HESITATION) if addresses else left):
                    return winner
            except OSError as failure:
                error = failure
    raise error


class _Race:
    """Sockets on their way to a host; those that do not win are closed at its end."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()

    def runs(self) -> bool:
        return bool(self._sockets)

    def start(self, address: Address, options: Sequence[Option]) -> None:
        family, kind, protocol, place = address
        sock = socket.socket(family, kind, protocol)
        self._sockets.append(sock)
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        status = sock.connect_ex(place)
        if status not in (0, errno.EINPROGRESS):
            self._leave(sock, status)

    def winner(self, within: float) -> socket.socket | None:
        """The first that is connected; None when time passed without one, OSError when one failed."""
        with selectors.DefaultSelector() as waiting:
            for sock in self._sockets:
                waiting.register(sock, selectors.EVENT_WRITE)
            ready = [key.fileobj for key, _ in waiting.select(within)]
        for sock in [one for one in self._sockets if one in ready]:
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self._leave(sock, status)
            self._sockets.remove(sock)
            return sock
        return None

    def _leave(self, sock: socket.socket, status: int) -> None:
        self._sockets.remove(sock)
        sock.close()
        raise OSError(status, os.strerror(status))


def _interleaved(host: str, port: int) -> list[Address]:
    """The addresses of a host, the families in turns, beginning with the one that the system prefers."""
    found = [
        (family, kind, protocol, address)
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    ]
    first = [one for one in found if one[0] == found[0][0]]
    others = [one for one in found if one[0] != found[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]
