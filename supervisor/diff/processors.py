"""Stream processors: programs of the administrator's that make layers of other things (contract 9.1).

(containerd: core/diff/stream.go, stream_unix.go.) One reads on standard input what it accepts and writes
what it returns, like a decrypted layer. A client's payload for it is on descriptor 3.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, BinaryIO

from supervisor.diff.media_types import APPLIED
from supervisor.errors import SupervisorError

MEDIA_TYPE_VARIABLE = "STREAM_PROCESSOR_MEDIATYPE"
MAX_CHAIN = 16
"""Processors one after the other; more than this go in a circle."""

STDERR_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Processor:
    """A configured program: `name` is that of its payload."""

    name: str
    accepts: tuple[str, ...]
    returns: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


def chain(media_type: str, processors: Sequence[Processor]) -> tuple[tuple[Processor, ...], str]:
    """The processors that a layer of this type goes through, and its type behind them.

    Raises SupervisorError when that has no end.
    """
    found: list[Processor] = []
    while media_type != APPLIED and (one := _accepting(media_type, processors)):
        found.append(one)
        media_type = one.returns
        if len(found) > MAX_CHAIN:
            raise SupervisorError(
                f"stream processors for {media_type!r} go in a circle; see [diff.stream_processors]"
            )
    return tuple(found), media_type


def _accepting(media_type: str, processors: Sequence[Processor]) -> Processor | None:
    return next((one for one in processors if media_type in one.accepts), None)


@contextmanager
def running(
    blob: BinaryIO, media_type: str, through: Sequence[Processor], payloads: Mapping[str, bytes]
) -> Iterator[Processed]:
    """What the processors `through` make of an open file; none runs any more when the block ends."""
    with ExitStack() as stack:
        source: BinaryIO | IO[bytes] = blob
        running: list[_Process] = []
        try:
            for one in through:
                process = _Process(one, media_type, source, payloads.get(one.name))
                stack.callback(process.end)
                running.append(process)
                source, media_type = process.output, one.returns
            yield Processed(running)
        except BaseException:
            for process in running:
                process.check_if_ended()
            raise


class Processed:
    """The bytes that come out at the end; a processor that failed makes the last read fail."""

    def __init__(self, running: Sequence[_Process]) -> None:
        self._running = running

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end, once every processor has ended well."""
        data = self._running[-1].output.read(size)
        if not data:
            for process in self._running:
                process.check()
        return data


class _Process:
    """One processor at work."""

    def __init__(
        self, processor: Processor, media_type: str, source: BinaryIO | IO[bytes], payload: bytes | None
    ) -> None:
        self._processor = processor
        self._status: int | None = None
        self._killed = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `end`
        reading, writing = os.pipe()
        self.output = open(reading, "rb", buffering=0)  # noqa: SIM115
        try:
            self._pid = self._start(media_type, source, writing, payload)
        except BaseException:
            self.output.close()
            self._stderr.close()
            raise
        finally:
            os.close(writing)

    def _start(
        self, media_type: str, source: BinaryIO | IO[bytes], writing: int, payload: bytes | None
    ) -> int:
        one = self._processor
        binary = shutil.which(one.path)
        if binary is None:
            raise SupervisorError(f"stream processor {one.name}: {one.path!r} is not installed")
        streams = (source.fileno(), writing, self._stderr.fileno())
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited()]
        actions += [(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams)]
        with ExitStack() as stack:
            if payload is not None:
                actions.append((os.POSIX_SPAWN_DUP2, _in_memory(payload, stack), 3))
            return os.posix_spawn(
                binary,
                [one.path, *one.args],
                _environment(one, media_type),
                file_actions=actions,
                setsigdef=[signal.SIGPIPE],
            )

    def check(self) -> None:
        """Wait for the end; raises SupervisorError unless it is a good one."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if self._status == 0 or self._killed:
            return
        self._stderr.seek(0)
        told = self._stderr.read(STDERR_BYTES).decode(errors="replace").strip()
        how = f"exit status {self._status}" if self._status > 0 else f"killed by signal {-self._status}"
        raise SupervisorError(f"stream processor {self._processor.name}: {how}: {told}")

    def check_if_ended(self) -> None:
        """Raise as `check` when it has failed by itself: that explains what followed better."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if not pid:
                return
            self._status = os.waitstatus_to_exitcode(status)
        if self._status > 0:
            self.check()

    def end(self) -> None:
        """Kill it if it still runs, and reap it."""
        self.output.close()
        if self._status is None:
            self._killed = True
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.check()
        self._stderr.close()


def _inherited() -> list[int]:
    """Descriptors that the daemon was started with, which it has no reason to pass on."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # another thread has closed it meanwhile
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _in_memory(payload: bytes, stack: ExitStack) -> int:
    descriptor = os.memfd_create("payload")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(payload)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _environment(processor: Processor, media_type: str) -> dict[str, str]:
    own = dict(entry.partition("=")[::2] for entry in processor.env)
    return {**os.environ, **own, MEDIA_TYPE_VARIABLE: media_type}
