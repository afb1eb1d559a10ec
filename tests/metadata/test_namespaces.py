"""Rules of contract section 3, on the store."""

from collections.abc import Sequence

import pytest

from supervisor.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from supervisor.metadata import namespaces
from supervisor.metadata.database import Database
from supervisor.model.event import Envelope
from supervisor.model.identifiers import namespace

BLUE = namespace("blue")


def labels_of(database: Database, name: str) -> dict[str, str]:
    return dict(database.read(lambda connection: namespaces.get(connection, name)))


def test_an_unknown_namespace_has_no_labels(database: Database) -> None:
    assert labels_of(database, "unknown") == {}


def test_create_keeps_labels_and_drops_empty_values(database: Database) -> None:
    database.write(lambda tx: namespaces.create(tx, BLUE, {"a": "1", "b": ""}))
    assert labels_of(database, "blue") == {"a": "1"}


def test_create_twice_is_refused_also_when_made_implicitly(database: Database) -> None:
    database.write(lambda tx: namespaces.touch(tx, BLUE))
    with pytest.raises(AlreadyExists, match="blue"):
        database.write(lambda tx: namespaces.create(tx, BLUE, {}))


def test_update_without_mask_replaces_and_creates(database: Database) -> None:
    database.write(lambda tx: namespaces.update(tx, BLUE, {"a": "1"}))
    database.write(lambda tx: namespaces.update(tx, BLUE, {"b": "2"}))
    assert labels_of(database, "blue") == {"b": "2"}


def test_update_with_mask_touches_only_the_named_labels(database: Database) -> None:
    database.write(lambda tx: namespaces.create(tx, BLUE, {"a": "1", "b": "2", "c": "3"}))
    database.write(lambda tx: namespaces.update(tx, BLUE, {"a": "9"}, only=["a", "b"]))
    assert labels_of(database, "blue") == {"a": "9", "c": "3"}


def test_a_label_that_is_too_large_is_refused(database: Database) -> None:
    with pytest.raises(InvalidArgument, match="4096"):
        database.write(lambda tx: namespaces.create(tx, BLUE, {"k": "v" * 4096}))


def test_delete_of_a_missing_namespace(database: Database) -> None:
    with pytest.raises(NotFound):
        database.write(lambda tx: namespaces.remove(tx, "nobody"))


def test_events_are_told_after_the_commit_and_in_order(database: Database) -> None:
    told: list[Envelope] = []

    def tell(events: Sequence[Envelope]) -> None:
        for envelope in events:
            assert envelope.topic == "/namespaces/delete" or labels_of(database, "blue") is not None
            told.append(envelope)

    database.tell(tell)
    database.write(lambda tx: namespaces.create(tx, BLUE, {"a": "1"}))
    database.write(lambda tx: namespaces.update(tx, BLUE, {"a": "2"}))
    database.write(lambda tx: namespaces.remove(tx, BLUE))
    assert [e.topic for e in told] == ["/namespaces/create", "/namespaces/update", "/namespaces/delete"]
    assert [e.sequence for e in told] == sorted(e.sequence for e in told)
    assert {e.namespace for e in told} == {"blue"}


def test_a_failed_write_leaves_nothing_and_tells_nothing(database: Database) -> None:
    told: list[Envelope] = []
    database.tell(told.extend)

    def fail(tx: object) -> None:
        namespaces.create(tx, BLUE, {})  # type: ignore[arg-type]
        raise FailedPrecondition("no")

    with pytest.raises(FailedPrecondition):
        database.write(fail)
    assert told == []
    assert database.read(namespaces.all_labels) == []
