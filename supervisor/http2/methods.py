"""The methods that a server offers, found by what services say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any as Anything
from typing import Protocol

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


class Servicer(Protocol):
    """Has the methods of a service under the service's own names for them; those that it lacks are absent."""

    SERVICE: ServiceDescriptor


@dataclass(frozen=True, slots=True)
class Method:
    """A method: one request or an asynchronous iterator of them, a coroutine or asynchronous generator."""

    name: str
    handler: Callable[[Anything, Anything], Anything]
    parse: Callable[[bytes], Message]
    streams_in: bool
    streams_out: bool


def methods_of(servicer: Servicer) -> Iterator[Method]:
    """The methods that a servicer has."""
    service = servicer.SERVICE
    for method in service.methods:
        handler = getattr(servicer, method.name, None)
        if handler is None:
            continue
        yield Method(
            f"/{service.full_name}/{method.name}",
            handler,
            GetMessageClass(method.input_type).FromString,
            method.client_streaming,
            method.server_streaming,
        )
