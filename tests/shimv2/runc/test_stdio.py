"""Streams through real pipes and fifos (contract: tasks 3.6)."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.errors import DeadlineExceeded, SupervisorError
from supervisor.shimv2.runc import endpoints
from supervisor.shimv2.runc.endpoints import Descriptors, open_input, open_output
from supervisor.shimv2.runc.forks import Forks
from supervisor.shimv2.runc.plumbing import Pipes, PipesToFile, Plumbing, plumbing_for
from supervisor.shimv2.runc.reaper import Reaper
from supervisor.shimv2.runc.stdio import ProcessIO, io_for
from supervisor.shimv2.runc.wiring import StdioPaths
from supervisor.ttrpc.promise import Promise, begin
from tests.shimv2.runc.driving import PATIENCE, Listening, Stdio, eventually

Fifos = Callable[..., Stdio]


class Process:
    """A process's side of its streams, laid and copied as the shim and its child do."""

    def __init__(self, listening: Listening, plumbing: Plumbing) -> None:
        self._listening = listening
        self._plumbing = plumbing
        self.ends = {number: os.dup(descriptor) for number, descriptor in plumbing.descriptors.items()}
        plumbing.release()
        self.io = ProcessIO()

    def begin(self) -> None:
        """Meet the client, and copy."""
        wiring = self._plumbing.connect()
        loop, reaper = self._listening.loop, Reaper()

        def copy() -> None:
            self.io = io_for(wiring, loop, reaper, Forks(loop, reaper), drops=False)

        self._listening.within(copy)

    def drained(self, seconds: float = PATIENCE) -> bool:
        found: list[Promise[bool]] = []
        ended = threading.Event()

        def ask() -> None:
            found.append(begin(self.io.drained(seconds)))
            found[0].then(lambda _: ended.set())

        self._listening.within(ask)
        assert ended.wait(PATIENCE)
        return found[0].result()

    def close_stdin(self) -> None:
        self._listening.within(self.io.close_stdin)

    def close(self) -> None:
        self._listening.within(self.io.close)


@pytest.fixture
def laid(listening: Listening) -> Callable[[StdioPaths], Process]:
    """Lays what a client asks for."""
    return lambda paths: Process(listening, plumbing_for(paths, "c1", "ns", (0, 0)))


Laid = Callable[[StdioPaths], Process]


def _paths(stdio: Stdio) -> StdioPaths:
    return StdioPaths(stdio.stdin, stdio.stdout, stdio.stderr)


def test_bytes_pass_in_order_and_whole(laid: Laid, fifos: Fifos) -> None:
    stdio = fifos("stdout", "stderr")
    process = laid(_paths(stdio))
    ends = process.ends
    process.begin()
    data = os.urandom(1 << 20) * 8
    with open(ends[1], "wb") as out, open(ends[2], "wb") as err:
        out.write(data)
        err.write(b"problem")
    assert process.drained()
    assert hashlib.sha256(stdio.output("stdout")).digest() == hashlib.sha256(data).digest()
    assert stdio.output("stderr") == b"problem"
    process.close()


def test_what_was_written_before_the_copying_began_is_not_lost(laid: Laid, fifos: Fifos) -> None:
    stdio = fifos("stdout")
    process = laid(_paths(stdio))
    ends = process.ends
    os.write(ends[1], b"early")
    os.close(ends[1])
    process.begin()
    assert stdio.output() == b"early"
    process.close()


