"""Events: what changed, as it changes (containerd: core/events)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

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
from supervisor.api.types import event_pb2
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.instant import Nanoseconds

_SERVICE = "containerd.services.events.v1.Events"

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


class Events:
    """The events of a daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def subscribe(self, filters: Sequence[str] = ()) -> AsyncGenerator[Envelope, None]:
        """Events of all namespaces from now on, those that at least one of `filters` selects."""
        request = pb.SubscribeRequest(filters=filters)
        async for message in self._channel.stream(f"{_SERVICE}/Subscribe", request, event_pb2.Envelope):
            yield _envelope(message)

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
