"""Messages within the bytes of a stream: a flag, a length, a payload (gRPC: PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from supervisor.errors import Internal, ResourceExhausted, Unimplemented

_PREFIX = struct.Struct(">BI")
PREFIX_BYTES = _PREFIX.size
_GZIP = 16 + zlib.MAX_WBITS


def framed(message: bytes) -> bytes:
    """A message as it travels, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class Assembler:
    """Cuts the bytes of a stream into messages of at most `limit` bytes, also when unpacked."""

    def __init__(self, limit: int, *, gzipped: bool = False) -> None:
        self._limit = limit
        self._gzipped = gzipped
        self._rest = bytearray()
        self._wanted = PREFIX_BYTES

    @property
    def incomplete(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete; raises ResourceExhausted, Internal, or Unimplemented."""
        if not self._rest and len(data) >= PREFIX_BYTES:
            compressed, length = _PREFIX.unpack_from(data)
            if PREFIX_BYTES + length == len(data):  # as most are: one message in one frame
                self._check(length)
                yield self._unpacked(compressed, data[PREFIX_BYTES:])
                return
        self._rest += data
        yield from self._complete()

    def _complete(self) -> Iterator[bytes]:
        start, rest = 0, self._rest
        while len(rest) - start >= self._wanted:
            compressed, length = _PREFIX.unpack_from(rest, start)
            self._check(length)
            self._wanted = PREFIX_BYTES + length
            if len(rest) - start < self._wanted:
                break
            yield self._unpacked(compressed, bytes(rest[start + PREFIX_BYTES : start + self._wanted]))
            start, self._wanted = start + self._wanted, PREFIX_BYTES
        del rest[:start]

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise ResourceExhausted(f"a message of {length} bytes: at most {self._limit} are taken")

    def _unpacked(self, compressed: int, payload: bytes) -> bytes:
        if not compressed:
            return payload
        if compressed != 1 or not self._gzipped:
            raise Unimplemented("a message is marked as compressed, and the call does not say by what")
        inflater = zlib.decompressobj(wbits=_GZIP)
        try:
            unpacked = inflater.decompress(payload, self._limit + 1)
        except zlib.error as error:
            raise Internal(f"decompress a message: {error}") from error
        self._check(len(unpacked))
        if not inflater.eof:
            raise Internal("decompress a message: it is cut short")
        return unpacked