def test_a_slow_reader_gets_everything(laid: Laid, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    process = laid(StdioPaths(stdout=path))
    ends = process.ends
    process.begin()
    # More than both pipes hold: the writer is stopped until somebody reads.
    writing = threading.Thread(target=lambda: os.write(ends[1], b"x" * 500_000))
    writing.start()
    os.set_blocking(reader, True)
    found = 0
    while found < 500_000:
        found += len(os.read(reader, 1000))
    writing.join(20)
    os.close(ends[1])
    assert os.read(reader, 1) == b""
    os.close(reader)
    process.close()


def test_a_reader_may_leave_and_another_come(laid: Laid, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    process = laid(StdioPaths(stdout=path))
    ends = process.ends
    process.begin()
    os.close(first)
    os.write(ends[1], b"while nobody reads")
    second = os.open(path, os.O_RDONLY)
    assert os.read(second, 100) == b"while nobody reads"
    os.close(ends[1])
    assert os.read(second, 1) == b""
    os.close(second)
    process.close()


def test_input_ends_when_keeper_and_writers_are_gone(laid: Laid, fifos: Fifos) -> None:
    stdio = fifos("stdin")
    process = laid(_paths(stdio))
    ends = process.ends
    process.begin()
    with open(stdio.stdin, "wb", buffering=0) as writer:
        writer.write(b"fed")
        assert os.read(ends[0], 100) == b"fed"
    process.close_stdin()
    assert os.read(ends[0], 100) == b""
    os.close(ends[0])
    process.close()


def test_input_that_the_process_does_not_want(laid: Laid, fifos: Fifos) -> None:
    stdio = fifos("stdin")
    process = laid(_paths(stdio))
    os.close(process.ends[0])
    process.begin()
    writer = os.open(stdio.stdin, os.O_WRONLY)
    os.write(writer, b"x")

    def broken() -> bool:
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            return True
        return False

    process.close_stdin()
    eventually(broken, "the end of the input's reader")
    os.close(writer)
    process.close()


def test_input_from_a_file(laid: Laid, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"z" * 300_000)
    process = laid(StdioPaths(stdin=str(tmp_path / "in")))
    ends = process.ends
    process.begin()
    with open(ends[0], "rb") as reader:
        assert reader.read() == b"z" * 300_000
    process.close()


def test_nobody_reads_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    with pytest.raises(DeadlineExceeded, match=r"nobody opened .* for reading"):
        open_output(path, time.monotonic(), Descriptors())


def test_a_reader_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    opened: list[int] = []
    reading = threading.Thread(target=lambda: opened.append(os.open(path, os.O_RDONLY)))
    reading.start()
    owned = Descriptors()
    writer, _keeper = open_output(path, time.monotonic() + 20, owned)
    reading.join(20)
    os.write(writer, b"met")
    assert os.read(opened[0], 10) == b"met"
    os.close(opened[0])
    owned.close_all()


def test_closing_gives_up_a_reader_that_hangs(laid: Laid, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    process = laid(StdioPaths(stdout=path))
    ends = process.ends
    process.begin()
    os.set_blocking(ends[1], False)
    eventually(lambda: _is_full(ends[1]), "the filling of both pipes")
    os.close(ends[1])
    assert not process.drained(0.0)
    process.close()
    assert process.drained()
    os.close(reader)


@pytest.mark.parametrize(
    ("paths", "kind"),
    [
        (StdioPaths(), Plumbing),
        (StdioPaths(stdout="/dev/null"), Pipes),
        (StdioPaths(stdout="file:///dev/null", stderr="nonsense://x"), PipesToFile),
    ],
)
def test_the_form_of_stdout_decides(paths: StdioPaths, kind: type[Plumbing]) -> None:
    plumbing = plumbing_for(paths, "c1", "ns", (0, 0))
    assert type(plumbing) is kind
    plumbing.close()


def test_refusals(laid: Laid, tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="unknown STDIO scheme fifo"):
        laid(StdioPaths(stdout="fifo:///x"))
    with pytest.raises(SupervisorError, match="no such file or directory"):
        laid(StdioPaths(stdout=str(tmp_path / "nope")))
    with pytest.raises(SupervisorError, match="a terminal needs a path"):
        laid(StdioPaths(terminal=True))
    with pytest.raises(SupervisorError, match="failed to start binary process: /nope"):
        laid(StdioPaths(stdout="binary:///nope"))


def test_no_descriptor_is_left_open(laid: Laid, listening: Listening, fifos: Fifos) -> None:
    stdio = fifos("stdout", "stderr", "stdin")
    before = set(os.listdir("/proc/self/fd"))
    process = laid(_paths(stdio))
    ends = process.ends
    process.begin()
    for end in ends.values():
        os.close(end)
    assert process.drained()
    process.close()
    listening.within(lambda: None)
    # The threads that read the fifos let go of them once they have seen their end.
    eventually(lambda: set(os.listdir("/proc/self/fd")) <= before, "the end of every descriptor")


def test_an_input_fifo_is_kept_from_ending(tmp_path: Path) -> None:
    path = str(tmp_path / "in")
    os.mkfifo(path)
    owned = Descriptors()
    reader, keeper = open_input(path, owned)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    owned.close(keeper)
    assert os.read(reader, 1) == b""
    owned.close_all()
    assert endpoints.is_fifo(path)


def _is_full(writer: int) -> bool:
    try:
        os.write(writer, b"x" * 4096)
    except BlockingIOError:
        return True
    return False
