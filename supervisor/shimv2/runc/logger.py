"""Output that goes to a program of the client's, `binary://` (containerd: core/runtime/v2/logging).

The program gets the read ends of the container's pipes as descriptors 3 and 4 and says on 5 that it
is ready: by a byte, or, in the first version of the protocol, also by closing it. No byte passes
through this process.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc.endpoints import Descriptors
from supervisor.shimv2.runc.loop import Loop
from supervisor.shimv2.runc.reaper import Child, Reaper
from supervisor.shimv2.runc.stdio import STDERR, STDOUT, ProcessIO, StdioPaths
from supervisor.shimv2.runc.terminal import TerminalIO

READY_SECONDS = 60.0
STOP_SECONDS = 12.0

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

    def __init__(self, command: LoggerCommand, reaper: Reaper) -> None:
        self._owned = Descriptors()
        try:
            out, self.stdout = self._owned.pipe()
            err, self.stderr = self._owned.pipe()
            ready, said_by = self._owned.pipe()
            ends = {_STDOUT_END: out, _STDERR_END: err, _READY_END: said_by}
            self._child = self._start(command, reaper, ends)
            self._owned.close(said_by)
            self._await_ready(command, ready)
        except BaseException:
            self._owned.close_all()
            raise

    def release(self) -> None:
        """Close our write ends, so that the program sees the end of the container's output."""
        self._owned.close(self.stdout, self.stderr)

    def stop(self) -> None:
        """End the program, which has some time to write what it has read."""
        self._owned.close_all()
        _end(self._child)

    def _start(self, command: LoggerCommand, reaper: Reaper, descriptors: Mapping[int, int]) -> Child:
        argv = command.argv()
        try:
            return reaper.spawn(argv, env=command.env(), descriptors=descriptors)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SupervisorError(f"failed to start binary process: {argv[0]}: {reason}") from error

    def _await_ready(self, command: LoggerCommand, ready: int) -> None:
        poller = select.poll()
        poller.register(ready, select.POLLIN)
        said = os.read(ready, 1) if poller.poll(READY_SECONDS * 1000) else None
        if said is None or (not said and command.must_say_ready):
            _end(self._child)
            raise SupervisorError(f"logging binary did not call ready: {command.uri}")


def _end(child: Child) -> None:
    child.kill(signal.SIGTERM)
    if child.wait(STOP_SECONDS) is None:
        child.kill(signal.SIGKILL)
        child.wait()


class LoggerIO(ProcessIO):
    """The container writes straight into the program's pipes; it has no input."""

    def __init__(self, command: LoggerCommand, reaper: Reaper) -> None:
        self._logger = Logger(command, reaper)

    @property
    def descriptors(self) -> Mapping[int, int]:
        """As ProcessIO."""
        return {STDOUT: self._logger.stdout, STDERR: self._logger.stderr}

    def release(self) -> None:
        """As ProcessIO."""
        self._logger.release()

    def close(self) -> None:
        """As ProcessIO; waits for the program."""
        self._logger.stop()


class LoggedTerminalIO(TerminalIO):
    """A terminal whose output is copied into the program's first pipe."""

    def __init__(self, loop: Loop, paths: StdioPaths, command: LoggerCommand, reaper: Reaper) -> None:
        super().__init__(loop, paths)
        try:
            self._logger = Logger(command, reaper)
        except BaseException:
            super().close()
            raise

    def close(self) -> None:
        """As ProcessIO; waits for the program."""
        super().close()
        self._logger.stop()

    def _check(self, paths: StdioPaths) -> None:
        """The path is the program's, which is found missing when it is started."""

    def _open_sink(self, until: float) -> tuple[int, ...]:
        sink = self.owned.add(os.dup(self._logger.stdout))
        os.set_blocking(sink, False)
        self._logger.release()
        return (sink,)
