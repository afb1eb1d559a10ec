"""A log on disk that is rotated and indexed by time (no counterpart in containerd).

`PATH` is written to, `PATH.1` is the one before, and so on; each has its index beside it. Files are
cut at the end of a line where there is one.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from supervisor.model.instant import SECOND, Nanoseconds, now
from supervisor.model.log_index import SUFFIX, encode
from supervisor.shimv2.runc.logoptions import LogOptions

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_INDEX_STEP = SECOND
_NEWLINE = ord("\n")


class LogFile:
    """Appends; used by one thread. Raises OSError when the disk does not take it, and can be tried again."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._descriptor = -1
        self._index = -1
        self._mode = 0o644
        self._size = 0
        self._indexed_at = Nanoseconds(0)
        self.in_line = False
        self._open()

    def write(self, data: memoryview) -> int:
        """Write some of `data`, and answer how much; at least a byte."""
        if self._descriptor < 0:
            self._open()
        if self._size >= self._options.rotate_size:
            self._rotate()
        piece = self._fitting(data)
        if not piece:
            # The line does not fit any more, so it begins the next file.
            self._rotate()
            piece = self._fitting(data)
        self._note_time()
        written = os.write(self._descriptor, piece)
        self._size += written
        self.in_line = piece[written - 1] != _NEWLINE
        return written

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._descriptor, self._index):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._index = -1

    def _fitting(self, data: memoryview) -> memoryview:
        """What goes into the file in use: all, or whole lines; part of a line only into an empty file."""
        room = self._options.rotate_size - self._size
        if len(data) <= room:
            return data
        lines = bytes(data[:room]).rfind(b"\n") + 1
        return data[: lines or (room if not self._size else 0)]

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._options.path), mode=0o755, exist_ok=True)
        self._descriptor = os.open(self._options.path, _FLAGS, self._mode)
        found = os.fstat(self._descriptor)
        self._size = found.st_size
        # Whoever made the first file has said who may read the log.
        self._mode = stat.S_IMODE(found.st_mode)
        self._indexed_at = Nanoseconds(0)
        if self._options.indexed:
            self._index = os.open(self._options.path + SUFFIX, _FLAGS, self._mode)

    def _note_time(self) -> None:
        """Enter the present moment, unless that has been done in this second."""
        moment = now()
        if self._index < 0 or moment - self._indexed_at < _INDEX_STEP:
            return
        # The index is a help; that it cannot be written is no reason not to write the log.
        with suppress(OSError):
            os.write(self._index, encode(moment, self._size))
            self._indexed_at = moment

    def _rotate(self) -> None:
        """Begin a new file. The oldest goes, and makes room where the disk is full."""
        path, last = self._options.path, self._options.rotate_count - 1
        self.close()
        try:
            for number in range(last, 0, -1):
                self._rename(f"{path}.{number - 1}" if number > 1 else path, f"{path}.{number}")
            if not last:
                os.truncate(path, 0)
                with suppress(FileNotFoundError):
                    os.truncate(path + SUFFIX, 0)
        finally:
            self._open()

    def _rename(self, old: str, new: str) -> None:
        for suffix in (SUFFIX, ""):
            with suppress(FileNotFoundError):
                os.rename(old + suffix, new + suffix)
