"""Reading JSON documents that strangers wrote: bounded, typed, and with errors that name the field.

OCI image and runtime specifications; containerd reads the same documents in core/images. Every
access goes through a `Node`, so that a wrong type is an InvalidArgument and never a TypeError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from supervisor.errors import InvalidArgument, ResourceExhausted

# Registries refuse manifests above 4 MiB; twice that leaves room and still bounds the memory of a parse.
MAX_DOCUMENT_BYTES = 8 << 20

Json = object


@dataclass(frozen=True, slots=True)
class Node:
    """A value inside a document, with the path that leads to it for messages."""

    value: Json
    path: str

    def members(self) -> dict[str, Json]:
        """The value as an object; null counts as an empty one, as in Go."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def has(self, key: str) -> bool:
        """Whether the object has a member `key` that is not null."""
        return self.members().get(key) is not None

    def child(self, key: str) -> Node:
        """The member `key`; its value is None when absent."""
        return Node(self.members().get(key), f"{self.path}.{key}")

    def items(self, limit: int) -> Iterator[Node]:
        """The elements of an array of at most `limit`; null counts as an empty one."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.wrong("an array")
        if len(self.value) > limit:
            raise ResourceExhausted(f"{self.path} has {len(self.value)} entries, at most {limit} are read")
        for index, element in enumerate(self.value):
            yield Node(element, f"{self.path}[{index}]")

    def text(self, default: str = "") -> str:
        """The value as a string; `default` when absent."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        return self.value

    def number(self, default: int = 0) -> int:
        """The value as an integer; `default` when absent."""
        if self.value is None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong("an integer")
        return self.value

    def texts(self, limit: int) -> tuple[str, ...]:
        """The value as an array of strings."""
        return tuple(item.text() for item in self.items(limit))

    def mapping(self) -> dict[str, str]:
        """The value as an object of strings."""
        return {key: Node(value, f"{self.path}[{key!r}]").text() for key, value in self.members().items()}

    def wrong(self, wanted: str) -> InvalidArgument:
        """The error that says what this value should have been."""
        return InvalidArgument(f"{self.path} must be {wanted}, not {type(self.value).__name__}")


def parse(data: bytes, what: str) -> Node:
    """The root of the JSON object in `data`; `what` names the document in messages.

    Raises ResourceExhausted when it is larger than is read here, InvalidArgument when it is no JSON object.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ResourceExhausted(f"{what} has {len(data)} bytes, at most {MAX_DOCUMENT_BYTES} are read")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a JSON object, not {type(value).__name__}")
    return Node(value, what)
