"""A blob that is read while it is still being written: what downloads and unpacks at the same time."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO


class Growing:
    """Counts what has arrived; shared by one that writes and any number that read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._size = 0
        self._file: BinaryIO | None = None
        self._ended = False
        self._error: BaseException | None = None

    def begin(self, file: BinaryIO, size: int) -> None:
        """Bytes lie in `file`, which is this object's to close; `size` are there."""
        with self._changed:
            self._file = file
        self.at(size)

    def at(self, size: int) -> None:
        """So many bytes are there."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes: all is there and verified, or it failed with `error`."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the end; raises what it failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
            if self._error is not None:
                raise self._error

    def reader(self) -> Follower:
        """A reader from the first byte on."""
        return Follower(self)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`, as soon as there are some; none behind the end.

        Raises what the arrival failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._size > offset or self._ended)
            if self._error is not None:
                raise self._error
            if self._size <= offset or self._file is None:
                return b""
            available, descriptor = self._size - offset, self._file.fileno()
        return os.pread(descriptor, min(size, available), offset)

    def close(self) -> None:
        """Let go of the file."""
        with self._changed:
            if self._file is not None:
                self._file.close()
                self._file = None


class Follower:
    """Reads a growing blob in order."""

    def __init__(self, source: Growing) -> None:
        self._source = source
        self._offset = 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, waiting for them; none at the end."""
        data = self._source.read(self._offset, size)
        self._offset += len(data)
        return data
