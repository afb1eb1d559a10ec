"""Reading a part of a blob over as many connections as it takes, one after the other.

A connection that is cut or stalls is replaced by one that goes on at the next byte, at the next host; a
host that ignores ranges is read from the start, and what is there already is dropped.
"""

from __future__ import annotations

import time
from typing import Protocol

from supervisor.registry.failures import RegistryUnavailable, TransportFailure, translated
from supervisor.registry.retries import Retries
from supervisor.registry.session import Session
from supervisor.registry.sources import Opened, Sources

READ_SIZE = 256 << 10
"""Bytes read at a time; what a socket holds at once on a fast network."""
PROGRESS = 1 << 20
"""Attempts are counted anew after so many bytes: a bad line may be cut often, as long as it gets on."""


class Reader(Protocol):
    """Bytes in their order. To be closed; closing twice is fine."""

    def read(self, size: int = READ_SIZE, /) -> bytes:
        """Up to `size` bytes as soon as there are some; none at the end. Raises a RegistryError."""

    def close(self) -> None:
        """Let go of the connection."""


class Download:
    """The bytes of a blob from `start` to `end` (exclusive); not to be shared by threads."""

    def __init__(self, session: Session, sources: Sources, start: int, end: int) -> None:
        """Nothing is asked for before the first read."""
        self._session = session
        self._sources = sources
        self._offset = start
        self._end = end
        self._retries = Retries(session.settings, session.deadline)
        self._gained = 0
        self._turn = 0
        self._opened: Opened | None = None
        self.waited = 0.0
        """Seconds spent waiting for bytes."""
        self.hosts: list[str] = []
        """Who sent them."""
        self.ranged = True
        """False when a host ignored the range that was asked for."""

    def extend(self, end: int) -> None:
        """Read on to `end`."""
        self._end = end

    def read(self, size: int = READ_SIZE, /) -> bytes:
        """See Reader."""
        while self._offset < self._end:
            try:
                data = self._receive(self._open(), min(size, READ_SIZE, self._end - self._offset))
            except TransportFailure as failure:
                self._resume(str(failure))
                continue
            if not data:
                self._resume("the connection was cut")
                continue
            self._offset += len(data)
            self._progress(len(data))
            return data
        return b""

    def close(self) -> None:
        """See Reader."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.response.close()

    def _open(self) -> Opened:
        if self._opened is None:
            self._opened = opened = self._sources.open(self._offset, self._end, self._turn)
            if opened.host not in self.hosts:
                self.hosts.append(opened.host)
            self.ranged = opened.ranged
            self._skip(opened, self._offset - opened.start)
        return self._opened

    def _skip(self, opened: Opened, count: int) -> None:
        while count > 0:
            data = self._receive(opened, min(READ_SIZE, count))
            if not data:
                raise TransportFailure("the connection was cut")
            count -= len(data)

    def _receive(self, opened: Opened, size: int) -> bytes:
        """Bytes as the socket has them, within the bandwidth and the time."""
        size = self._session.bandwidth.piece(size)
        began = time.monotonic()
        with translated(), self._session.timed(self._sources.account(self._offset)):
            data: bytes = opened.response.raw.read1(size)
        self.waited += time.monotonic() - began
        self._session.bandwidth.take(len(data), self._session.deadline)
        return data

    def _progress(self, count: int) -> None:
        self._gained += count
        if self._gained >= PROGRESS:
            self._gained = 0
            self._retries.succeeded()

    def _resume(self, reason: str) -> None:
        """Wait before the next connection, to the next host; raises when there were enough."""
        host = self._opened.host if self._opened else ""
        self.close()
        self._turn += 1
        account = self._sources.account(self._offset, self._retries.used)
        with self._session.timed(account):
            if not self._retries.again():
                raise RegistryUnavailable(f"{reason} (by {host})" if host else reason, account)
