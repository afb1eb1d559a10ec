"""Between protobuf messages and values of `supervisor.model`, for what several services speak of."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.types import descriptor_pb2, event_pb2, mount_pb2, platform_pb2
from supervisor.errors import InvalidArgument
from supervisor.model.any import Any
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.event import Envelope
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.mount import Mount
from supervisor.model.platform import Platform

MAX_INSTANT = 2**63 - 1


def require(request: Message, *fields: str) -> None:
    """Raise InvalidArgument when the request lacks one of these messages."""
    for name in fields:
        if not request.HasField(name):
            raise InvalidArgument(f"{request.DESCRIPTOR.name} must bring the field {name!r}")


def to_any(message: AnyMessage) -> Any:
    """A payload, unopened."""
    return Any(message.type_url, message.value)


def optional_any(request: Message, field: str) -> Any | None:
    """The payload in a field of the request, None where it is absent."""
    return to_any(getattr(request, field)) if request.HasField(field) else None


def from_any(value: Any | None) -> AnyMessage | None:
    """A payload as a message; None leaves a field unset."""
    return None if value is None else AnyMessage(type_url=value.type_url, value=value.value)


def to_instant(message: Timestamp) -> Nanoseconds:
    """A point in time; raises InvalidArgument for one that the store's 64 bits cannot hold."""
    instant = message.seconds * SECOND + message.nanos
    if abs(instant) > MAX_INSTANT:
        raise InvalidArgument(f"time of {message.seconds} s from 1970 lies outside the years 1678 to 2262")
    return Nanoseconds(instant)


def from_instant(instant: Nanoseconds) -> Timestamp:
    """A point in time as a message, to the nanosecond."""
    seconds, nanos = divmod(instant, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def to_descriptor(message: descriptor_pb2.Descriptor) -> Descriptor:
    """A descriptor as it came: whoever uses its digest checks it."""
    return Descriptor(message.media_type, Digest(message.digest), message.size, dict(message.annotations))


def from_descriptor(descriptor: Descriptor) -> descriptor_pb2.Descriptor:
    """A descriptor as a message."""
    return descriptor_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=descriptor.annotations,
    )


def to_mount(message: mount_pb2.Mount) -> Mount:
    """A mount."""
    return Mount(message.type, message.source, tuple(message.options), message.target)


def from_mount(mount: Mount) -> mount_pb2.Mount:
    """A mount as a message."""
    return mount_pb2.Mount(type=mount.type, source=mount.source, target=mount.target, options=mount.options)


def to_envelope(message: event_pb2.Envelope) -> Envelope:
    """An event; a missing time is 1970."""
    return Envelope(
        to_instant(message.timestamp), message.namespace, message.topic, optional_any(message, "event")
    )


def from_envelope(envelope: Envelope) -> event_pb2.Envelope:
    """An event as a message."""
    return event_pb2.Envelope(
        timestamp=from_instant(envelope.timestamp),
        namespace=envelope.namespace,
        topic=envelope.topic,
        event=from_any(envelope.event),
    )


def from_platform(platform: Platform) -> platform_pb2.Platform:
    """A platform as a message."""
    return platform_pb2.Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)
