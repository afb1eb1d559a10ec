"""Content digests, `algorithm:hex` (OCI image spec, descriptor, "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from supervisor.errors import InvalidArgument

Digest = NewType("Digest", str)

HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
CANONICAL = "sha256"

_HEX = re.compile(r"[0-9a-f]+")


def digest(text: str) -> Digest:
    """Return `text` as a digest.

    Raises InvalidArgument unless the algorithm is known and the hex lower case and of its length.
    """
    algorithm, colon, encoded = text.partition(":")
    if not colon:
        raise InvalidArgument(f"digest {text[:150]!r} lacks the form algorithm:hex")
    if algorithm not in HEX_LENGTH:
        raise InvalidArgument(
            f"digest {text[:150]!r}: unsupported algorithm, use one of {', '.join(HEX_LENGTH)}"
        )
    if len(encoded) != HEX_LENGTH[algorithm] or not _HEX.fullmatch(encoded):
        raise InvalidArgument(
            f"digest {text[:150]!r} must have {HEX_LENGTH[algorithm]} lower-case hex digits"
        )
    return Digest(text)


def split(value: Digest) -> tuple[str, str]:
    """Algorithm and hex of a digest."""
    algorithm, _, encoded = value.partition(":")
    return algorithm, encoded


def of_bytes(data: bytes, algorithm: str = CANONICAL) -> Digest:
    """The digest of `data`."""
    return from_hash(hashlib.new(algorithm, data))


def from_hash(running: hashlib._Hash) -> Digest:
    """The digest that a running hash stands at."""
    return Digest(f"{running.name}:{running.hexdigest()}")
