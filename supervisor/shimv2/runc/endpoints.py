"""Opening what a client gave as paths for a process's streams (containerd: process/io.go, `copyPipes`).

The client has opened the read ends of its fifos before it asks for the process; opening our write
end waits for that, a rendezvous. We then hold the fifo's other end as well, so that a client that
leaves neither breaks the pipe for the container nor ends its input, and a later one finds it alive.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from supervisor.errors import DeadlineExceeded, SupervisorError

RENDEZVOUS_SECONDS = 30.0
_PAUSE = 0.005  # seconds


class Descriptors:
    """Open descriptors of one owner, each closed once, all at the latest by `close_all`."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def add(self, descriptor: int) -> int:
        """Own an open descriptor; answers it."""
        self._open.add(descriptor)
        return descriptor

    def pipe(self) -> tuple[int, int]:
        """A new pipe, read end and write end, both owned."""
        reader, writer = os.pipe()
        return self.add(reader), self.add(writer)

    def close(self, *descriptors: int) -> None:
        """Close those of `descriptors` that are still open."""
        for descriptor in descriptors:
            if descriptor in self._open:
                self._open.discard(descriptor)
                os.close(descriptor)

    def close_all(self) -> None:
        """Close what is left."""
        self.close(*self._open)


def check_exists(path: str) -> None:
    """Raise SupervisorError when a stream's path does not exist: nothing is created for a bare path."""
    try:
        os.stat(path)
    except OSError as error:
        raise _failed(path, error) from error


def open_output(path: str, until: float, owned: Descriptors) -> tuple[int, ...]:
    """Descriptors for writing to `path`, the first to be written to, the rest to be held open.

    A fifo is waited for until the monotonic time `until`; raises DeadlineExceeded, SupervisorError.
    """
    if not is_fifo(path):
        return (owned.add(_open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)),)
    writer = owned.add(_meet_reader(path, until))
    return writer, owned.add(_open(path, os.O_RDONLY | os.O_NONBLOCK))


def open_log(path: str, owned: Descriptors) -> tuple[int, ...]:
    """A file to append to, created together with its folders."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return (owned.add(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)),)
    except OSError as error:
        raise _failed(path, error) from error


def open_input(path: str, owned: Descriptors) -> tuple[int, ...]:
    """Descriptors for reading from `path`; the second, of a fifo, keeps the input from ending."""
    reader = owned.add(_open(path, os.O_RDONLY | os.O_NONBLOCK))
    if not is_fifo(path):
        return (reader,)
    return reader, owned.add(_open(path, os.O_WRONLY | os.O_NONBLOCK))


def is_fifo(path: str) -> bool:
    """Whether `path` is a named pipe; raises SupervisorError when it does not exist."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError as error:
        raise _failed(path, error) from error


def _meet_reader(path: str, until: float) -> int:
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise _failed(path, error) from error
        if time.monotonic() >= until:
            raise DeadlineExceeded(f"nobody opened {path} for reading within {RENDEZVOUS_SECONDS:.0f} s")
        time.sleep(_PAUSE)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: str, error: OSError) -> SupervisorError:
    return SupervisorError(f"open {path}: {(error.strerror or str(error)).lower()}")
