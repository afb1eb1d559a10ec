"""Files made beside the reading of an archive: the tree is as if they were made one after the other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from supervisor.diff import file_writers
from supervisor.diff.entry import Entry, Kind
from supervisor.diff.file_writers import FileWriters
from supervisor.errors import SupervisorError


def entry(name: str) -> Entry:
    return Entry(Kind.FILE, name.encode())


def test_all_are_made_when_it_has_settled(tmp_path: Path) -> None:
    def make(one: Entry, path: bytes, data: bytes) -> None:
        (tmp_path / os.fsdecode(path)).write_bytes(data)

    writers = FileWriters(make)
    for number in range(2000):
        writers.submit(entry("f"), b"%d" % number, b"data of %d" % number)
    writers.settle()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        str(number): b"data of %d" % number for number in range(2000)
    }
    writers.close()


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by bytes: the reader waits for the threads."""
    monkeypatch.setattr(file_writers, "MAX_WAITING_BYTES", 100)
    most, held, lock = [0], [0], threading.Lock()

    def make(one: Entry, path: bytes, data: bytes) -> None:
        with lock:
            held[0] -= len(data)

    writers = FileWriters(make)
    for number in range(500):
        writers.submit(entry("f"), b"%d" % number, bytes(60))
        with lock:
            held[0] += 60
            most[0] = max(most[0], held[0])
    writers.close()
    assert most[0] <= 100 + 60 * (1 + file_writers.THREADS)


def test_the_first_failure_is_told_and_the_rest_is_not_made() -> None:
    made = []

    def make(one: Entry, path: bytes, data: bytes) -> None:
        if path == b"bad":
            raise OSError(28, "No space left on device")
        made.append(path)

    writers = FileWriters(make)
    writers.submit(entry("bad"), b"bad", b"")
    with pytest.raises(SupervisorError, match="unpack regular file 'bad': No space left"):
        writers.settle()
    with pytest.raises(SupervisorError, match="No space left"):
        writers.submit(entry("next"), b"next", b"")
    writers.close()
    assert made == []


def test_one_path_is_waited_for() -> None:
    go = threading.Event()

    def make(one: Entry, path: bytes, data: bytes) -> None:
        go.wait(10)

    writers = FileWriters(make)
    writers.submit(entry("a"), b"a", b"")
    writers.settled(b"b")  # not being made: no wait
    threading.Timer(0.05, go.set).start()
    writers.settled(b"a")
    assert go.is_set()
    writers.close()
