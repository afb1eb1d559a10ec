"""Streams that a client opens for another call of its to use (containerd: core/streaming, its manager).

Each has a name in its namespace and lasts as long as the client's call. The loop's side is here; work
in threads uses a stream by `Pipe`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from supervisor.errors import AlreadyExists, Cancelled, NotFound
from supervisor.model.identifiers import Namespace

INCOMING = 64
"""Messages that a client may be ahead; then its connection waits."""

OUTGOING = 4096
"""Messages that may wait for a client before progress is left out. Bytes wait for the client's window."""

TYPE_PREFIX = "type.googleapis.com/"


class Stream:
    """One open stream. All methods are of the event loop."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[AnyMessage | None] = asyncio.Queue(INCOMING)
        self._outgoing: asyncio.Queue[AnyMessage | None] = asyncio.Queue()
        self._closed = False

    async def receive(self) -> AnyMessage | None:
        """The client's next message, None behind the last."""
        message = await self._incoming.get()
        if message is None:
            self._incoming.put_nowait(None)
        return message

    async def send(self, message: Message) -> None:
        """Have the client get a message; raises Cancelled when it is gone."""
        if self._closed:
            raise Cancelled("the client has closed its stream")
        await self._outgoing.put(packed(message))

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

    async def take(self, message: AnyMessage | None) -> None:
        """The client said something, or, with None, all that it will."""
        await self._incoming.put(message)

    async def outgoing(self) -> AsyncIterator[AnyMessage]:
        """What the client is to get, until `close`."""
        while (message := await self._outgoing.get()) is not None:
            yield message


class Streams:
    """The open streams of all namespaces."""

    def __init__(self) -> None:
        self._open: dict[tuple[Namespace, str], Stream] = {}

    @contextmanager
    def registered(self, namespace: Namespace, name: str) -> Iterator[Stream]:
        """A new stream under a name; raises AlreadyExists for one that is open."""
        if (namespace, name) in self._open:
            raise AlreadyExists(f'stream "{name}"')
        stream = self._open[namespace, name] = Stream()
        try:
            yield stream
        finally:
            del self._open[namespace, name]
            stream.close()

    def get(self, namespace: Namespace, name: str) -> Stream:
        """An open stream; raises NotFound."""
        try:
            return self._open[namespace, name]
        except KeyError:
            raise NotFound(f'stream "{name}": open it first, by Streaming.Stream, and keep it open') from None


def packed(message: Message) -> AnyMessage:
    """A message with its type, as containerd names it: without a host."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def is_a(message: AnyMessage, kind: type[Message]) -> bool:
    """Whether a payload is of that type, by either way to write it."""
    return message.type_url.rpartition("/")[2] == kind.DESCRIPTOR.full_name
