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
from supervisor.shimv2.runc.iofactory import IOFactory
from supervisor.shimv2.runc.reaper import Reaper
from supervisor.shimv2.runc.stdio import FileIO, PipeIO, ProcessIO, StdioPaths
from tests.shimv2.runc.driving import Listening, Stdio, eventually

Fifos = Callable[..., Stdio]


@pytest.fixture
def factory(listening: Listening, reaper: Reaper) -> IOFactory:
    return IOFactory(listening.loop, reaper, "ns", (0, 0))


def _paths(stdio: Stdio) -> StdioPaths:
    return StdioPaths(stdio.stdin, stdio.stdout, stdio.stderr)


def _process(io: ProcessIO) -> dict[int, int]:
    """The process's ends of its pipes, as its own descriptors; then the shim lets go of them."""
    ends = {number: os.dup(descriptor) for number, descriptor in io.descriptors.items()}
    io.release()
    return ends


def test_bytes_pass_in_order_and_whole(factory: IOFactory, fifos: Fifos) -> None:
    stdio = fifos("stdout", "stderr")
    io = factory.make(_paths(stdio), "c1")
    ends = _process(io)
    io.begin()
    data = os.urandom(1 << 20) * 8
    with open(ends[1], "wb") as out, open(ends[2], "wb") as err:
        out.write(data)
        err.write(b"problem")
    assert io.drained(20)
    assert hashlib.sha256(stdio.output("stdout")).digest() == hashlib.sha256(data).digest()
    assert stdio.output("stderr") == b"problem"
    io.close()


def test_what_was_written_before_the_copying_began_is_not_lost(factory: IOFactory, fifos: Fifos) -> None:
    stdio = fifos("stdout")
    io = factory.make(_paths(stdio), "c1")
    ends = _process(io)
    os.write(ends[1], b"early")
    os.close(ends[1])
    io.begin()
    assert stdio.output() == b"early"
    io.close()


def test_a_slow_reader_gets_everything(factory: IOFactory, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    io = factory.make(StdioPaths(stdout=path), "c1")
    ends = _process(io)
    io.begin()
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
    io.close()


def test_a_reader_may_leave_and_another_come(factory: IOFactory, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    io = factory.make(StdioPaths(stdout=path), "c1")
    ends = _process(io)
    io.begin()
    os.close(first)
    os.write(ends[1], b"while nobody reads")
    second = os.open(path, os.O_RDONLY)
    assert os.read(second, 100) == b"while nobody reads"
    os.close(ends[1])
    assert os.read(second, 1) == b""
    os.close(second)
    io.close()


def test_input_ends_when_keeper_and_writers_are_gone(factory: IOFactory, fifos: Fifos) -> None:
    stdio = fifos("stdin")
    io = factory.make(_paths(stdio), "c1")
    ends = _process(io)
    io.begin()
    with open(stdio.stdin, "wb", buffering=0) as writer:
        writer.write(b"fed")
        assert os.read(ends[0], 100) == b"fed"
    io.close_stdin()
    assert os.read(ends[0], 100) == b""
    os.close(ends[0])
    io.close()


def test_input_that_the_process_does_not_want(factory: IOFactory, fifos: Fifos) -> None:
    stdio = fifos("stdin")
    io = factory.make(_paths(stdio), "c1")
    os.close(_process(io)[0])
    io.begin()
    writer = os.open(stdio.stdin, os.O_WRONLY)
    os.write(writer, b"x")

    def broken() -> bool:
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            return True
        return False

    io.close_stdin()
    eventually(broken, "the end of the input's reader")
    os.close(writer)
    io.close()


def test_input_from_a_file(factory: IOFactory, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"z" * 300_000)
    io = factory.make(StdioPaths(stdin=str(tmp_path / "in")), "c1")
    ends = _process(io)
    io.begin()
    with open(ends[0], "rb") as reader:
        assert reader.read() == b"z" * 300_000
    io.close()


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


def test_closing_gives_up_a_reader_that_hangs(factory: IOFactory, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    io = factory.make(StdioPaths(stdout=path), "c1")
    ends = _process(io)
    io.begin()
    os.set_blocking(ends[1], False)
    eventually(lambda: _is_full(ends[1]), "the filling of both pipes")
    os.close(ends[1])
    assert not io.drained(0.0)
    io.close()
    assert io.drained(20)
    os.close(reader)


@pytest.mark.parametrize(
    ("paths", "kind"),
    [
        (StdioPaths(), ProcessIO),
        (StdioPaths(stdout="/dev/null"), PipeIO),
        (StdioPaths(stdout="file:///dev/null", stderr="nonsense://x"), FileIO),
    ],
)
def test_the_form_of_stdout_decides(factory: IOFactory, paths: StdioPaths, kind: type[ProcessIO]) -> None:
    io = factory.make(paths, "c1")
    assert type(io) is kind
    io.close()


def test_refusals(factory: IOFactory, tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="unknown STDIO scheme fifo"):
        factory.make(StdioPaths(stdout="fifo:///x"), "c1")
    with pytest.raises(SupervisorError, match="no such file or directory"):
        factory.make(StdioPaths(stdout=str(tmp_path / "nope")), "c1")
    with pytest.raises(SupervisorError, match="a terminal needs a path"):
        factory.make(StdioPaths(terminal=True), "c1")
    with pytest.raises(SupervisorError, match="failed to start binary process: /nope"):
        factory.make(StdioPaths(stdout="binary:///nope"), "c1")


def test_no_descriptor_is_left_open(factory: IOFactory, listening: Listening, fifos: Fifos) -> None:
    stdio = fifos("stdout", "stderr", "stdin")
    before = set(os.listdir("/proc/self/fd"))
    io = factory.make(_paths(stdio), "c1")
    ends = _process(io)
    io.begin()
    for end in ends.values():
        os.close(end)
    assert io.drained(20)
    io.close()
    listening.within(lambda: None)
    assert set(os.listdir("/proc/self/fd")) <= before


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
