"""One large blob over several connections at a time, read as one stream in order.

The first piece comes over one connection, and is timed. Where that is fast, or the host ignores ranges,
the rest comes the same way: more connections would only cost. Elsewhere `parallel_chunks` pieces are
under way, each a download of its own that resumes by itself. A reader takes from the first while it still
arrives; the others wait in memory, which so holds `parallel_chunks` times `chunk_bytes` at most.
"""

from __future__ import annotations

import threading
from collections import deque

from supervisor.registry.download import READ_SIZE, Download
from supervisor.registry.session import Session
from supervisor.registry.sources import Sources

WAIT = 1.0
"""Seconds after which a waiting reader looks whether the transfer is over."""


class ParallelDownload:
    """The bytes of a blob from `start` to `end` (exclusive), see Reader."""

    def __init__(self, session: Session, sources: Sources, start: int, end: int) -> None:
        """Nothing is asked for before the first read."""
        self._session = session
        self._sources = sources
        self._end = end
        self._next = min(end, start + session.settings.chunk_bytes)
        self._size = self._next - start
        self._single: Download | None = Download(session, sources, start, self._next)
        self._first = True
        self._chunks: deque[_Chunk] = deque()
        self._hosts: list[str] = []

    @property
    def hosts(self) -> list[str]:
        """Who sent bytes so far."""
        single = self._single.hosts if self._single is not None else []
        return list(dict.fromkeys([*self._hosts, *single]))

    def read(self, size: int = READ_SIZE, /) -> bytes:
        """See Reader."""
        if self._single is not None:
            data = self._single.read(size)
            if data or not self._first:
                return data
            self._first = False
            self._decide(self._single)
            if self._single is not None:
                return self._single.read(size)
        return self._from_chunks(size)

    def close(self) -> None:
        """See Reader; pieces that are under way end by themselves soon."""
        if self._single is not None:
            self._single.close()
        for chunk in self._chunks:
            chunk.cancel()
        self._chunks.clear()

    def _decide(self, first: Download) -> None:
        """Go on as the first piece went, or by several connections; forget them if it was the whole."""
        if not first.ranged:
            first.extend(self._end)
            return
        first.close()
        self._hosts = list(first.hosts)
        if self._size >= self._session.settings.parallel_below * first.waited:
            self._single = Download(self._session, self._sources, self._next, self._end)
            return
        self._single = None
        for _ in range(self._session.settings.parallel_chunks):
            self._start_next()

    def _start_next(self) -> None:
        if self._next < self._end:
            end = min(self._end, self._next + self._session.settings.chunk_bytes)
            chunk = _Chunk(Download(self._session, self._sources, self._next, end))
            self._next = end
            self._chunks.append(chunk)
            self._session.chunk_threads().submit(chunk.run)

    def _from_chunks(self, size: int) -> bytes:
        while self._chunks:
            data = self._chunks[0].take(size, self._session)
            if data:
                return data
            self._hosts += [host for host in self._chunks.popleft().hosts if host not in self._hosts]
            self._start_next()
        return b""


class _Chunk:
    """One piece under way: filled by a thread, emptied by the reader."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._cancelled = False

    @property
    def hosts(self) -> list[str]:
        return self._download.hosts

    def run(self) -> None:
        """Read it to its end; an error is for the reader."""
        error: BaseException | None = None
        try:
            while not self._cancelled and (data := self._download.read()):
                with self._changed:
                    self._pieces.append(data)
                    self._changed.notify()
        except BaseException as raised:
            error = raised
        finally:
            self._download.close()
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify()

    def take(self, size: int, session: Session) -> bytes:
        """The next bytes of it, none at its end; raises what the thread met."""
        with self._changed:
            while not self._pieces:
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return b""
                self._changed.wait(WAIT)
                session.deadline.check()
            data = self._pieces.popleft()
            if len(data) > size:
                self._pieces.appendleft(data[size:])
                data = data[:size]
            return data

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True
            self._pieces.clear()
