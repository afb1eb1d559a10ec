"""Which bytes of a log are wanted: since when, until when, how many lines at the end (`logs`).

The time index says where the output of a second begins, so what is chosen by time is exact to a second:
nothing that is wanted is left out, and lines are shown whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from supervisor.errors import FailedPrecondition, InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds, format_rfc3339, now
from supervisor.model.log_index import entries

_PIECE_BYTES = 64 << 10
_STEP = SECOND
"""What an entry of the index speaks for at most: output that comes later has an entry of its own."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; None is no restriction."""

    since: Nanoseconds | None = None
    until: Nanoseconds | None = None
    tail: int | None = None

    def __post_init__(self) -> None:
        if self.tail is not None and self.tail < 0:
            raise InvalidArgument(f"--tail {self.tail}: a number of lines is wanted, 0 or more")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise InvalidArgument(
                f"--since {format_rfc3339(self.since)} is after --until {format_rfc3339(self.until)}:"
                " nothing can lie between"
            )

    @property
    def is_over(self) -> bool:
        """Whether nothing that will be written is wanted."""
        return self.until is not None and self.until <= now()


EVERYTHING = Wanted()


@dataclass(slots=True)
class Part:
    """One file of a log, with its index, and from where to where it is wanted."""

    file: BinaryIO
    index: bytes = b""
    begin: int = 0
    end: int = field(init=False)

    def __post_init__(self) -> None:
        self.end = os.fstat(self.file.fileno()).st_size

    def restrict(self, wanted: Wanted) -> None:
        """Leave out what was written before or after; raises FailedPrecondition without an index."""
        if not self.end or (wanted.since is None and wanted.until is None):
            return
        spans = list(self._spans())
        if not spans:
            raise FailedPrecondition(
                f"log {self.file.name} has no time index, so nothing can be chosen by time; the container's"
                " shim keeps none"
            )
        size, begin = self.end, 0
        if wanted.since is not None:
            begin = next((offset for offset, _, last in spans if last > wanted.since), size)
        if wanted.until is not None:
            self.end = next((offset for offset, first, _ in spans if first > wanted.until), size)
        self.begin = self._line_start(min(begin, size)) if begin < size else size
        self.end = max(self.begin, self._line_end(min(self.end, size), size))

    def keep_lines(self, ends: int) -> int | None:
        """Leave what follows the end of a line behind which `ends` others are.

        Answers None, or how many are still to be passed in the files before: a file may end in the middle
        of a line, which then is longer than a file.
        """
        position = self.end
        while position > self.begin:
            start = max(self.begin, position - _PIECE_BYTES)
            piece = self._read(start, position)
            place = len(piece)
            while (place := piece.rfind(b"\n", 0, place)) >= 0:
                if not ends:
                    self.begin = start + place + 1
                    return None
                ends -= 1
            position = start
        return ends

    def ends_with_a_line(self) -> bool:
        """Whether what is wanted ends where a line does."""
        return self._read(self.end - 1, self.end) == b"\n"

    def _spans(self) -> Iterator[tuple[int, int, int]]:
        """Offsets, and between which moments what lies there was written."""
        first = True
        for at, offset in entries(self.index):
            if first and offset:
                yield 0, 0, at
            first = False
            yield offset, at, at + _STEP

    def _line_start(self, position: int) -> int:
        while position > 0:
            start = max(0, position - _PIECE_BYTES)
            found = self._read(start, position).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            position = start
        return 0

    def _line_end(self, position: int, size: int) -> int:
        if not position or self._read(position - 1, position) == b"\n":
            return position
        while position < size:
            piece = self._read(position, min(size, position + _PIECE_BYTES))
            found = piece.find(b"\n")
            if found >= 0:
                return position + found + 1
            position += len(piece)
        return size

    def _read(self, start: int, end: int) -> bytes:
        return os.pread(self.file.fileno(), end - start, start)


def restrict(parts: Sequence[Part], wanted: Wanted) -> None:
    """Leave of a log's files, the oldest first, what is wanted."""
    for part in parts:
        part.restrict(wanted)
    if wanted.tail is not None:
        _keep_lines(parts, wanted.tail)


def _keep_lines(parts: Sequence[Part], count: int) -> None:
    filled = [part for part in reversed(parts) if part.end > part.begin]
    ends: int | None = None
    if count and filled:
        ends = count if filled[0].ends_with_a_line() else count - 1
    for part in filled:
        if ends is None:
            part.begin = part.end
        else:
            ends = part.keep_lines(ends)
