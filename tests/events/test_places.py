"""The places of subscribers: kept over a daemon's end for those who come back, and for nobody else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from supervisor.events import places
from supervisor.events.places import Places, Subscriber

FILTERS = ["topic~=|^/tasks/|"]


@pytest.fixture
def me() -> Subscriber:
    found = Subscriber.of(os.getpid(), FILTERS)
    assert found is not None
    return found


def leave(folder: Path, subscriber: Subscriber, sequence: int) -> None:
    """Subscribe, be told of events up to one, and lose the daemon."""
    with Places(folder).kept(subscriber, 0) as place:
        place.mark(sequence)
        place.lasting = True


def test_a_new_subscriber_begins_at_the_end(tmp_path: Path, me: Subscriber) -> None:
    with Places(tmp_path / "places").kept(me, 7) as place:
        assert (place.sequence, place.returning) == (7, False)


def test_one_who_comes_back_goes_on_where_it_was(tmp_path: Path, me: Subscriber) -> None:
    leave(tmp_path, me, 8)
    later = Places(tmp_path)
    with later.kept(me, 20) as place:
        assert (place.sequence, place.returning) == (8, True)
    with later.kept(me, 20) as place:
        assert not place.returning


def test_it_may_lose_more_than_one_daemon(tmp_path: Path, me: Subscriber) -> None:
    leave(tmp_path, me, 8)
    Places(tmp_path)  # a daemon that it never came to
    leave(tmp_path, me, 11)
    with Places(tmp_path).kept(me, 20) as place:
        assert (place.sequence, place.returning) == (11, True)


def test_each_of_several_subscriptions_has_its_place(tmp_path: Path, me: Subscriber) -> None:
    former = Places(tmp_path)
    with former.kept(me, 0) as first, former.kept(me, 0) as second:
        first.mark(3)
        second.mark(4)
        first.lasting = second.lasting = True
    later = Places(tmp_path)
    with later.kept(me, 9) as first, later.kept(me, 9) as second, later.kept(me, 9) as third:
        assert {first.sequence, second.sequence} == {3, 4}
        assert (third.sequence, third.returning) == (9, False)


def test_other_filters_are_another_subscription(tmp_path: Path, me: Subscriber) -> None:
    leave(tmp_path, me, 8)
    other = Subscriber.of(os.getpid(), [])
    with Places(tmp_path).kept(other, 9) as place:
        assert not place.returning


def test_another_process_is_another_subscriber(tmp_path: Path, me: Subscriber) -> None:
    leave(tmp_path, me, 8)
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            other = Subscriber.of(process.pid, FILTERS)
            assert other is not None
            with Places(tmp_path).kept(other, 9) as place:
                assert not place.returning
        finally:
            process.kill()
    assert not other.alive
    assert Subscriber.of(process.pid, FILTERS) is None
    assert Subscriber.of(0, FILTERS) is None


def test_nobody_waits_for_the_dead(tmp_path: Path, me: Subscriber) -> None:
    gone = Subscriber(me.pid, me.started + 1, me.filters)
    leave(tmp_path, gone, 8)
    assert len(list(tmp_path.iterdir())) == 1
    with Places(tmp_path).kept(None, 9) as place:
        assert not place.returning
    assert list(tmp_path.iterdir()) == []


def test_nobody_waits_for_ever(tmp_path: Path, me: Subscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, me, 8)
    monkeypatch.setattr(places, "RETURN_SECONDS", -1.0)
    with Places(tmp_path).kept(me, 9) as place:
        assert (place.sequence, place.returning) == (9, False)


def test_a_subscriber_that_leaves_leaves_nothing(tmp_path: Path, me: Subscriber) -> None:
    with Places(tmp_path).kept(me, 0) as place:
        place.mark(3)
        (file,) = tmp_path.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


def test_a_place_in_another_store_is_none(tmp_path: Path, me: Subscriber) -> None:
    leave(tmp_path, me, 1000)
    with Places(tmp_path).kept(me, 9) as place:
        assert place.sequence == 9


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8, b"\0" * 8 + b"[1, 2", b"\0" * 8 + b"7", b"\0\0[1, 2, []]"]
)
def test_what_a_crash_cut_short_is_removed(tmp_path: Path, me: Subscriber, content: bytes) -> None:
    (tmp_path / "1.2.0").write_bytes(content)
    with Places(tmp_path).kept(me, 9) as place:
        assert not place.returning
    assert list(tmp_path.iterdir()) == []


def test_too_many_filters_have_no_place(tmp_path: Path) -> None:
    wordy = Subscriber.of(os.getpid(), ["x" * places.LONGEST_FILTERS])
    with Places(tmp_path).kept(wordy, 9) as place:
        assert place.sequence == 9
        place.mark(10)
        assert list(tmp_path.iterdir()) == []
