"""Where subscribers are in the journal, so that one whose daemon was replaced is told what it missed.

Containerd's Subscribe tells what happens from now on: a client that loses its daemon and subscribes to
the next one never hears of what happened in between. Here the place of each subscription is kept in a
file below the state folder, written once its events are on the way. It outlives a SIGKILL, as the
socket's buffer does. The process that had it, when it subscribes to the next daemon with the same
filters, goes on from there; nobody else is told of anything old.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from supervisor.kernel.process import start_ticks

RETURN_SECONDS = 600.0
"""How long a daemon expects subscribers of the one before it; clients try again within seconds."""

LONGEST_FILTERS = 64 << 10
"""Bytes of filters, as JSON, for which a place is kept at most."""

_SEQUENCE = struct.Struct(">q")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One process and what it subscribed to."""

    pid: int
    started: int
    """In clock ticks since boot: with the pid it names one process for ever."""
    filters: tuple[str, ...]

    @classmethod
    def of(cls, pid: int, filters: Sequence[str]) -> Subscriber | None:
        """The process of that pid; None when it is not to be seen from here, or is gone."""
        if pid <= 0:
            return None
        try:
            return cls(pid, start_ticks(pid), tuple(filters))
        except (FileNotFoundError, ProcessLookupError):
            return None

    @property
    def alive(self) -> bool:
        """Whether the process still is."""
        return Subscriber.of(self.pid, self.filters) == self


class Place:
    """The last event that one subscription was told, in a file if there is one."""

    def __init__(self, sequence: int, *, returning: bool = False, file: int | None = None) -> None:
        self.sequence = sequence
        self.returning = returning
        self.lasting = False
        """Whether the place is kept beyond the subscription: when that ends with the daemon."""
        self._file = file

    def mark(self, sequence: int) -> None:
        """The event of that sequence number, and all before it, are on their way."""
        self.sequence = sequence
        if self._file is not None:
            os.pwrite(self._file, _SEQUENCE.pack(sequence), 0)


class Places:
    """The places in one folder: those of subscribers of the former daemon, and of this one's."""

    def __init__(self, folder: Path) -> None:
        """Take over what is in the folder, which is made if need be; raises OSError."""
        self._folder = folder
        self._numbers = count()
        self._ends = time.monotonic() + RETURN_SECONDS
        folder.mkdir(mode=0o700, exist_ok=True)
        self._left = {path: found for path in folder.iterdir() if (found := _load(path))}

    @contextmanager
    def kept(self, subscriber: Subscriber | None, newest: int) -> Iterator[Place]:
        """The place of a subscription while it lasts: where it was left, or else at the `newest` event.

        The file goes with the context, unless the place is made `lasting`.
        """
        self._expire()
        if subscriber is None or (path := self._path_of(subscriber)) is None:
            yield Place(newest)
            return
        former = self._left.pop(path, None)
        sequence = newest if former is None else min(former[1], newest)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        place = Place(sequence, returning=former is not None, file=file)
        try:
            os.pwrite(file, _SEQUENCE.pack(sequence) + _described(subscriber), 0)
            yield place
        finally:
            os.close(file)
            if not place.lasting:
                path.unlink(missing_ok=True)

    def _path_of(self, subscriber: Subscriber) -> Path | None:
        """The file that the subscriber left, or one that is not there; None when it has too many filters."""
        for path, (owner, _) in self._left.items():
            if owner == subscriber:
                return path
        if len(_described(subscriber)) > LONGEST_FILTERS:
            return None
        names = (f"{subscriber.pid}.{subscriber.started}.{number}" for number in self._numbers)
        return next(path for name in names if not (path := self._folder / name).exists())

    def _expire(self) -> None:
        """Forget places to which nobody will come back."""
        late = time.monotonic() > self._ends
        for path, (owner, _) in list(self._left.items()):
            if late or not owner.alive:
                del self._left[path]
                path.unlink(missing_ok=True)


def _described(subscriber: Subscriber) -> bytes:
    return json.dumps([subscriber.pid, subscriber.started, subscriber.filters]).encode()


def _load(path: Path) -> tuple[Subscriber, int] | None:
    """A place that was left; one that was cut short by a crash is removed."""
    with path.open("rb") as file:
        content = file.read(_SEQUENCE.size + LONGEST_FILTERS)
    with suppress(ValueError, TypeError, struct.error):
        pid, started, filters = json.loads(content[_SEQUENCE.size :])
        return Subscriber(pid, started, tuple(filters)), _SEQUENCE.unpack_from(content)[0]
    log.warning("%s is no subscriber's place; removed", path)
    path.unlink()
    return None
