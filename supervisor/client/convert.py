"""Between protobuf messages and the values of the SDK; the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.types import descriptor_pb2, mount_pb2
from supervisor.model.any import Any
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.instant import GO_ZERO_SECONDS, SECOND, Nanoseconds
from supervisor.model.mount import Mount


def instant(stamp: Timestamp) -> Nanoseconds | None:
    """The instant of a timestamp; None for "never", which is an absent one or Go's zero time."""
    if stamp.seconds == GO_ZERO_SECONDS or (stamp.seconds == 0 and stamp.nanos == 0):
        return None
    return Nanoseconds(stamp.seconds * SECOND + stamp.nanos)


def payload(message: AnyMessage) -> Any | None:
    """The typed payload of an Any; None for an empty one."""
    return Any(message.type_url, message.value) if message.type_url or message.value else None


def payload_message(value: Any | None) -> AnyMessage | None:
    """The Any of a typed payload."""
    return None if value is None else AnyMessage(type_url=value.type_url, value=value.value)


def descriptor(message: descriptor_pb2.Descriptor) -> Descriptor:
    """The descriptor in a message; its digest is the daemon's word and is not checked again."""
    return Descriptor(message.media_type, Digest(message.digest), message.size, dict(message.annotations))


def descriptor_message(value: Descriptor) -> descriptor_pb2.Descriptor:
    """The message of a descriptor."""
    return descriptor_pb2.Descriptor(
        media_type=value.media_type, digest=value.digest, size=value.size, annotations=value.annotations
    )


def mounts(messages: Iterable[mount_pb2.Mount]) -> tuple[Mount, ...]:
    """The mounts in messages, in order."""
    return tuple(Mount(m.type, m.source, tuple(m.options), m.target) for m in messages)


def mount_messages(values: Iterable[Mount]) -> list[mount_pb2.Mount]:
    """The messages of mounts, in order."""
    return [mount_pb2.Mount(type=v.type, source=v.source, options=v.options, target=v.target) for v in values]
