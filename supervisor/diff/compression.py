"""Compression of layers, undone by what the bytes are (containerd: pkg/archive/compression).

Output comes in bounded pieces, however small the input that it was made of, so a decompression bomb
costs time and disk, never memory; `bounded` ends that, too. An input that ends too early, or has a tail
that is no further member or frame, is an error: a layer must not be silently shorter than it was.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Protocol

import zstandard
from isal import igzip_lib, isal_zlib

from supervisor.diff.zstd_frames import FrameWalker, is_zstd
from supervisor.errors import SupervisorError

READ_BYTES = 256 << 10
PIECE_BYTES = 1 << 20
PROBE_BYTES = 8

_GZIP_MAGIC = b"\x1f\x8b\x08"
_GZIP_LEVEL = 2  # of isal's 0 to 3; about as small as zlib's default, several times as fast
_GZIP_WRAPPER = 31  # zlib's window bits for "gzip header and trailer, largest window"


class Readable(Protocol):
    """Where compressed bytes come from: an open blob."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        ...


class _Member(Protocol):
    """isal's decompressor of one member, which its own stubs leave without a name."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` bytes made of `data`."""
        ...


class _Compressor(Protocol):
    """What isal and zstandard agree on."""

    def compress(self, data: bytes, /) -> bytes:
        """What has come out so far."""
        ...

    def flush(self) -> bytes:
        """The rest."""
        ...


class Compression(enum.Enum):
    """How a stream is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def detect(start: bytes) -> Compression:
    """The compression of a stream that begins with `start` (PROBE_BYTES of it are enough)."""
    if start.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    return Compression.ZSTD if is_zstd(start) else Compression.NONE


def decompress(source: Readable, *, by_magic: bool) -> Iterator[bytes]:
    """The plain bytes of `source`: decompressed if `by_magic` and they are compressed, else as they are.

    Raises SupervisorError when the compressed form is damaged, cut off, or followed by something else.
    """
    start = source.read(PROBE_BYTES)
    kind = detect(start) if by_magic else Compression.NONE
    pieces = _Pushed(start, source)
    match kind:
        case Compression.GZIP:
            return _gunzip(pieces)
        case Compression.ZSTD:
            return _unzstd(pieces)
        case Compression.NONE:
            return iter(lambda: pieces.read(PIECE_BYTES), b"")


def compress(pieces: Iterable[bytes], kind: Compression) -> Iterator[bytes]:
    """`pieces` compressed; the same input gives the same output, whenever it is made."""
    match kind:
        case Compression.NONE:
            yield from pieces
            return
        case Compression.GZIP:
            running: _Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WRAPPER)
        case Compression.ZSTD:
            running = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    for piece in _even(pieces):
        if made := running.compress(piece):
            yield made
    yield running.flush()


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size: what a compressor makes depends on where its input is cut."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        while len(gathered) >= PIECE_BYTES:
            yield bytes(gathered[:PIECE_BYTES])
            del gathered[:PIECE_BYTES]
    yield bytes(gathered)


class _Pushed:
    """A stream with the bytes that were read for detection put back."""

    def __init__(self, start: bytes, rest: Readable) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        """The start first, by itself, then the rest."""
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._rest.read(size)


def _gunzip(source: Readable) -> Iterator[bytes]:
    """Each member must be followed by another one or by the end, as Go's gzip reader has it."""
    data = source.read(READ_BYTES)
    while data:
        member: _Member = isal_zlib.decompressobj(wbits=_GZIP_WRAPPER)
        while not member.eof:
            if not data and not (data := source.read(READ_BYTES)):
                raise SupervisorError("gzip: the layer ends in the middle of a member; fetch it again")
            yield from _inflate(member, data)
            data = member.unused_data
        data = data or source.read(READ_BYTES)


def _inflate(member: _Member, data: bytes) -> Iterator[bytes]:
    while data and not member.eof:
        try:
            piece = member.decompress(data, PIECE_BYTES)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stubs call it an object
            raise SupervisorError(f"gzip: the layer is damaged or has a foreign tail: {error}") from None
        data = member.unconsumed_tail
        if piece:
            yield piece


def _unzstd(source: Readable) -> Iterator[bytes]:
    """zstandard takes a cut frame for a finished one, so the frames are walked beside it."""
    walked = _Walked(source)
    reader = zstandard.ZstdDecompressor().stream_reader(
        walked,  # type: ignore[arg-type]  # it needs no more of a file than read()
        read_size=READ_BYTES,
        read_across_frames=True,
        closefd=False,
    )
    try:
        while piece := reader.read(PIECE_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise SupervisorError(f"zstd: the layer is damaged or has a foreign tail: {error}") from None
    if not walked.frames.at_boundary():
        raise SupervisorError("zstd: the layer ends in the middle of a frame; fetch it again")


class _Walked:
    """A stream whose bytes also go through a FrameWalker."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.frames = FrameWalker()

    def read(self, size: int = -1) -> bytes:
        """Bytes for the decompressor; `size` is its own choice."""
        data = self._source.read(size if size > 0 else READ_BYTES)
        self.frames.feed(data)
        return data
