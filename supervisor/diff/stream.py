"""Streams of bytes that are counted and hashed on their way (containerd: core/diff, readCounter)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from supervisor.model.digest import Digest, from_hash


class Counted:
    """The pieces of a stream, with the digest and the number of the bytes that went through."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            self.size += len(piece)
            yield piece

    def digest(self) -> Digest:
        """The digest of what went through so far."""
        return from_hash(self._hash)
