"""A streaming reader of tar archives (what Go's archive/tar is to containerd).

It reads forward only, holds one header at a time, and bounds everything that it has to hold. An
archive may end without its two blocks of zeros, and without the padding of its last file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from supervisor.diff import tar_header, tar_pax, tar_sparse
from supervisor.diff.entry import Entry, Kind
from supervisor.diff.tar_header import BLOCK, MAX_SIZE, Header
from supervisor.diff.tar_sparse import Stretch
from supervisor.errors import SupervisorError

# Long names and extended headers; enough for a path and sixteen xattrs of the kernel's largest size.
MAX_SPECIAL_BYTES = 1 << 20
PIECE_BYTES = 256 << 10

_ZEROS = bytes(BLOCK)


class Stream(Protocol):
    """Where the archive comes from, buffered: `read` gives less than asked for only at the end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""
        ...


class TarReader:
    """Entries of an archive, in order; `data` gives the bytes of the entry that came last."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0
        self._stretches: list[Stretch] | None = None

    def __iter__(self) -> Iterator[Entry]:
        while (header := self._next()) is not None:
            yield header.entry

    def data(self) -> Iterator[tuple[int, bytes]]:
        """The bytes of the present entry, in pieces, each with its offset; what is not told is zeros."""
        stretches = self._stretches
        if stretches is None:
            stretches = [Stretch(0, self._left)]
        for stretch in stretches:
            offset, left = stretch.offset, stretch.length
            while left:
                piece = self._take(min(left, PIECE_BYTES))
                self._left -= len(piece)
                yield offset, piece
                offset += len(piece)
                left -= len(piece)

    def _next(self) -> Header | None:
        """The next header that is an entry's own, with what special headers before it say of it."""
        records: tar_pax.Records = {}
        long_name = long_link = b""
        while (block := self._header_block()) is not None:
            header = tar_header.parse(block)
            match header.type:
                case b"x":
                    records = tar_pax.parse(self._special(header))
                case b"L":
                    long_name = tar_header.text(self._special(header))
                case b"K":
                    long_link = tar_header.text(self._special(header))
                case _:
                    tar_pax.merge(header, records)
                    header.entry.name = long_name or header.entry.name
                    header.entry.link = long_link or header.entry.link
                    self._begin(header, block, records)
                    return header
        if records or long_name or long_link:
            raise SupervisorError("tar: the archive ends between an extended header and its entry")
        return None

    def _header_block(self) -> bytes | None:
        """The next header block; None at the end of the archive."""
        if not self._skip_rest():
            return None
        block = self._block_or_end()
        if block == _ZEROS:
            if self._block_or_end() not in (_ZEROS, None):
                raise SupervisorError("tar: a block of zeros stands between two entries")
            return None
        return block

    def _block_or_end(self) -> bytes | None:
        block = self._stream.read(BLOCK)
        if block and len(block) < BLOCK:
            raise _cut_off()
        return block or None

    def _skip_rest(self) -> bool:
        """Skip what is left of the present entry; False if the archive ends in its padding."""
        while self._left:
            self._left -= len(self._take(min(self._left, PIECE_BYTES)))
        padding, self._padding = self._padding, 0
        return len(self._stream.read(padding)) == padding if padding else True

    def _take(self, size: int) -> bytes:
        piece = self._stream.read(size)
        if len(piece) < size:
            raise _cut_off()
        return piece

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _special(self, header: Header) -> bytes:
        if not 0 <= header.stored <= MAX_SPECIAL_BYTES:
            raise SupervisorError(
                f"tar: an extended header claims {header.stored} bytes, at most {MAX_SPECIAL_BYTES} are read"
            )
        self._expect(header.stored)
        data = self._take(header.stored)
        self._left = 0
        return data

    def _begin(self, header: Header, block: bytes, records: tar_pax.Records) -> None:
        if header.without_data():
            header.stored = header.entry.size = 0
        if not 0 <= header.stored <= MAX_SIZE:
            raise SupervisorError(f"tar: {header.entry.shown()} claims a size of {header.stored} bytes")
        self._stretches = None
        if header.type == b"S":
            self._begin_old_sparse(header, block)
        else:
            self._expect(header.stored)
            if header.entry.kind is Kind.FILE:
                self._begin_pax_sparse(header, records)

    def _begin_old_sparse(self, header: Header, block: bytes) -> None:
        stretches, real_size, more = tar_sparse.old_header(block)
        room = tar_sparse.MAX_MAP_BYTES // BLOCK
        while more:
            if (room := room - 1) < 0:
                raise SupervisorError("tar: the map of a sparse file has too many blocks")
            further, more = tar_sparse.old_extension(self._take(BLOCK))
            stretches += further
        self._expect(header.stored)
        self._set_sparse(header, stretches, real_size)

    def _begin_pax_sparse(self, header: Header, records: tar_pax.Records) -> None:
        stretches = tar_sparse.form_0(records)
        if tar_sparse.is_form_1_0(records):
            stretches = self._leading_map()
        if stretches is None:
            return
        header.entry.name = tar_sparse.name(records) or header.entry.name
        self._set_sparse(header, stretches, tar_sparse.real_size(records))

    def _leading_map(self) -> list[Stretch]:
        collected, found = tar_sparse.MapReader(), None
        while found is None:
            if self._left < BLOCK:
                raise SupervisorError("tar: the map of a sparse file is not finished where its data ends")
            self._left -= BLOCK
            found = collected.feed(self._take(BLOCK))
        return found

    def _set_sparse(self, header: Header, stretches: list[Stretch], real_size: int) -> None:
        self._stretches = tar_sparse.checked(stretches, real_size, self._left)
        header.entry.size = real_size


def _cut_off() -> SupervisorError:
    return SupervisorError("tar: the archive is cut off in the middle of an entry")
