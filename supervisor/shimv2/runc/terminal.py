"""A process with a terminal: the master side, received from the runtime (containerd: go-runc/console.go).

This process keeps the terminal's other side open as well while the container's process lives.
Otherwise the master would report EIO whenever no process happens to have it open, and would have
to be asked again and again. After the exit it is let go of, and EIO means that all has been read.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import time
from contextlib import suppress
from functools import partial

from supervisor.errors import DeadlineExceeded, SupervisorError
from supervisor.shimv2.runc.copier import BufferCopier, Copier, TerminalReader
from supervisor.shimv2.runc.endpoints import (
    RENDEZVOUS_SECONDS,
    check_exists,
    open_input,
    open_output,
)
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.stdio import CopiedIO, StdioPaths

_TIOCGPTPEER = 0x5441  # linux/tty ioctls: open the other side, wherever its devpts is mounted
_NAME_SIZE = 4096


class ConsoleSocket:
    """The socket over which the runtime sends the master side, in a folder of its own."""

    def __init__(self) -> None:
        base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
        self._folder = f"{base}/pty{os.urandom(8).hex()}"
        self.path = f"{self._folder}/pty.sock"
        os.mkdir(self._folder, 0o700)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._listener.bind(self.path)
            self._listener.listen(1)
        except OSError:
            self.close()
            raise

    def receive(self, seconds: float) -> int:
        """The one descriptor that the runtime sends; raises DeadlineExceeded, SupervisorError."""
        self._listener.settimeout(seconds)
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(seconds)
                return _received(connection)
        except TimeoutError:
            raise DeadlineExceeded(f"the runtime sent no terminal within {seconds:.0f} s") from None

    def close(self) -> None:
        """Remove socket and folder."""
        self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        with suppress(FileNotFoundError):
            os.rmdir(self._folder)


def _received(connection: socket.socket) -> int:
    message, descriptors, _flags, _ = socket.recv_fds(connection, _NAME_SIZE, 8, socket.MSG_CMSG_CLOEXEC)
    if len(descriptors) == 1 and message:
        return descriptors[0]
    for descriptor in descriptors:
        os.close(descriptor)
    raise SupervisorError(f"the runtime sent {len(descriptors)} descriptors in place of one terminal")


class TerminalIO(CopiedIO):
    """One stream in each direction; the client's stderr path has no meaning."""

    def __init__(self, loop: Loop, paths: StdioPaths, *, drops: bool = False) -> None:
        super().__init__(loop, drops=drops)
        if not paths.stdout:
            raise SupervisorError("failed to start console copy: a terminal needs a path for stdout")
        self._check(paths)
        self._paths = paths
        self._master = -1
        self._peer = -1
        self._keepers: tuple[int, ...] = ()
        self._process_ended = False
        self._reader: TerminalReader | None = None
        self._console = ConsoleSocket()

    @property
    def console_socket(self) -> str:  # type: ignore[override]
        """As ProcessIO."""
        return self._console.path

    def begin(self) -> None:
        """As ProcessIO."""
        until = time.monotonic() + RENDEZVOUS_SECONDS
        self._master = self.owned.add(self._console.receive(RENDEZVOUS_SECONDS))
        self._console.close()
        os.set_blocking(self._master, False)
        self._open_peer()
        source, *keepers = open_input(self._paths.stdin, self.owned) if self._paths.stdin else (-1,)
        self._keepers = tuple(keepers)
        sinks = self._open_sink(until)
        self.loop.call(partial(self._copy, source, sinks))

    def release(self) -> None:
        """As ProcessIO: the socket is closed by `begin`, or by `close` when the runtime failed."""

    def close_stdin(self) -> None:
        """As ProcessIO."""
        self.loop.call(lambda: self.owned.close(*self._keepers))

    def process_ended(self) -> None:
        """As ProcessIO."""
        self._process_ended = True
        self.owned.close(self._peer)

    def resize(self, width: int, height: int) -> None:
        """As ProcessIO; the kernel tells the processes in the foreground."""
        self.loop.call(partial(self._set_size, struct.pack("4H", height, width, 0, 0)))

    def close(self) -> None:
        """As ProcessIO."""
        self._console.close()
        super().close()

    def _check(self, paths: StdioPaths) -> None:
        check_exists(paths.stdout)

    def _open_sink(self, until: float) -> tuple[int, ...]:
        return open_output(self._paths.stdout, until, self.owned)

    def _open_peer(self) -> bool:
        """Hold the other side open, unless the process is gone; False when it is or there is none."""
        if self._process_ended:
            return False
        try:
            peer = fcntl.ioctl(self._master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return False
        self.owned.close(self._peer)
        self._peer = self.owned.add(peer)
        return True

    def _copy(self, source: int, sinks: tuple[int, ...]) -> None:
        if self._process_ended:
            self.owned.close(self._peer)
        ended = partial(self._output_over, sinks)
        self._reader = TerminalReader(
            self.loop, self._master, sinks[0], ended, self._open_peer, drops=self.drops
        )
        copiers: list[Copier] = [self._reader]
        if source >= 0:
            # A number of its own: the loop watches each number for one purpose only.
            writer = self.owned.add(os.dup(self._master))
            copiers.append(BufferCopier(self.loop, source, writer, partial(self._input_over, source, writer)))
        self.start_copying(copiers, outputs=1)

    def _set_size(self, size: bytes) -> None:
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def _output_over(self, sinks: tuple[int, ...]) -> None:
        self.output_ended(*sinks, self._master, self._peer)
        self._master = -1

    def _input_over(self, source: int, writer: int) -> None:
        """The end of its input hangs a terminal up, but what has been printed is passed on first."""
        self.owned.close(source, writer)
        if self._reader is not None:
            self._reader.finish()
