"""Getting a terminal from the runtime (containerd: go-runc/console.go; runc: docs/terminals.md)."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from supervisor.errors import DeadlineExceeded, SupervisorError
from supervisor.shimv2.runc.endpoints import RENDEZVOUS_SECONDS, check_exists, open_input, open_output
from supervisor.shimv2.runc.plumbing import Plumbing
from supervisor.shimv2.runc.wiring import Line, StdioPaths, Wiring

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


class Terminal(Plumbing):
    """One stream in each direction; the client's stderr path has no meaning."""

    def __init__(self, paths: StdioPaths) -> None:
        super().__init__()
        if not paths.stdout:
            raise SupervisorError("failed to start console copy: a terminal needs a path for stdout")
        self._check(paths)
        self._paths = paths
        self._console = ConsoleSocket()

    @property
    def console_socket(self) -> str:  # type: ignore[override]
        """As Plumbing."""
        return self._console.path

    def connect(self) -> Wiring:
        """As Plumbing."""
        until = time.monotonic() + RENDEZVOUS_SECONDS
        master = self.owned.add(self._console.receive(RENDEZVOUS_SECONDS))
        self._console.close()
        os.set_blocking(master, False)
        stdin: Line = ()
        if self._paths.stdin:
            source, *keepers = open_input(self._paths.stdin, self.owned)
            stdin = (source, self.owned.add(os.dup(master)), *keepers)
        return Wiring(stdin, ((master, *self._sink(until)),), terminal=True)

    def close(self) -> None:
        """As Plumbing."""
        self._console.close()
        super().close()

    def _check(self, paths: StdioPaths) -> None:
        check_exists(paths.stdout)

    def _sink(self, until: float) -> Line:
        return open_output(self._paths.stdout, until, self.owned)
