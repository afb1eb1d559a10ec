"""Rules of contract sections 1.3 and 8, on the store."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from supervisor.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from supervisor.metadata import edges, events, leases
from supervisor.metadata.database import Database
from supervisor.metadata.schema import LeaseRow
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace
from supervisor.model.lease import Lease, Resource

BLUE = Namespace("blue")
DIGEST = "sha256:" + "a" * 64


def create(database: Database, id_: str = "l", **labels: str) -> Lease:
    return database.write(lambda tx: leases.create(tx, BLUE, Lease(id_, labels)))


def held(database: Database, id_: str = "l") -> list[Resource]:
    return database.read(lambda c: leases.resources(c, BLUE, id_))


def test_an_id_is_made_when_none_is_given(database: Database) -> None:
    assert re.fullmatch(r"\d{1,9}-[A-Za-z0-9_-]{4}", create(database, "").id)


def test_neither_ids_nor_labels_have_rules(database: Database) -> None:
    lease = create(database, "any thing/ü", empty="", long="x" * 5000)
    assert lease.labels == {"long": "x" * 5000}
    assert database.read(lambda c: leases.find(c, BLUE)) == [lease]
    with pytest.raises(AlreadyExists):
        create(database, "any thing/ü")


@pytest.mark.parametrize(
    ("label", "expiry"),
    [("2026-01-02T03:04:05Z", 1767323045_000000000), ("tomorrow", None), ("", None)],
)
def test_expiry(database: Database, label: str, expiry: int | None) -> None:
    create(database, **{"containerd.io/gc.expire": label})
    assert database.read(lambda c: c.execute(select(LeaseRow.expires_at)).scalar_one()) == expiry


def test_find(database: Database) -> None:
    for id_ in ("b", "a"):
        create(database, id_, n=id_)
    assert [lease.id for lease in database.read(lambda c: leases.find(c, BLUE))] == ["a", "b"]
    filters = parse_all(["labels.n==b"])
    assert [lease.id for lease in database.read(lambda c: leases.find(c, BLUE, filters))] == ["b"]


def test_resources_are_sorted_and_added_once(database: Database) -> None:
    create(database)
    wanted = [
        Resource("content", DIGEST),
        Resource("images", "any name"),
        Resource("ingests", "r1"),
        Resource("ingests", "r2"),
        Resource("snapshots/native", "k"),
        Resource("snapshots/overlayfs", "k"),
    ]
    for resource in [*reversed(wanted), wanted[0]]:
        database.write(lambda tx, resource=resource: leases.add_resource(tx, BLUE, "l", resource))
    assert held(database) == wanted
    for _ in "twice":
        database.write(lambda tx: leases.remove_resource(tx, BLUE, "l", wanted[0]))
    assert held(database) == wanted[1:]


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        (Resource("content", "no digest"), InvalidArgument),
        (Resource("content/x", DIGEST), InvalidArgument),
        (Resource("images/x", "i"), InvalidArgument),
        (Resource("snapshots", "k"), InvalidArgument),
        (Resource("snapshots/", "k"), InvalidArgument),
        (Resource("snapshots/a/b", "k"), InvalidArgument),
        (Resource("content", ""), InvalidArgument),
        (Resource("tasks", "t"), Unimplemented),
    ],
)
def test_resources_that_are_refused(database: Database, resource: Resource, error: type[Exception]) -> None:
    with pytest.raises(NotFound):
        database.write(lambda tx: leases.add_resource(tx, BLUE, "l", resource))
    create(database)
    for call in (leases.add_resource, leases.remove_resource):
        with pytest.raises(error):
            database.write(lambda tx, call=call: call(tx, BLUE, "l", resource))


def test_delete_ends_the_hold(database: Database) -> None:
    create(database)
    database.write(lambda tx: leases.attach(tx, BLUE, "l", edges.CONTENT, DIGEST))
    database.write(lambda tx: leases.remove(tx, BLUE, "l"))
    with pytest.raises(NotFound):
        held(database)
    with pytest.raises(NotFound):
        database.write(lambda tx: leases.remove(tx, BLUE, "l"))
    create(database)
    assert held(database) == []


def test_attach_and_detach(database: Database) -> None:
    create(database)
    for _ in "twice":
        database.write(lambda tx: leases.attach(tx, BLUE, "l", edges.snapshot_type("native"), "k"))
    assert held(database) == [Resource("snapshots/native", "k")]
    for lease_id in ("l", "l", "unknown", "", None):
        database.write(lambda tx, id_=lease_id: leases.detach(tx, BLUE, id_, "snapshot/native", "k"))
    assert held(database) == []


def test_attach_needs_the_lease_it_names(database: Database) -> None:
    database.write(lambda tx: leases.attach(tx, BLUE, None, edges.CONTENT, DIGEST))
    for id_ in ("unknown", ""):
        with pytest.raises(NotFound, match="lease does not exist"):
            database.write(lambda tx, id_=id_: leases.attach(tx, BLUE, id_, edges.CONTENT, DIGEST))


def test_leases_tell_no_events(database: Database) -> None:
    create(database)
    database.write(lambda tx: leases.remove(tx, BLUE, "l"))
    assert database.read(events.last_sequence) == 0
