"""The server: services on unix sockets, from the first call to the last."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from supervisor.http2.connection import Admit, Connection, Offer
from supervisor.http2.methods import Method, Servicer, methods_of
from supervisor.kernel.sockets import within_limit

MAX_MESSAGE_BYTES = 16 << 20
"""A request's size at most, if nothing else is said."""

_BACKLOG = 1024


class Server:
    """Serves while inside its `async with`; add services first, then listen."""

    def __init__(
        self, *, max_message_bytes: int = MAX_MESSAGE_BYTES, absent: Mapping[str, str] | None = None
    ) -> None:
        """`absent` has services that are known and not offered: their names, and what that means in words."""
        self._group = asyncio.TaskGroup()
        self._methods: dict[str, Method] = {}
        self._offer = Offer(self._methods, absent or {}, self._group, max_message_bytes)
        self._listening: list[asyncio.Server] = []

    def add(self, servicer: Servicer) -> None:
        """Offer the methods that a servicer has."""
        for method in methods_of(servicer):
            self._methods[method.name] = method

    async def __aenter__(self) -> Server:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop(0)
        await self._group.__aexit__(None, None, None)

    async def listen(
        self, path: Path, *, mode: int = 0o660, owner: tuple[int, int] = (-1, -1), admit: Admit | None = None
    ) -> None:
        """Serve on a unix socket at `path`, in place of one that was left there; raises OSError.

        The socket never has a wider mode than `mode`, not even for a moment. `owner` is a user and a
        group, -1 to leave them; `admit` decides on every call that comes by this socket.
        """
        listener = _bound(path, mode, owner)
        offer = replace(self._offer, admit=admit)
        loop = asyncio.get_running_loop()
        self._listening.append(
            await loop.create_unix_server(lambda: Connection(offer), sock=listener, backlog=_BACKLOG)
        )

    async def stop(self, grace: float) -> None:
        """Take no new calls, wait up to `grace` seconds for those in flight, and end the rest."""
        for listening in self._listening:
            listening.close()
        self._listening.clear()
        leaving = list(self._offer.connections)
        for connection in leaving:
            connection.leave()
        lost = [connection.lost for connection in leaving]
        if lost and grace:
            await asyncio.wait(lost, timeout=grace)
        for connection in leaving:
            connection.end()
        await asyncio.gather(*lost)


def _bound(path: Path, mode: int, owner: tuple[int, int]) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    umask = os.umask(0o777 & ~mode)
    try:
        with within_limit(path) as short:
            listener.bind(short)
        os.chown(path, *owner)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener
