"""The exchange: hands each committed event to all who subscribed (containerd: core/events/exchange).

The store's writer tells it of events, in the order of the journal; it passes them to the event loop and
never waits for a subscriber. Each subscriber has a queue of bounded length: one that does not keep up
gets what is in its queue and then ResourceExhausted, and can read on from the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from supervisor.errors import ResourceExhausted
from supervisor.events.payload import fields_of
from supervisor.model.event import Envelope
from supervisor.model.filters import Filter
from supervisor.model.predicate import Lookup, Predicate, predicate

log = logging.getLogger(__name__)

QUEUE_BOUND = 16_384
"""Events that wait for one subscriber at most: some seconds of a storm, a few megabytes."""

QUEUE_BYTES = 32 << 20
"""Bytes of payloads that wait for one subscriber at most: an event may be as large as a message."""


class Subscription:
    """Events of one subscriber, as an asynchronous iterator that ends when the exchange closes."""

    def __init__(self, wanted: Predicate, bound: int) -> None:
        self._wanted = wanted
        self._bound = bound
        self._queue: deque[Envelope] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._ended = False
        self._overflowed = False

    def offer(self, envelope: Envelope, lookup: Lookup) -> None:
        """Queue the event if it is wanted; never blocks."""
        if self._ended or not self._wanted(lookup):
            return
        if len(self._queue) < self._bound and self._size < QUEUE_BYTES:
            self._queue.append(envelope)
            self._size += _size(envelope)
        else:
            self._ended = self._overflowed = True
        self._changed.set()

    def end(self) -> None:
        """Let the iterator end behind what is queued."""
        self._ended = True
        self._changed.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Envelope:
        while not self._queue:
            if self._overflowed:
                raise ResourceExhausted(
                    f"subscription: more than {self._bound} events, or {QUEUE_BYTES >> 20} MiB, waited for"
                    " this subscriber; subscribe again, read faster or filter, or follow the journal, which"
                    " has what was missed (supervisor.services.events.v1.Journal)"
                )
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        envelope = self._queue.popleft()
        self._size -= _size(envelope)
        return envelope


class Growth:
    """Tells one reader of the journal that there is more to read; it holds no events, so it has no bound."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._ended = False

    def notice(self) -> None:
        """There are new events."""
        self._changed.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._changed.set()

    async def grown(self) -> bool:
        """Wait until there were new events since the last time; False at the end."""
        await self._changed.wait()
        self._changed.clear()
        return not self._ended


class Exchange:
    """Belongs to one event loop; `tell` may be called from any thread, all else only there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, queue_bound: int = QUEUE_BOUND) -> None:
        self._loop = loop
        self._queue_bound = queue_bound
        self._subscriptions: set[Subscription] = set()
        self._watches: set[Growth] = set()
        self._bells: dict[asyncio.Event, frozenset[str]] = {}
        self.closed = False

    def tell(self, envelopes: Sequence[Envelope]) -> None:
        """Pass on events that are on disk; for `Database.tell`."""
        listened = self._subscriptions or self._watches
        if not listened and not any(self._rings(envelope.topic) for envelope in envelopes):
            return  # and save the event loop a wake-up
        try:
            self._loop.call_soon_threadsafe(self._deliver, envelopes)
        except RuntimeError:
            # The loop is closed: the daemon is stopping and nobody listens. The journal has them.
            log.debug("%d events told to nobody: the event loop is closed", len(envelopes))

    @contextmanager
    def subscribe(self, filters: Sequence[Filter] = ()) -> Iterator[Subscription]:
        """All events from now on that pass the filters, until the context ends."""
        subscription = Subscription(predicate(filters), self._queue_bound)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @contextmanager
    def watch(self) -> Iterator[Growth]:
        """Whether the journal grows, from now on until the context ends."""
        growth = Growth()
        self._watches.add(growth)
        try:
            yield growth
        finally:
            self._watches.discard(growth)

    @contextmanager
    def bell(self, topics: frozenset[str]) -> Iterator[asyncio.Event]:
        """An event that is set when something of these topics is told, until the context ends.

        What is told of other topics costs its owner nothing.
        """
        rung = asyncio.Event()
        self._bells = {**self._bells, rung: topics}
        try:
            yield rung
        finally:
            self._bells = {bell: of for bell, of in self._bells.items() if bell is not rung}

    def _rings(self, topic: str) -> bool:
        return any(topic in topics for topics in self._bells.values())

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are now."""
        return len(self._subscriptions)

    def close(self) -> None:
        """End all subscriptions, so that their streams can."""
        self.closed = True
        for subscription in self._subscriptions:
            subscription.end()
        for growth in self._watches:
            growth.end()

    def _deliver(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes if self._subscriptions else ():
            lookup = fields_of(envelope)
            for subscription in self._subscriptions:
                subscription.offer(envelope, lookup)
        for growth in self._watches:
            growth.notice()
        told = {envelope.topic for envelope in envelopes}
        for rung, topics in self._bells.items():
            if topics & told:
                rung.set()


def _size(envelope: Envelope) -> int:
    return len(envelope.event.value) if envelope.event else 0
