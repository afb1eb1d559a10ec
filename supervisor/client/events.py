"""Events: what changed, as it changes (containerd: core/events)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from google.protobuf import json_format, message_factory
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from supervisor.api.events import (
    container_pb2,
    content_pb2,
    image_pb2,
    namespace_pb2,
    sandbox_pb2,
    snapshot_pb2,
    task_pb2,
)
from supervisor.api.services.events.v1 import events_pb2 as pb
from supervisor.api.services.supervisor import events_pb2 as journal
from supervisor.api.types import event_pb2
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.errors import Cancelled, Unavailable
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.instant import Nanoseconds

_SERVICE = "containerd.services.events.v1.Events"
_JOURNAL = "supervisor.services.events.v1.Journal"

EVERYTHING = -1
"""In place of a sequence number: from the oldest event on that is kept."""

PATIENCE = 60.0
"""Seconds for which the daemon may be away: longer than a restart takes."""

_RETRY_SECONDS = 0.2

_KNOWN: dict[str, type[Message]] = {
    message.full_name: message_factory.GetMessageClass(message)
    for module in (
        container_pb2,
        content_pb2,
        image_pb2,
        namespace_pb2,
        sandbox_pb2,
        snapshot_pb2,
        task_pb2,
    )
    for message in module.DESCRIPTOR.message_types_by_name.values()
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sequence numbers of the oldest event that is kept and of the newest that there ever was."""

    oldest: int
    newest: int


class Events:
    """The events of a daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def subscribe(self, filters: Sequence[str] = ()) -> AsyncGenerator[Envelope, None]:
        """Events of all namespaces from now on, those that at least one of `filters` selects."""
        request = pb.SubscribeRequest(filters=filters)
        async for message in self._channel.stream(f"{_SERVICE}/Subscribe", request, event_pb2.Envelope):
            yield _envelope(message)

    async def bounds(self) -> Bounds:
        """Where the journal begins and ends."""
        answer = await self._channel.call(
            f"{_JOURNAL}/Cursor", journal.CursorRequest(), journal.CursorResponse
        )
        return Bounds(answer.oldest, answer.newest)

    async def follow(
        self, since: int | None = None, filters: Sequence[str] = (), *, patience: float = PATIENCE
    ) -> AsyncGenerator[Envelope, None]:
        """Events of all namespaces behind the one numbered `since` (or `EVERYTHING` that is kept; None: now).

        Each comes once, with its sequence number, also over restarts of the daemon: while it is away for
        less than `patience` seconds this waits, and goes on where it was. Raises OutOfRange when what
        follows `since` is not kept any more, Unavailable when the daemon stays away.
        """
        cursor = (await self.bounds()).oldest - 1 if since == EVERYTHING else since
        deadline = None
        while True:
            try:
                async for message in self._journal(cursor, filters):
                    cursor, deadline = message.sequence, None
                    if message.HasField("event"):
                        yield replace(_envelope(message.event), sequence=cursor)
            except (Unavailable, Cancelled):  # it was killed, or is about to stop
                deadline = deadline or time.monotonic() + patience
                if cursor is None or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    def _journal(
        self, cursor: int | None, filters: Sequence[str]
    ) -> AsyncGenerator[journal.SubscribeResponse, None]:
        request = journal.SubscribeRequest(cursor=cursor, filters=filters)
        return self._channel.stream(f"{_JOURNAL}/Subscribe", request, journal.SubscribeResponse)

    async def publish(self, topic: str, event: Any) -> None:
        """Tell an event in this namespace."""
        request = pb.PublishRequest(topic=topic, event=convert.payload_message(event))
        await self._channel.call(f"{_SERVICE}/Publish", request, Empty)


def decode(event: Any) -> Message | None:
    """The message in an event's payload; None when it is of an unknown type or damaged."""
    known = _KNOWN.get(event.type_url.rpartition("/")[2])
    try:
        return known.FromString(event.value) if known else None
    except DecodeError:
        return None


def describe(event: Any) -> dict[str, object]:
    """The fields of an event's payload as plain values, for showing; empty when it cannot be decoded."""
    message = decode(event)
    return json_format.MessageToDict(message, preserving_proto_field_name=True) if message else {}


def _envelope(message: event_pb2.Envelope) -> Envelope:
    return Envelope(
        timestamp=convert.instant(message.timestamp) or Nanoseconds(0),
        namespace=message.namespace,
        topic=message.topic,
        event=convert.payload(message.event),
    )
