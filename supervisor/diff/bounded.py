"""Decompression within limits: it ends at the piece that goes beyond, and nobody gets to see that one."""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.diff.compression import Readable, decompress
from supervisor.diff.limits import Limits


def plain(source: Readable, limits: Limits, *, by_magic: bool) -> Iterator[bytes]:
    """As `decompress`, and raises ResourceExhausted when more comes out than `limits` allow."""
    metered, made = _Metered(source), 0
    for piece in decompress(metered, by_magic=by_magic):
        made += len(piece)
        limits.check_bytes(made, metered.taken)
        yield piece


class _Metered:
    """A stream that knows how many bytes of it were taken.

    A decompressor takes some that it has not used yet; with so few the ratio can only seem smaller.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.taken = 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""
        data = self._source.read(size)
        self.taken += len(data)
        return data
