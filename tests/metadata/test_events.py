"""The journal: what others publish and forward, and reading it from a place on."""

from __future__ import annotations

import pytest

from supervisor.errors import InvalidArgument
from supervisor.metadata import events
from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.events import Bounds
from supervisor.model.any import Any
from supervisor.model.event import Envelope
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import Nanoseconds, now

BLUE = Namespace("blue")


def since(database: Database, sequence: int, limit: int = 100) -> list[Envelope]:
    return database.read(lambda c: events.since(c, sequence, limit))


def test_publish_stamps_and_forward_does_not(database: Database) -> None:
    payload = Any("some.Type", b"\x00\xff")
    database.write(lambda tx: events.publish(tx, BLUE, "/a/b", payload))
    database.write(lambda tx: events.forward(tx, Envelope(Nanoseconds(5), "aqua", "/c", None)))
    first, second = since(database, 0)
    assert first == Envelope(first.timestamp, "blue", "/a/b", payload, 1)
    assert first.timestamp > 1_000_000_000
    assert second == Envelope(Nanoseconds(5), "aqua", "/c", None, 2)


@pytest.mark.parametrize("topic", ["", "/", "a", "a/b", "/a/", "//a", "/a b", "/a//b"])
def test_malformed_topics(database: Database, topic: str) -> None:
    with pytest.raises(InvalidArgument):
        database.write(lambda tx: events.publish(tx, BLUE, topic, None))
    with pytest.raises(InvalidArgument):
        database.write(lambda tx: events.forward(tx, Envelope(Nanoseconds(1), "blue", topic, None)))


def test_forward_checks_the_namespace(database: Database) -> None:
    with pytest.raises(InvalidArgument):
        database.write(lambda tx: events.forward(tx, Envelope(Nanoseconds(1), "", "/a", None)))


def test_reading_on_from_a_cursor(database: Database) -> None:
    for number in range(5):
        database.write(lambda tx, n=number: events.publish(tx, BLUE, f"/n/{n}", None))
    assert [e.topic for e in since(database, 2, 2)] == ["/n/2", "/n/3"]
    assert database.read(events.last_sequence) == 5
    assert since(database, 5) == []


def test_trim_keeps_the_newest_and_numbers_go_on(database: Database) -> None:
    assert database.write(lambda tx: events.trim(tx, keep=2)) == 0
    for number in range(5):
        database.write(lambda tx, n=number: events.publish(tx, BLUE, f"/n/{n}", None))
    assert database.write(lambda tx: events.trim(tx, keep=2)) == 3
    assert [e.sequence for e in since(database, 0)] == [4, 5]
    database.write(lambda tx: events.trim(tx, keep=0))
    database.write(lambda tx: events.publish(tx, BLUE, "/n", None))
    assert [e.sequence for e in since(database, 0)] == [6]


def test_trim_by_age_goes_by_when_an_event_was_recorded(database: Database) -> None:
    """An event of 1970, or of tomorrow, is as old as the time since it came."""
    for at in (5, 2**62):
        database.write(lambda tx, at=at: events.forward(tx, Envelope(Nanoseconds(at), "aqua", "/c", None)))
    between = now()
    database.write(lambda tx: events.publish(tx, BLUE, "/n", None))
    assert database.write(lambda tx: events.trim(tx, 100, between)) == 2
    assert [e.sequence for e in since(database, 0)] == [3]


def test_trim_forgets_a_slice_at_a_time_and_leaves_no_hole(database: Database) -> None:
    def fill(tx: Transaction) -> None:
        for _ in range(10):
            events.publish(tx, BLUE, "/n", None)

    database.write(fill)
    slices = [database.write(lambda tx: events.trim(tx, 3, at_most=4)) for _ in range(3)]
    assert slices == [4, 3, 0]
    assert database.read(events.bounds) == Bounds(8, 10)


def test_a_page_ends_early_when_its_payloads_are_large(database: Database) -> None:
    large = Any("t", b"x" * (events.PAGE_BYTES // 2))
    for _ in range(4):
        database.write(lambda tx: events.publish(tx, BLUE, "/n", large))
    assert [e.sequence for e in since(database, 0)] == [1, 2]
    assert [e.sequence for e in since(database, 2)] == [3, 4]
