"""The sweep: candidates go, in short slices, each asked once more in the transaction that deletes it.

Who refers goes before what it refers to. So whatever still has a row has all that it refers to, and an
object that comes to be kept in the middle of a sweep is whole. First go those that nothing refers to,
which is cheap to see; each may free others. What is left then (cycles, or references that do not count,
like those behind a flat lease) goes together with all that refers to it.

The order of durability is the store's: row first, then file. Between the two, whoever decides about the
same file is held off.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from supervisor.gc import keepers, objects
from supervisor.gc.candidate import Candidate, Kind
from supervisor.gc.files import Files
from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.edges import Node
from supervisor.model import instant

FIRST_SLICE, SMALLEST_SLICE, LARGEST_SLICE = 64, 8, 512
SLICE_SECONDS = 0.01
"""How long a slice may hold the writer; its size follows what the last ones took."""

GROUP = 32
"""How many of the rest are asked about together; each may bring others along."""

Drop = Callable[[Transaction, Sequence[Candidate]], "Dropped"]


@dataclass(slots=True)
class Swept:
    """What a sweep did: objects by kind, bytes of files given back, seconds in which it held the writer."""

    removed: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    size: int = 0
    writing: float = 0.0


@dataclass(frozen=True, slots=True)
class Dropped:
    """What one transaction deleted in how many seconds, and what that referred to."""

    gone: Sequence[Candidate]
    seconds: float
    referred: set[Node] = field(default_factory=set)


class Sweep:
    """One pass over candidates; `stopping` is asked between slices."""

    def __init__(
        self, database: Database, files: Files, candidates: Iterable[Candidate], stopping: Callable[[], bool]
    ) -> None:
        self._database = database
        self._files = files
        self._stopping = stopping
        self._waiting = {candidate.node: candidate for candidate in candidates}
        self._queues: dict[Kind, deque[Candidate]] = {kind: deque() for kind in Kind}
        self._queued: set[Node] = set()
        self._slice = FIRST_SLICE
        self._swept = Swept()

    def run(self) -> Swept:
        """Remove what may go."""
        self._unmount()
        self._queue(self._waiting.values())
        while taken := self._next():
            self._queue(self._remove(taken, _drop_free))
        for piece in keepers.pieces(list(self._waiting.values()), GROUP):
            self._remove(self._with_referrers(piece), _drop_dead)
        self._files.finish()
        return self._swept

    def _unmount(self) -> None:
        """Mounts refer to nothing, and what they show must not be removed below them."""
        for mount in [one for one in self._waiting.values() if one.kind is Kind.MOUNT]:
            del self._waiting[mount.node]
            if not self._stopping() and self._files.unmount(mount, partial(_is_dead, mount)):
                self._swept.removed[Kind.MOUNT] += 1

    def _queue(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            if candidate.node not in self._queued:
                self._queued.add(candidate.node)
                self._queues[candidate.kind].append(candidate)

    def _next(self) -> list[Candidate]:
        """Some candidates of one kind; none when all were asked, or the run is to stop."""
        queue = next((queue for queue in self._queues.values() if queue), None)
        if queue is None or self._stopping():
            return []
        taken = [queue.popleft() for _ in range(min(len(queue), self._slice))]
        self._queued.difference_update(one.node for one in taken)
        return taken

    def _with_referrers(self, piece: Sequence[Candidate]) -> list[Candidate]:
        """Of the rest, a piece and the candidates that refer to it; none when the run is to stop."""
        left = [one for one in piece if one.node in self._waiting]
        if not left or self._stopping():
            return []
        now = instant.now()
        nodes = self._database.read(lambda connection: keepers.closure(connection, left, now))
        return [self._waiting[node] for node in nodes if node in self._waiting]

    def _remove(self, taken: Sequence[Candidate], drop: Drop) -> list[Candidate]:
        """Delete rows, then files; answers which candidates the gone ones referred to."""
        if not taken:
            return []
        with self._files.held(taken) as held:
            dropped = self._database.write(lambda tx: drop(tx, held))
            self._adapt(dropped.seconds)
            self._swept.size += self._files.remove(dropped.gone)
        for candidate in dropped.gone:
            del self._waiting[candidate.node]
            self._swept.removed[candidate.kind] += 1
        return [self._waiting[node] for node in dropped.referred if node in self._waiting]

    def _adapt(self, seconds: float) -> None:
        self._swept.writing += seconds
        fitting = int(self._slice * SLICE_SECONDS / max(seconds, SLICE_SECONDS / 2))
        self._slice = min(LARGEST_SLICE, max(SMALLEST_SLICE, fitting))


def _is_dead(candidate: Candidate, connection: Connection) -> bool:
    return bool(keepers.dead(connection, [candidate], instant.now()))


def _drop_free(tx: Transaction, taken: Sequence[Candidate]) -> Dropped:
    tx.counted = False
    began = time.monotonic()
    present = objects.present(tx.connection, taken, tx.now)
    gone = keepers.free(tx.connection, present)
    referred = keepers.referred(tx.connection, gone)
    objects.drop(tx, gone)
    return Dropped(gone, time.monotonic() - began, referred)


def _drop_dead(tx: Transaction, taken: Sequence[Candidate]) -> Dropped:
    """A snapshot goes only once it has no children, so a chain takes as many rounds as it is long."""
    tx.counted = False
    began = time.monotonic()
    gone: list[Candidate] = []
    going = set(keepers.dead(tx.connection, taken, tx.now))
    while ready := objects.present(tx.connection, list(going), tx.now):
        objects.drop(tx, ready)
        gone += ready
        going.difference_update(ready)
    return Dropped(gone, time.monotonic() - began)
