"""Streams that a client opens for another call of its to use (containerd: core/streaming, its manager).

Each has a name in its namespace and lasts as long as the client's call. The loop's side is here; work
in threads uses a stream by `Pipe`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from supervisor.errors import AlreadyExists, Cancelled, InvalidArgument, NotFound
from supervisor.model.identifiers import Namespace

INCOMING_BYTES = 4 << 20
"""How far a client may be ahead; then its connection waits. The window of a transfer is smaller."""

OUTGOING = 4096
"""Messages that may wait for a client before progress is left out."""

SENDING = 64
"""Messages that may wait for a client before its bytes wait, too, however large a window it gave."""

TELL_SECONDS = 2.0
"""How long the answer to a transfer waits for a client to have its progress."""


class Stream:
    """One open stream. All methods are of the event loop."""

    def __init__(self) -> None:
        self._incoming: deque[AnyMessage] = deque()
        self._held = 0
        self._heard_all = False
        self._changed = asyncio.Condition()
        self._outgoing: asyncio.Queue[AnyMessage | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._closed = False

    async def receive(self) -> AnyMessage | None:
        """The client's next message, None behind the last."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._incoming or self._heard_all)
            if not self._incoming:
                return None
            message = self._incoming.popleft()
            self._held -= message.ByteSize()
            self._changed.notify_all()
            return message

    async def send(self, messages: Iterable[Message]) -> None:
        """Have the client get messages, waiting for it; raises Cancelled when it is gone."""
        for message in messages:
            while self._outgoing.qsize() >= SENDING and not self._closed:
                self._taken.clear()
                await self._taken.wait()
            if self._closed:
                raise Cancelled("the client has closed its stream")
            self._outgoing.put_nowait(packed(message))

    def offer(self, message: Message) -> None:
        """Have the client get a message, unless too many wait for it or it is gone."""
        if not self._closed and self._outgoing.qsize() < OUTGOING:
            self._outgoing.put_nowait(packed(message))

    def close(self) -> None:
        """Nothing more is said; the client's call ends behind what it has yet to get."""
        if self._closed:
            return
        self._closed = True
        self._outgoing.put_nowait(None)
        self._taken.set()

    async def told(self) -> None:
        """Wait until the client's connection has taken all that was said, but not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TELL_SECONDS):
                await self._outgoing.join()

    async def take(self, message: AnyMessage) -> None:
        """The client said something; waits while what is to be looked at is much already."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held < INCOMING_BYTES)
            self._incoming.append(message)
            self._held += message.ByteSize()
            self._changed.notify_all()

    async def end(self) -> None:
        """The client has said all that it will."""
        async with self._changed:
            self._heard_all = True
            self._changed.notify_all()

    async def outgoing(self) -> AsyncIterator[AnyMessage]:
        """What the client is to get, until `close`."""
        while (message := await self._outgoing.get()) is not None:
            yield message
            self._outgoing.task_done()
            self._taken.set()
        self._outgoing.task_done()

    def abandon(self) -> None:
        """The client is gone: nobody waits for what it was to get."""
        self.close()
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
            self._outgoing.task_done()


class Streams:
    """The open streams of all namespaces."""

    def __init__(self) -> None:
        self._open: dict[tuple[Namespace, str], Stream] = {}
        self._leased: dict[tuple[Namespace, str], set[Stream]] = {}

    @contextmanager
    def registered(self, namespace: Namespace, name: str, lease: str | None = None) -> Iterator[Stream]:
        """A new stream under a name, which ends with its lease; raises AlreadyExists for one that is open."""
        if not name:
            raise InvalidArgument("a stream needs an id")
        if (namespace, name) in self._open:
            raise AlreadyExists(f'stream "{name}"')
        stream = self._open[namespace, name] = Stream()
        if lease is not None:
            self._leased.setdefault((namespace, lease), set()).add(stream)
        try:
            yield stream
        finally:
            del self._open[namespace, name]
            if lease is not None:
                self._forget(namespace, lease, stream)
            stream.abandon()

    def _forget(self, namespace: Namespace, lease: str, stream: Stream) -> None:
        held = self._leased[namespace, lease]
        held.discard(stream)
        if not held:
            del self._leased[namespace, lease]

    def get(self, namespace: Namespace, name: str) -> Stream:
        """An open stream; raises NotFound."""
        try:
            return self._open[namespace, name]
        except KeyError:
            raise NotFound(f'stream "{name}": open it first, by Streaming.Stream, and keep it open') from None

    def leases(self) -> list[tuple[Namespace, str]]:
        """The leases that streams were opened under."""
        return list(self._leased)

    def end_leased(self, namespace: Namespace, lease: str) -> None:
        """End the streams of a lease that is gone."""
        for stream in self._leased.get((namespace, lease), ()):
            stream.close()


def packed(message: Message) -> AnyMessage:
    """A message with its type, as containerd names it: without a host."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def is_a(message: AnyMessage, kind: type[Message]) -> bool:
    """Whether a payload is of that type, by either way to write it."""
    return message.type_url.rpartition("/")[2] == kind.DESCRIPTOR.full_name
