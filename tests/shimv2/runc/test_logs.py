"""Logs that rotate and never stop a container, and fifos that do not either when so configured."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import InvalidArgument
from supervisor.kernel import libc
from supervisor.model.instant import Nanoseconds
from supervisor.model.log_index import encode, entries, offset_of
from supervisor.shimv2.runc import copier
from supervisor.shimv2.runc.bundle import OVERFLOW_ANNOTATION
from supervisor.shimv2.runc.copier import copier_for
from supervisor.shimv2.runc.logfile import LogFile
from supervisor.shimv2.runc.logoptions import LogOptions, log_options
from supervisor.shimv2.runc.logwriter import LogWriter
from tests.shimv2.runc.driving import PATIENCE, Listening, Shim, Stdio, eventually, spec


def test_a_plain_target_is_containerds() -> None:
    """Contract 3.6: appended to; a query that is not ours means nothing."""
    assert log_options("file:///a/b.log") is None
    assert log_options("file:///a/b.log?max-size=10m&x") is None


def test_options_of_a_log() -> None:
    found = log_options(
        "file:///a/b%20c.log?rotate-size=64k&rotate-count=3&buffer-size=1M&overflow=block&index=no"
    )
    assert found == LogOptions("/a/b c.log", 64 << 10, 3, 1 << 20, drops=False, indexed=False)
    assert log_options("file:///a?rotate-size=5000") == LogOptions("/a", 5000)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("rotate-size=1k", "a size of 4k or more"),
        ("rotate-size=ten", "a size of 4k or more"),
        ("rotate-size=-5m", "a size of 4k or more"),
        ("rotate-count=0", "1 to 1000 files"),
        ("overflow=maybe", "drop or block is wanted"),
        ("rotate-size=1m&rotate-cuont=3", "option rotate-cuont is not known; known are"),
    ],
)
def test_options_that_are_refused(query: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        log_options(f"file:///a?{query}")


def written(log: LogFile, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[log.write(view) :]


def test_files_are_cut_between_lines_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "sub/log"
    log = LogFile(LogOptions(str(path), rotate_size=10, rotate_count=3))
    for line in (b"1111\n", b"222\n", b"33333\n", b"4444\n", b"0123456789abc\n", b"5\n"):
        written(log, line)
    log.close()
    names = ("log.2", "log.1", "log")
    assert [(path.parent / name).read_bytes() for name in names] == [b"4444\n", b"0123456789", b"abc\n5\n"]
    assert sorted(one.name for one in path.parent.iterdir()) == sorted(
        [*names, *(f"{name}.index" for name in names)]
    )


def test_every_file_may_be_read_by_those_who_may_read_the_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch(0o600)
    log = LogFile(LogOptions(str(path), rotate_size=10))
    for line in (b"11111\n", b"22222\n"):
        written(log, line)
    log.close()
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}


def test_one_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(LogOptions(str(path), rotate_size=10, rotate_count=1, indexed=False))
    for line in (b"11111\n", b"22222\n", b"3\n"):
        written(log, line)
    log.close()
    assert path.read_bytes() == b"22222\n3\n"
    assert os.listdir(tmp_path) == ["log"]


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    options = LogOptions(str(tmp_path / "log"), rotate_size=10)
    for line in (b"11111\n", b"22222\n"):
        log = LogFile(options)
        written(log, line)
        log.close()
    assert (tmp_path / "log").read_bytes() == b"22222\n"
    assert (tmp_path / "log.1").read_bytes() == b"11111\n"


def test_the_index_tells_where_a_moment_begins(tmp_path: Path) -> None:
    index = b"".join(encode(Nanoseconds(at), offset) for at, offset in ((10, 0), (20, 100), (30, 250)))
    assert [offset_of(index, Nanoseconds(at)) for at in (5, 10, 19, 20, 99)] == [0, 0, 0, 100, 250]
    assert list(entries(index[:-1])) == [(10, 0), (20, 100)]


class Disk:
    """A small filesystem of its own, which is filled and emptied."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fill(self) -> None:
        with (self.place / "ballast").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                return

    def empty(self) -> None:
        (self.place / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    libc.mount("tmpfs", str(place), "tmpfs", 0, "size=1m")
    yield Disk(place)
    libc.umount2(str(place), 2)


class Written:
    """A writer, and what it told."""

    def __init__(self, options: LogOptions) -> None:
        self.path = Path(options.path)
        self.room, self.ended = threading.Event(), threading.Event()
        self.writer = LogWriter(options, has_room=self.room.set, ended=self.ended.set)

    def end(self) -> bytes:
        self.writer.finish()
        assert self.ended.wait(PATIENCE)
        return self.path.read_bytes()


@pytest.mark.root
def test_what_a_full_disk_did_not_take_is_counted_in_its_place(disk: Disk) -> None:
    log = Written(LogOptions(str(disk.place / "log"), buffer_size=4096))
    assert log.writer.offer(b"before\n")
    eventually(lambda: log.path.read_bytes() == b"before\n")
    disk.fill()
    # The rest of the page that is there already still takes some.
    pieces = [f"{number:4}{'.' * 995}\n".encode() for number in range(20)]
    for piece in pieces:
        assert log.writer.offer(piece)
    disk.empty()
    found = log.end()
    lost = len(pieces) - found.count(b"...\n")
    assert 0 < lost < len(pieces)
    assert found.startswith(b"before\n" + b"".join(pieces[: len(pieces) - lost]))
    assert f"[container-supervisor: {lost * 1000} bytes dropped from ".encode() in found
    assert found.endswith(b"the disk did not keep up]\n")


@pytest.mark.root
def test_blocking_refuses_until_there_is_room_and_loses_nothing(disk: Disk) -> None:
    log = Written(LogOptions(str(disk.place / "log"), buffer_size=4096, drops=False))
    disk.fill()
    pieces = iter(f"{number:4}{'.' * 995}\n".encode() for number in range(20))
    taken = []
    for refused in pieces:
        if not log.writer.offer(refused):
            break
        taken.append(refused)
    disk.empty()
    assert log.room.wait(PATIENCE)
    for piece in (refused, *pieces):
        while not log.writer.offer(piece):
            assert log.room.wait(PATIENCE)
        taken.append(piece)
    assert log.end() == b"".join(taken)
    assert len(taken) == 20


@pytest.mark.root
def test_a_writer_that_is_given_up_ends_though_the_disk_is_full(disk: Disk) -> None:
    log = Written(LogOptions(str(disk.place / "log")))
    disk.fill()
    log.writer.offer(b"x" * 100_000)
    log.writer.give_up()
    assert log.ended.wait(PATIENCE)


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "sub/log"
    log = LogFile(LogOptions(str(path), rotate_size=10, indexed=False))
    written(log, b"1111111\n")
    path.unlink()
    path.parent.rmdir()
    written(log, b"2222222\n")
    log.close()
    assert path.read_bytes() == b"2222222\n"


@pytest.mark.root
@pytest.mark.compat
def test_a_container_writes_into_a_log_that_rotates(shim: Shim, tmp_path: Path) -> None:
    path = tmp_path / "logs/c1.log"
    stdio = Stdio(tmp_path)
    stdio.stdout = f"file://{path}?rotate-size=64k&rotate-count=100&overflow=block"
    shim.begin("c1", ["sh", "-c", "seq 1 100000; echo error >&2"], stdio)
    assert shim.wait("c1").exit_status == 0
    shim.delete("c1")
    files = sorted(
        path.parent.glob("*.log*"), key=lambda one: int(one.suffix[1:]) if one.suffix[1:].isdigit() else 0
    )
    files = [one for one in reversed(files) if one.suffix != ".index"]
    found = b"".join(one.read_bytes() for one in files)
    expected = b"".join(b"%d\n" % number for number in range(1, 100001)) + b"error\n"
    assert hashlib.sha256(found).digest() == hashlib.sha256(expected).digest()
    assert len(files) > 5
    assert all(one.stat().st_size <= 64 << 10 for one in files)
    assert next(entries(Path(f"{path}.index").read_bytes()))[1] == 0


@pytest.mark.root
@pytest.mark.compat
def test_a_writer_that_is_killed_is_replaced(shim: Shim, tmp_path: Path) -> None:
    path = tmp_path / "c1.log"
    stdio = Stdio(tmp_path)
    stdio.stdout = f"file://{path}?rotate-size=1m&overflow=block"
    shim.begin("c1", ["sh", "-c", "echo before; while [ ! -e /tmp/no ]; do sleep 0.1; echo x; done"], stdio)
    eventually(lambda: path.read_bytes().startswith(b"before"), "output")
    (shim_pid,) = shim.pids
    init = shim.state("c1").pid
    children = Path(f"/proc/{shim_pid}/task/{shim_pid}/children")
    eventually(lambda: len(children.read_text().split()) == 2, "the end of the worker that made it")
    (writer,) = {int(word) for word in children.read_text().split()} - {init}
    os.kill(writer, signal.SIGKILL)
    size = path.stat().st_size
    eventually(lambda: path.stat().st_size > size + 20, "more output")
    shim.kill("c1")
    shim.wait("c1")
    shim.delete("c1")
    assert path.read_bytes().endswith(b"x\n")


@pytest.mark.root
@pytest.mark.compat
def test_a_full_disk_stops_neither_the_container_nor_its_end(shim: Shim, disk: Disk, tmp_path: Path) -> None:
    disk.fill()
    stdio = Stdio(tmp_path)
    os.truncate(disk.place / "ballast", 900_000)
    stdio.stdout = f"file://{disk.place}/log?rotate-size=100m&buffer-size=64k"
    shim.begin("c1", ["sh", "-c", "yes | head -c 10000000; exit 3"], stdio)
    assert shim.wait("c1").exit_status == 3
    disk.empty()
    shim.delete("c1")
    assert b" bytes dropped from " in (disk.place / "log").read_bytes()


@pytest.mark.root
@pytest.mark.compat
def test_a_log_option_that_is_wrong_refuses_the_create(shim: Shim, tmp_path: Path) -> None:
    stdio = Stdio(tmp_path)
    stdio.stdout = f"file://{tmp_path}/log?rotate-size=none"
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    with pytest.raises(InvalidArgument, match="create init process I/O: log option rotate-size=none"):
        shim.create("c1", stdio)


@pytest.mark.root
@pytest.mark.compat
def test_a_fifo_that_nobody_reads_stops_the_process_only_by_default(shim: Shim, tmp_path: Path) -> None:
    """Contract 3.6 and its exception, by annotation: the process goes on, a later reader gets new output."""
    stdio = Stdio(tmp_path)
    stdio.stdout = str(tmp_path / "out")
    os.mkfifo(stdio.stdout)
    reader = os.open(stdio.stdout, os.O_RDONLY | os.O_NONBLOCK)
    config = spec(["sh", "-c", "yes | head -c 1000000; exit 3"])
    config["annotations"][OVERFLOW_ANNOTATION] = "drop"
    shim.bundle("c1", config)
    shim.start("c1")
    shim.create("c1", stdio)
    os.close(reader)
    shim.start_process("c1")
    assert shim.wait("c1").exit_status == 3
    shim.delete("c1")


def test_an_overflow_policy_that_is_none(shim: Shim) -> None:
    config = spec(["true"])
    config["annotations"][OVERFLOW_ANNOTATION] = "whatever"
    shim.bundle("c1", config)
    done = shim.run_binary("c1", "start", stdin=shim.params("c1"))
    assert done.returncode == 1
    assert b"block or drop is wanted" in done.stderr


def test_what_a_slow_reader_does_not_take_is_dropped_and_then_it_goes_on(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(copier, "PATIENCE", 0.3)
    source, writer = os.pipe()
    reader, sink = os.pipe()
    os.set_blocking(source, False)
    os.set_blocking(sink, False)
    ended = threading.Event()
    listening.within(lambda: copier_for(listening.loop, source, sink, ended.set, drops=True).start())
    for _ in range(100):
        os.write(writer, b"x" * 65536)
    found = bytearray()

    def read() -> None:
        while piece := os.read(reader, 65536):
            found.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    os.write(writer, b"after")
    os.close(writer)
    assert ended.wait(PATIENCE)
    os.close(sink)
    thread.join()
    assert found.endswith(b"after")
    assert len(found) < 100 * 65536
    assert "bytes of output were dropped, since nobody read them" in capfd.readouterr().err
    os.close(source)
    os.close(reader)
