"""Where the streams of a container's process go (containerd: process/io.go).

`iofactory` picks the kind. Each follows one protocol: made before the runtime runs, which is given
`descriptors` or `console_socket`; `begin` after the runtime has succeeded; `close` at the end, always.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from supervisor.shimv2.runc.copier import Copier, copier_for
from supervisor.shimv2.runc.endpoints import (
    RENDEZVOUS_SECONDS,
    Descriptors,
    check_exists,
    open_input,
    open_log,
    open_output,
)
from supervisor.shimv2.runc.loop import Loop

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class StdioPaths:
    """Where the client wants a process's streams, exactly as it said; empty means nowhere."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


class ProcessIO:
    """No streams at all: all three are /dev/null. Also what the other kinds have in common."""

    console_socket = ""

    @property
    def descriptors(self) -> Mapping[int, int]:
        """What the runtime's command gets as its own streams; those that are missing are /dev/null."""
        return {}

    def begin(self) -> None:
        """Meet the client and start copying. Waits; raises SupervisorError when the client is not there."""

    def release(self) -> None:
        """Close what only the runtime needed; called when its command has ended, however."""

    def process_ended(self) -> None:
        """Note that the process is gone; called by the loop."""

    def close_stdin(self) -> None:
        """Stop keeping the input open: it ends when the client's writers are gone too."""

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal, if it is one."""

    def drained(self, seconds: float) -> bool:
        """Wait until the output has been passed on to its end; False when the time ran out."""
        return True

    def close(self) -> None:
        """Give up whatever is still open."""


class CopiedIO(ProcessIO):
    """Base of the kinds whose bytes pass through this process: copiers, and when they are all done."""

    def __init__(self, loop: Loop, *, drops: bool = False) -> None:
        self.loop = loop
        self.drops = drops
        self.owned = Descriptors()
        self._copiers: list[Copier] = []
        self._outputs_open = 0
        self._drained = threading.Event()

    def start_copying(self, copiers: list[Copier], outputs: int) -> None:
        """Run `copiers`, of which `outputs` are to be waited for; in the loop."""
        self._copiers = copiers
        self._outputs_open = outputs
        if not outputs:
            self._drained.set()
        for copier in copiers:
            copier.start()

    def output_ended(self, *descriptors: int) -> None:
        """Close an output's descriptors: now the client sees its end."""
        self.owned.close(*descriptors)
        self._outputs_open -= 1
        if not self._outputs_open:
            self._drained.set()

    def drained(self, seconds: float) -> bool:
        """As ProcessIO."""
        return self._drained.wait(seconds)

    def close(self) -> None:
        """As ProcessIO."""
        self.loop.call(self._give_up)

    def _give_up(self) -> None:
        for copier in self._copiers:
            copier.stop()
        self.owned.close_all()
        self._drained.set()


class PipeIO(CopiedIO):
    """Pipes to the process, copied from and to the client's fifos or files."""

    def __init__(self, loop: Loop, paths: StdioPaths, owner: tuple[int, int], *, drops: bool = False) -> None:
        super().__init__(loop, drops=drops)
        self._paths = paths
        self._inner: dict[int, int] = {}
        self._outer: dict[int, int] = {}
        self._keepers: tuple[int, ...] = ()
        try:
            self._make_pipes(owner)
        except BaseException:
            self.owned.close_all()
            raise

    @property
    def descriptors(self) -> Mapping[int, int]:
        """As ProcessIO."""
        return self._inner

    def begin(self) -> None:
        """As ProcessIO. The order is the contract's: input keeper, stdout, stderr, input."""
        until = time.monotonic() + RENDEZVOUS_SECONDS
        source, *keepers = open_input(self._paths.stdin, self.owned) if self._paths.stdin else (-1,)
        self._keepers = tuple(keepers)
        sinks = {
            number: self._open_sink(path, until)
            for number, path in ((STDOUT, self._paths.stdout), (STDERR, self._paths.stderr))
            if path
        }
        self.loop.call(partial(self._copy, source, sinks))

    def release(self) -> None:
        """As ProcessIO."""
        self.owned.close(*self._inner.values())

    def close_stdin(self) -> None:
        """As ProcessIO."""
        self.loop.call(lambda: self.owned.close(*self._keepers))

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

    def _open_sink(self, path: str, until: float) -> tuple[int, ...]:
        return open_output(path, until, self.owned)

    def _copy(self, source: int, sinks: Mapping[int, tuple[int, ...]]) -> None:
        copiers = [self._output(self._outer[number], held) for number, held in sinks.items()]
        if source >= 0:
            inner = self._outer[STDIN]
            ended = partial(self.owned.close, source, inner)
            copiers.append(copier_for(self.loop, source, inner, ended))
        self.start_copying(copiers, len(sinks))

    def _output(self, source: int, sink_and_keepers: tuple[int, ...]) -> Copier:
        ended = partial(self.output_ended, source, *sink_and_keepers)
        return copier_for(self.loop, source, sink_and_keepers[0], ended, drops=self.drops)


def file_path(uri: str) -> str:
    """The path that `file:///p` names, read as a URI: without query and fragment, %XX decoded."""
    path = uri.partition("://")[2].partition("#")[0].partition("?")[0]
    if "%" not in path:
        return path
    # Few paths need it, and each shim would keep the module in memory.
    from urllib.parse import unquote

    return unquote(path)


class FileIO(PipeIO):
    """Both outputs appended to one file, which is created; the input as with PipeIO."""

    def __init__(self, loop: Loop, paths: StdioPaths, owner: tuple[int, int]) -> None:
        log = file_path(paths.stdout)
        super().__init__(loop, StdioPaths(paths.stdin, log, log), owner)

    def _check(self, path: str) -> None:
        if path == self._paths.stdin:
            check_exists(path)

    def _open_sink(self, path: str, until: float) -> tuple[int, ...]:
        return open_log(path, self.owned)
