"""Output that goes to a program of the client's, `binary://` (containerd: core/runtime/v2/logging).

The program gets the read ends of the container's pipes as descriptors 3 and 4 and says on 5 that it
is ready: by a byte, or, in the first version of the protocol, also by closing it. No byte passes
through the shim, unless there is a terminal. The child that starts the program ends soon: then the shim,
the nearest subreaper, has it for a child (man 2 prctl, PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc.console import Terminal
from supervisor.shimv2.runc.endpoints import Descriptors
from supervisor.shimv2.runc.plumbing import Plumbing
from supervisor.shimv2.runc.spawn import Child, spawn
from supervisor.shimv2.runc.wiring import STDERR, STDOUT, Line, StdioPaths, Wiring

READY_SECONDS = 60.0

_STDOUT_END, _STDERR_END, _READY_END = 3, 4, 5


@dataclass(frozen=True, slots=True)
class LoggerCommand:
    """What to run, for which process."""

    uri: str
    process_id: str
    namespace: str

    def argv(self) -> list[str]:
        """The path, then key and first value of each parameter of the query."""
        # Rare, and dear in memory: imported where it is used.
        from urllib.parse import parse_qs, unquote, urlsplit

        parts = urlsplit(self.uri)
        query = parse_qs(parts.query, keep_blank_values=True)
        return [unquote(parts.path), *(word for key, values in query.items() for word in (key, values[0]))]

    def env(self) -> dict[str, str]:
        """The whole environment of the program."""
        return {"CONTAINER_ID": self.process_id, "CONTAINER_NAMESPACE": self.namespace}

    @property
    def must_say_ready(self) -> bool:
        """Whether closing the descriptor without a byte is a failure."""
        return self.uri.startswith("binary-v2:")


class Logger:
    """A running logging program; `stdout` and `stderr` are the ends to write to."""

    def __init__(self, command: LoggerCommand) -> None:
        self._owned = Descriptors()
        try:
            out, self.stdout = self._owned.pipe()
            err, self.stderr = self._owned.pipe()
            ready, said_by = self._owned.pipe()
            self._child = _start(command, {_STDOUT_END: out, _STDERR_END: err, _READY_END: said_by})
            self._owned.close(said_by)
            self._await_ready(command, ready)
        except BaseException:
            self._owned.close_all()
            raise

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    def release(self) -> None:
        """Close our write ends, so that the program sees the end of the container's output."""
        self._owned.close(self.stdout, self.stderr)

    def stop(self) -> None:
        """Kill the program, of a container that came to nothing."""
        self._owned.close_all()
        self._child.kill_group()

    def _await_ready(self, command: LoggerCommand, ready: int) -> None:
        poller = select.poll()
        poller.register(ready, select.POLLIN)
        said = os.read(ready, 1) if poller.poll(READY_SECONDS * 1000) else None
        if said is None or (not said and command.must_say_ready):
            self._child.kill_group()
            raise SupervisorError(f"logging binary did not call ready: {command.uri}")


def _start(command: LoggerCommand, descriptors: Mapping[int, int]) -> Child:
    argv = command.argv()
    try:
        return spawn(argv, env=command.env(), descriptors=descriptors)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SupervisorError(f"failed to start binary process: {argv[0]}: {reason}") from error


class LoggerPipes(Plumbing):
    """The container writes straight into the program's pipes; it has no input."""

    def __init__(self, command: LoggerCommand) -> None:
        super().__init__()
        self._logger = Logger(command)

    @property
    def descriptors(self) -> Mapping[int, int]:
        """As Plumbing."""
        return {STDOUT: self._logger.stdout, STDERR: self._logger.stderr}

    def release(self) -> None:
        """As Plumbing."""
        self._logger.release()

    def connect(self) -> Wiring:
        """As Plumbing."""
        return Wiring(logger=self._logger.pid)

    def close(self) -> None:
        """As Plumbing."""
        self._logger.stop()


class LoggedTerminal(Terminal):
    """A terminal whose output is copied into the program's first pipe."""

    def __init__(self, paths: StdioPaths, command: LoggerCommand) -> None:
        super().__init__(paths)
        try:
            self._logger = Logger(command)
        except BaseException:
            super().close()
            raise

    def connect(self) -> Wiring:
        """As Plumbing."""
        wiring = super().connect()
        return Wiring(wiring.stdin, wiring.outputs, terminal=True, logger=self._logger.pid)

    def close(self) -> None:
        """As Plumbing."""
        super().close()
        self._logger.stop()

    def _check(self, paths: StdioPaths) -> None:
        """The path is the program's, which is found missing when it is started."""

    def _sink(self, until: float) -> Line:
        sink = self.owned.add(os.dup(self._logger.stdout))
        os.set_blocking(sink, False)
        self._logger.release()
        return (sink,)
