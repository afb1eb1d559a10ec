"""What filters can see of an event (containerd: core/events, `Envelope.Field`; api/events). Contract 2.

Strings and booleans by their names in the protocol, also in nested messages, and labels by key. Numbers,
times and repeated fields cannot be named. A payload of a type that is not known here has no fields.
"""

from __future__ import annotations

from google.protobuf import symbol_database
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

# Imported for their messages, which thereby become known to the symbol database.
from supervisor.api.events import (  # noqa: F401
    container_pb2,
    content_pb2,
    image_pb2,
    namespace_pb2,
    sandbox_pb2,
    snapshot_pb2,
    task_pb2,
)
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.predicate import Lookup, Path, present


def fields_of(envelope: Envelope) -> Lookup:
    """A lookup into one event for any number of filters; the payload is decoded once, if asked for."""
    decoded: list[Message | None] = []

    def lookup(path: Path) -> str | None:
        match path:
            case ("namespace", *_):
                return present(envelope.namespace)
            case ("topic", *_):
                return present(envelope.topic)
            case ("event", *_):
                if not decoded:
                    decoded.append(_decode(envelope.event))
                return None if decoded[0] is None else _field(decoded[0], path[1:])
        return None

    return lookup


def _decode(payload: Any | None) -> Message | None:
    if payload is None:
        return None
    try:
        message: Message = symbol_database.Default().GetSymbol(payload.type_url)()
        message.ParseFromString(payload.value)
    except (KeyError, DecodeError):
        return None
    return message


def _field(message: Message, path: Path) -> str | None:
    field = message.DESCRIPTOR.fields_by_name.get(path[0]) if path else None
    if field is None:
        return None
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return value.get(".".join(path[1:]))  # type: ignore[no-any-return]
    if field.is_repeated:
        return None
    if field.type == FieldDescriptor.TYPE_STRING:
        return present(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _field(value, path[1:])
    return None
