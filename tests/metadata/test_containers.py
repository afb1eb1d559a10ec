"""Rules of contract section 4, on the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from supervisor.api.events.container_pb2 import ContainerCreate, ContainerUpdate
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import containers, events, namespaces
from supervisor.metadata.database import Database
from supervisor.metadata.schema import EdgeRow
from supervisor.model.any import SPEC_TYPE_URL, Any
from supervisor.model.container import MASK_FIELDS, MASK_MAPS, Container, Runtime
from supervisor.model.event import Envelope
from supervisor.model.fieldmask import MaskPath, parse_mask
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace

BLUE = Namespace("blue")
SPEC = Any(SPEC_TYPE_URL, b'{"a": "\xff"}')
FULL = Container(
    id="c1",
    runtime=Runtime("io.containerd.runc.v2", Any("some.Options", b"\x00\x01")),
    image="docker.io/library/busybox:latest",
    spec=SPEC,
    snapshotter="overlayfs",
    snapshot_key="c1",
    sandbox="s1",
    labels={"a": "1", "gone": ""},
    extensions={"x": Any("t", b"\x00"), "y": Any("u", b"")},
)


def create(database: Database, container: Container = FULL) -> Container:
    return database.write(lambda tx: containers.create(tx, BLUE, container))


def get(database: Database, id_: str = "c1") -> Container:
    return database.read(lambda connection: containers.get(connection, BLUE, id_))


def change(database: Database, given: Container, *paths: str) -> Container:
    mask: tuple[MaskPath, ...] = parse_mask(paths, "container", fields=MASK_FIELDS, maps=MASK_MAPS)
    return database.write(lambda tx: containers.change(tx, BLUE, given, mask))


def journal(database: Database) -> list[Envelope]:
    return database.read(lambda connection: events.since(connection, 0, 100))


def test_what_is_created_is_what_is_read(database: Database) -> None:
    stored = create(database)
    assert stored == get(database)
    expected = replace(FULL, labels={"a": "1"}, created_at=stored.created_at, updated_at=stored.created_at)
    assert stored == expected
    assert stored.created_at > 0
    assert [name for name, _ in database.read(namespaces.all_labels)] == ["blue"]


def test_create_twice(database: Database) -> None:
    create(database)
    with pytest.raises(AlreadyExists, match='"c1"'):
        create(database)
    assert len(journal(database)) == 1
    database.write(lambda tx: containers.create(tx, Namespace("aqua"), FULL))


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "a..b"},
        {"extensions": {"": Any("t", b"")}},
        {"labels": {"k": "v" * 4096}},
        {"runtime": Runtime("")},
        {"snapshotter": ""},
    ],
    ids=str,
)
def test_create_refuses(database: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        create(database, replace(FULL, **wrong))  # type: ignore[arg-type]
    assert database.read(namespaces.all_labels) == []


def test_nothing_but_id_and_runtime_is_needed(database: Database) -> None:
    create(database, Container("bare", Runtime("r")))
    assert get(database, "bare").spec is None


def test_unknown(database: Database) -> None:
    with pytest.raises(NotFound):
        get(database)
    with pytest.raises(NotFound):
        change(database, FULL)
    with pytest.raises(NotFound):
        database.write(lambda tx: containers.remove(tx, BLUE, "c1"))


def test_find_filters_and_sorts_by_bytes(database: Database) -> None:
    for id_ in ("b", "a", "B"):
        create(database, replace(FULL, id=id_, labels={"n": id_}))
    found = database.read(lambda c: containers.find(c, BLUE))
    assert [container.id for container in found] == ["B", "a", "b"]
    for text, ids in (("labels.n~=[ab]", ["a", "b"]), ("runtime.name==io.containerd.runc.v2,id==B", ["B"])):
        filters = parse_all([text])
        found = database.read(lambda c, filters=filters: containers.find(c, BLUE, filters))
        assert [container.id for container in found] == ids


def test_update_without_mask_replaces(database: Database) -> None:
    stored = create(database)
    given = replace(FULL, labels={"b": "2"}, image="i", spec=Any("s", b"n"), extensions={}, snapshot_key="k")
    result = change(database, replace(given, sandbox="other", runtime=Runtime(FULL.runtime.name)))
    expected = replace(given, created_at=stored.created_at, updated_at=result.updated_at)
    assert result == expected == get(database)
    assert result.updated_at > stored.updated_at


@pytest.mark.parametrize("immutable", [{"snapshotter": "native"}, {"runtime": Runtime("other")}], ids=str)
def test_update_without_mask_must_repeat_what_cannot_change(
    database: Database, immutable: dict[str, object]
) -> None:
    create(database)
    with pytest.raises(InvalidArgument, match="immutable"):
        change(database, replace(FULL, **immutable))  # type: ignore[arg-type]


def test_update_with_mask_changes_only_that(database: Database) -> None:
    create(database)
    given = Container("c1", Runtime("ignored"), image="new", labels={"b.c/d": "2", "z": "9"})
    result = change(database, given, "image", "labels.b.c/d", "labels.a", "extensions.x", "extensions.new")
    assert result.image == "new"
    assert result.labels == {"b.c/d": "2"}
    assert result.extensions == {"y": Any("u", b""), "x": Any("", b""), "new": Any("", b"")}
    assert result.runtime == FULL.runtime
    assert result == get(database)


def test_a_spec_that_is_not_brought_stays(database: Database) -> None:
    create(database)
    assert change(database, Container("c1", Runtime("")), "spec").spec == SPEC


def test_update_validates_the_result(database: Database) -> None:
    create(database, replace(FULL, snapshotter="", snapshot_key=""))
    with pytest.raises(InvalidArgument, match="snapshotter"):
        change(database, Container("c1", Runtime(""), snapshot_key="k"), "snapshotkey")


def test_events(database: Database) -> None:
    create(database)
    change(database, replace(FULL, labels={"b": "2"}), "labels")
    database.write(lambda tx: containers.remove(tx, BLUE, "c1"))
    told = journal(database)
    assert [e.topic for e in told] == [f"/containers/{verb}" for verb in ("create", "update", "delete")]
    payloads = [e.event for e in told if e.event]
    made = ContainerCreate.FromString(payloads[0].value)
    assert payloads[0].type_url == "containerd.events.ContainerCreate"
    assert (made.id, made.image, made.runtime.name) == ("c1", FULL.image, FULL.runtime.name)
    assert (made.runtime.options.type_url, made.runtime.options.value) == ("some.Options", b"\x00\x01")
    changed = ContainerUpdate.FromString(payloads[1].value)
    assert (changed.snapshot_key, dict(changed.labels)) == ("c1", {"b": "2"})


def test_edges_follow_the_record(database: Database) -> None:
    def targets() -> set[tuple[str, str]]:
        query = select(EdgeRow.target_type, EdgeRow.target_key).where(EdgeRow.source_key == "c1")
        return database.read(lambda c: {tuple(row) for row in c.execute(query)})

    create(database, replace(FULL, labels={"containerd.io/gc.ref.content": "d"}))
    assert targets() == {("snapshot/overlayfs", "c1"), ("content", "d")}
    change(database, replace(FULL, snapshot_key="k2", labels={}))
    assert targets() == {("snapshot/overlayfs", "k2")}
    database.write(lambda tx: containers.remove(tx, BLUE, "c1"))
    assert targets() == set()
