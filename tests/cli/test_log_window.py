"""What of a log is shown: by time, by lines, over its rotated files."""

from pathlib import Path

import pytest

from supervisor.cli import log_window
from supervisor.cli.log_window import Wanted
from supervisor.cli.logs import Reader
from supervisor.cli.moments import moment
from supervisor.errors import FailedPrecondition, InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds, now, parse_rfc3339
from supervisor.model.log_index import encode

START = parse_rfc3339("2026-03-01T12:00:00Z")


def at(seconds: float) -> Nanoseconds:
    return Nanoseconds(START + int(seconds * SECOND))


def a_file(path: Path, *written: tuple[float, str]) -> None:
    """A file of a log: what was written in which second."""
    content, index = "", b""
    for seconds, text in written:
        index += encode(at(seconds), len(content))
        content += text
    path.write_text(content)
    path.with_name(f"{path.name}.index").write_bytes(index)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three files of two seconds each."""
    a_file(tmp_path / "c.log.2", (0, "a1\na2\n"), (10, "b1\nb2\n"))
    a_file(tmp_path / "c.log.1", (20, "c1\nc2\n"), (30, "d1\nd2\n"))
    a_file(tmp_path / "c.log", (40, "e1\ne2\n"), (50, "f1\nf2\n"))
    return tmp_path / "c.log"


def shown(log: Path, **wanted: object) -> list[str]:
    reader = Reader(log, Wanted(**wanted))
    try:
        pieces = []
        while data := reader.read():
            pieces.append(data)
        return b"".join(pieces).decode().split()
    finally:
        reader.close()


ALL = ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2", "e1", "e2", "f1", "f2"]


@pytest.mark.parametrize(
    ("since", "until", "begin", "end"),
    [
        (None, None, "a1", "f2"),
        (-5, None, "a1", "f2"),
        (5, None, "b1", "f2"),
        (10, None, "b1", "f2"),
        (10.9, None, "b1", "f2"),  # the second that began at 10 is not over yet
        (11, None, "c1", "f2"),
        (31, None, "e1", "f2"),
        (45, None, "f1", "f2"),
        (None, 0, "a1", "a2"),
        (None, 9, "a1", "a2"),
        (None, 25, "a1", "c2"),
        (None, 60, "a1", "f2"),
        (5, 45, "b1", "e2"),
        (12, 22, "c1", "c2"),
        (40, 40, "e1", "e2"),
    ],
)
def test_by_time(log, since, until, begin, end):
    wanted = {"since": None if since is None else at(since), "until": None if until is None else at(until)}
    assert shown(log, **wanted) == ALL[ALL.index(begin) : ALL.index(end) + 1]


@pytest.mark.parametrize("wanted", [{"since": at(60)}, {"until": at(-1)}, {"since": at(12), "until": at(18)}])
def test_a_time_in_which_nothing_was_written(log, wanted):
    assert shown(log, **wanted) == []


@pytest.mark.parametrize("count", range(14))
def test_the_last_lines_over_all_files(log, count):
    assert shown(log, tail=count) == ALL[len(ALL) - min(count, 12) :]


def test_the_last_lines_of_a_time(log):
    assert shown(log, since=at(5), until=at(25), tail=3) == ["b2", "c1", "c2"]
    assert shown(log, until=at(25), tail=0) == []


def test_lines_of_any_length_are_shown_whole(tmp_path, monkeypatch):
    """One goes on in the next second, another in the next file, a last one has no end yet."""
    monkeypatch.setattr(log_window, "_PIECE_BYTES", 3)
    log = tmp_path / "c.log"
    a_file(tmp_path / "c.log.1", (0, "old\nlong-"), (10, "line\nmiddle\nover-"), (20, "two-"))
    a_file(log, (30, "files\nlast"))
    assert shown(log, since=at(5)) == ["long-line", "middle", "over-two-files", "last"]
    assert shown(log, until=at(5)) == ["old", "long-line"]
    assert shown(log, tail=1) == ["last"]
    assert shown(log, tail=2) == ["over-two-files", "last"]
    assert shown(log, tail=4) == ["long-line", "middle", "over-two-files", "last"]
    assert shown(log, tail=9)[0] == "old"


def test_without_times_nothing_is_chosen_by_time(tmp_path):
    log = tmp_path / "c.log"
    log.write_text("1\n2\n")
    with pytest.raises(FailedPrecondition, match=r"c\.log has no time index"):
        shown(log, since=at(0))
    assert shown(log, tail=1) == ["2"]
    log.write_text("")
    assert shown(log, since=at(0)) == []


def test_what_was_there_before_the_first_time_is_older(tmp_path):
    log = tmp_path / "c.log"
    a_file(log, (0, ""), (10, "x\n"))
    log.with_name("c.log.index").write_bytes(encode(at(10), 6))
    log.write_text("older\nnewer\n")
    assert shown(log, since=at(10)) == ["newer"]
    assert shown(log, since=at(5)) == ["older", "newer"]
    assert shown(log, until=at(5)) == ["older"]


def test_what_follows_is_read_on_and_over_a_rotation(log):
    reader = Reader(log, Wanted(tail=1))
    assert reader.read() == b"f2\n"
    assert reader.read() == b""
    with log.open("a") as file:
        file.write("g1\n")
    log.rename(log.with_name("c.log.1"))
    a_file(log, (60, "h1\n"))
    assert [reader.read(), reader.read(), reader.read()] == [b"g1\n", b"h1\n", b""]
    reader.close()


def test_what_comes_later_is_not_shown_of_a_time_that_is_over(log):
    """Also when files that were counted have gone before they were read."""
    reader = Reader(log, Wanted(until=at(45)))
    assert reader.read() == b"a1\na2\nb1\nb2\n"
    with log.open("a") as file:
        file.write("late\n")
    for name in ("c.log.2", "c.log.1"):
        log.with_name(name).unlink()
        log.with_name(f"{name}.index").unlink()
    assert [reader.read(), reader.read()] == [b"e1\ne2\n", b""]
    reader.close()


def test_wishes_that_cannot_be_met():
    with pytest.raises(InvalidArgument, match="--tail -1: a number of lines"):
        Wanted(tail=-1)
    with pytest.raises(InvalidArgument, match=r"--since 2026-03-01T12:00:02Z is after --until 2026"):
        Wanted(at(2), at(1))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172800), ("0s", 0)],
)
def test_spans_are_back_from_now(text, seconds):
    before = now()
    found = moment(text, "--since") + int(seconds * SECOND)
    assert before <= found <= now()


def test_times_are_rfc_3339():
    assert moment("2026-03-01T13:00:00.5+01:00", "--since") == at(0.5)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "10", "m", "-5m", "10 m", "2026-03-01", "1h-5m", "1e3s", "²s"]
)
def test_other_times_are_explained(text):
    with pytest.raises(
        InvalidArgument, match=r"--until: time .* not RFC 3339.*a span back from now, like 10m"
    ):
        moment(text, "--until")
