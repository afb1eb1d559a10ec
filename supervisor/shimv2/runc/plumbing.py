"""A process's streams, laid where the runtime needs them (containerd: process/io.go).

`plumbing_for` picks the kind: the terminal flag decides, then the form of the stdout path alone;
stderr's is never looked at. Each kind follows one protocol, in the child that works on a create or an
exec: made before the runtime runs, which is given `descriptors` or `console_socket`; `connect` after the
runtime has succeeded; `close` when anything fails. What is then left to do with the bytes is `stdio`'s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc.endpoints import (
    RENDEZVOUS_SECONDS,
    Descriptors,
    check_exists,
    open_input,
    open_log,
    open_output,
)
from supervisor.shimv2.runc.wiring import STDERR, STDIN, STDOUT, Line, StdioPaths, Wiring

_LOGGERS = ("binary", "binary-v2")


class Plumbing:
    """No streams at all: all three are /dev/null. Also what the other kinds have in common."""

    console_socket = ""

    def __init__(self) -> None:
        self.owned = Descriptors()

    @property
    def descriptors(self) -> Mapping[int, int]:
        """What the runtime's command gets as its own streams; those that are missing are /dev/null."""
        return {}

    def release(self) -> None:
        """Close what only the runtime needed; called when its command has ended, however."""

    def connect(self) -> Wiring:
        """Meet the client. Waits; raises SupervisorError when the client is not there."""
        return Wiring()

    def close(self) -> None:
        """Give everything up."""
        self.owned.close_all()


class Pipes(Plumbing):
    """Pipes to the process, to be copied from and to the client's fifos or files."""

    def __init__(self, paths: StdioPaths, owner: tuple[int, int]) -> None:
        super().__init__()
        self._paths = paths
        self._inner: dict[int, int] = {}
        self._outer: dict[int, int] = {}
        try:
            self._make_pipes(owner)
        except BaseException:
            self.close()
            raise

    @property
    def descriptors(self) -> Mapping[int, int]:
        """As Plumbing."""
        return self._inner

    def release(self) -> None:
        """As Plumbing."""
        self.owned.close(*self._inner.values())

    def connect(self) -> Wiring:
        """As Plumbing. The order is the contract's: input keeper, stdout, stderr, input."""
        until = time.monotonic() + RENDEZVOUS_SECONDS
        stdin: Line = ()
        if self._paths.stdin:
            source, *keepers = open_input(self._paths.stdin, self.owned)
            stdin = (source, self._outer[STDIN], *keepers)
        outputs = ((STDOUT, self._paths.stdout), (STDERR, self._paths.stderr))
        lines = [(self._outer[number], *self._sink(path, until)) for number, path in outputs if path]
        return Wiring(stdin, tuple(lines))

    def _make_pipes(self, owner: tuple[int, int]) -> None:
        for number, path in enumerate((self._paths.stdin, self._paths.stdout, self._paths.stderr)):
            if not path:
                continue
            self._check(path)
            reader, writer = self.owned.pipe()
            inner, outer = (reader, writer) if number == STDIN else (writer, reader)
            os.set_blocking(outer, False)
            if any(owner):
                os.fchown(inner, *owner)
            self._inner[number], self._outer[number] = inner, outer

    def _check(self, path: str) -> None:
        check_exists(path)

    def _sink(self, path: str, until: float) -> Line:
        return open_output(path, until, self.owned)


class PipesToFile(Pipes):
    """Both outputs appended to one file, which is created; the input as with Pipes."""

    def __init__(self, paths: StdioPaths, owner: tuple[int, int]) -> None:
        log = file_path(paths.stdout)
        super().__init__(StdioPaths(paths.stdin, log, log), owner)

    def _check(self, path: str) -> None:
        if path == self._paths.stdin:
            check_exists(path)

    def _sink(self, path: str, until: float) -> Line:
        return open_log(path, self.owned)


class PipesToLog(PipesToFile):
    """Both outputs into one log, which a process of its own writes; the input as with Pipes."""

    def __init__(self, paths: StdioPaths, owner: tuple[int, int]) -> None:
        super().__init__(paths, owner)
        self._uri = paths.stdout

    def connect(self) -> Wiring:
        """As Plumbing; a log that cannot be opened is found here, while there is somebody to tell."""
        from supervisor.shimv2.runc.logio import check_log

        check_log(self._uri)
        wiring = super().connect()
        return Wiring(wiring.stdin, wiring.outputs, log=self._uri)

    def _sink(self, path: str, until: float) -> Line:
        return ()


def plumbing_for(paths: StdioPaths, process_id: str, namespace: str, owner: tuple[int, int]) -> Plumbing:
    """The streams for one process; raises SupervisorError. The rarer kinds are imported when needed."""
    scheme = _scheme_of(paths.stdout)
    if scheme in _LOGGERS:
        from supervisor.shimv2.runc import logger

        command = logger.LoggerCommand(paths.stdout, process_id, namespace)
        return logger.LoggedTerminal(paths, command) if paths.terminal else logger.LoggerPipes(command)
    if paths.terminal:
        from supervisor.shimv2.runc.console import Terminal

        return Terminal(paths)
    match scheme:
        case "" if paths.stdin or paths.stdout or paths.stderr:
            return Pipes(paths, owner)
        case "":
            return Plumbing()
        case "file":
            return (PipesToLog if _asks_for_log(paths.stdout) else PipesToFile)(paths, owner)
    raise SupervisorError(f"unknown STDIO scheme {scheme}")


def file_path(uri: str) -> str:
    """The path that `file:///p` names, read as a URI: without query and fragment, %XX decoded."""
    path = uri.partition("://")[2].partition("#")[0].partition("?")[0]
    if "%" not in path:
        return path
    from urllib.parse import unquote

    return unquote(path)


def _asks_for_log(uri: str) -> bool:
    if "?" not in uri:
        return False
    from supervisor.shimv2.runc.logoptions import log_options

    return log_options(uri) is not None


def _scheme_of(path: str) -> str:
    scheme, separator, _ = path.partition("://")
    return scheme if separator else ""
