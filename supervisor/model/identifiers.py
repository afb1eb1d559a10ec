"""Names of things, each made by a function that validates it (containerd: pkg/identifiers, pkg/labels).

Rules: contract 1.4. Lengths are in bytes of UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NewType

from supervisor.errors import InvalidArgument

Namespace = NewType("Namespace", str)
ContainerId = NewType("ContainerId", str)

MAX_IDENTIFIER_BYTES = 76
MAX_LABEL_BYTES = 4096

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


def check_identifier(text: str, what: str = "identifier") -> str:
    """Return `text` if it is an identifier: 1 to 76 bytes of alphanumeric groups joined by single `._-`.

    Raises InvalidArgument; `what` names the thing in the message.
    """
    if not text:
        raise InvalidArgument(f"{what} must not be empty")
    if len(text.encode()) > MAX_IDENTIFIER_BYTES:
        raise InvalidArgument(
            f"{what} {text!r} greater than maximum length ({MAX_IDENTIFIER_BYTES} characters)"
        )
    if not _IDENTIFIER.fullmatch(text):
        raise InvalidArgument(f"{what} {text!r} must match {_IDENTIFIER.pattern}")
    return text


def namespace(text: str) -> Namespace:
    """Return `text` as a namespace; raises InvalidArgument."""
    try:
        return Namespace(check_identifier(text))
    except InvalidArgument as error:
        raise InvalidArgument(f"namespace validation: {error}") from None


def container_id(text: str) -> ContainerId:
    """Return `text` as a container id; raises InvalidArgument."""
    return ContainerId(check_identifier(text))


def check_topic(topic: str) -> str:
    """Return `topic` if it is `/` and identifiers joined by `/`; raises InvalidArgument."""
    if not topic.startswith("/") or len(topic) < 2:
        raise InvalidArgument(f"topic {topic!r} must start with '/' and name at least one component")
    for component in topic[1:].split("/"):
        try:
            check_identifier(component)
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid component in topic {topic!r}: {error}") from None
    return topic


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise InvalidArgument when a key is empty or a key with its value exceeds 4096 bytes."""
    for key, value in labels.items():
        if not key:
            raise InvalidArgument("a label's key must not be empty")
        if len(key.encode()) + len(value.encode()) > MAX_LABEL_BYTES:
            raise InvalidArgument(
                f"label {key[:64]!r}: key and value greater than maximum size ({MAX_LABEL_BYTES} bytes)"
            )


def stored_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that are kept: one with an empty value is a removal.

    Raises InvalidArgument for a NUL: SQLite's JSON, by which labels become searchable, ends text there.
    """
    if any("\0" in key or "\0" in value for key, value in labels.items()):
        raise InvalidArgument("a label must not hold the character NUL")
    return {key: value for key, value in labels.items() if value}
