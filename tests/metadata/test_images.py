"""Rules of contract section 5, on the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from supervisor.api.events.image_pb2 import ImageCreate, ImageUpdate
from supervisor.errors import AlreadyExists, InvalidArgument, NotFound
from supervisor.metadata import events, images, leases, namespaces
from supervisor.metadata.database import Database
from supervisor.metadata.schema import EdgeRow
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.fieldmask import parse_mask
from supervisor.model.filters import parse_all
from supervisor.model.identifiers import Namespace
from supervisor.model.image import MASK_FIELDS, MASK_MAPS, Image
from supervisor.model.instant import Nanoseconds
from supervisor.model.lease import Lease, Resource

BLUE = Namespace("blue")
ONE, TWO = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
TARGET = Descriptor("application/vnd.oci.image.index.v1+json", ONE, 1234, {"k": "v", "none": ""})
IMAGE = Image("docker.io/library/busybox:latest", TARGET, {"a": "1", "none": ""})
EXPIRING = replace(IMAGE, labels={"containerd.io/gc.expire": "2001-01-01T00:00:00Z"})


def create(database: Database, image: Image = IMAGE, lease: str | None = None) -> Image:
    return database.write(lambda tx: images.create(tx, BLUE, image, lease))


def get(database: Database, name: str = IMAGE.name) -> Image:
    return database.read(lambda connection: images.get(connection, BLUE, name))


def change(database: Database, given: Image, *paths: str) -> Image:
    mask = parse_mask(paths, "image", fields=MASK_FIELDS, maps=MASK_MAPS)
    return database.write(lambda tx: images.change(tx, BLUE, given, mask))


def test_what_is_created_is_what_is_read(database: Database) -> None:
    stored = create(database)
    assert stored == get(database)
    assert stored.labels == {"a": "1"}
    assert stored.target == replace(TARGET, annotations={"k": "v"})
    assert stored.created_at == stored.updated_at > 0
    with pytest.raises(AlreadyExists):
        create(database)


def test_a_source_date_stands_for_now(database: Database) -> None:
    then = Nanoseconds(1_000_000_007)
    stored = database.write(lambda tx: images.create(tx, BLUE, IMAGE, source_date=then))
    assert (stored.created_at, stored.updated_at) == (then, then)
    later = Nanoseconds(2_000_000_000)
    changed = database.write(lambda tx: images.change(tx, BLUE, IMAGE, source_date=later))
    assert (changed.created_at, changed.updated_at) == (then, later)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"labels": {"k": "v" * 4096}},
        {"target": replace(TARGET, digest=Digest("sha256:1"))},
        {"target": replace(TARGET, digest=Digest(""))},
        {"target": replace(TARGET, size=0)},
        {"target": replace(TARGET, media_type="")},
    ],
    ids=str,
)
def test_create_refuses(database: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        create(database, replace(IMAGE, **wrong))  # type: ignore[arg-type]
    assert database.read(namespaces.all_labels) == []


def test_find(database: Database) -> None:
    create(database)
    create(database, replace(IMAGE, name="Z", target=replace(TARGET, digest=TWO)))
    assert [i.name for i in database.read(lambda c: images.find(c, BLUE))] == ["Z", IMAGE.name]
    for text, names in (
        (r"name~=^docker\.io/library/busybox:", [IMAGE.name]),
        (f"target.digest=={TWO}", ["Z"]),
        ('target.mediatype~="index",annotations.k==v', ["Z", IMAGE.name]),
        ("annotations.none", []),
        ("target.size", []),
    ):
        filters = parse_all([text])
        found = database.read(lambda c, filters=filters: images.find(c, BLUE, filters))
        assert [image.name for image in found] == names


def test_update_without_mask_replaces_labels_and_target(database: Database) -> None:
    stored = create(database)
    result = change(database, replace(IMAGE, labels={"b": "2"}, target=Descriptor("m", TWO, 5)))
    assert result == get(database)
    assert (result.labels, result.target) == ({"b": "2"}, Descriptor("m", TWO, 5))
    assert result.created_at == stored.created_at < result.updated_at


def test_update_with_mask(database: Database) -> None:
    create(database)
    given = replace(IMAGE, labels={"b": "2"}, target=Descriptor("m", TWO, 5, {"n": "1", "k": "0"}))
    assert change(database, given, "labels.b").labels == {"a": "1", "b": "2"}
    assert change(database, given, "annotations.n").target == replace(
        TARGET, annotations={"k": "v", "n": "1"}
    )
    assert change(database, given, "annotations").target == replace(TARGET, annotations={"n": "1", "k": "0"})
    result = change(database, given, "target")
    assert (result.target, result.labels) == (given.target, {"a": "1", "b": "2"})


def test_unknown(database: Database) -> None:
    for call in (lambda: get(database), lambda: change(database, IMAGE)):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(NotFound):
        database.write(lambda tx: images.remove(tx, BLUE, IMAGE.name))


def test_delete_checks_the_target_that_is_given(database: Database) -> None:
    create(database)
    with pytest.raises(NotFound):
        database.write(lambda tx: images.remove(tx, BLUE, IMAGE.name, TWO))
    database.write(lambda tx: images.remove(tx, BLUE, IMAGE.name, ONE))
    with pytest.raises(NotFound):
        get(database)


def test_only_an_image_that_expires_is_held_by_the_lease(database: Database) -> None:
    create(database, lease="unknown")
    with pytest.raises(NotFound, match="lease does not exist"):
        create(database, EXPIRING, lease="unknown")
    database.write(lambda tx: leases.create(tx, BLUE, Lease("l")))
    create(database, replace(EXPIRING, name="x"), lease="l")
    assert database.read(lambda c: leases.resources(c, BLUE, "l")) == [Resource("images", "x")]
    database.write(lambda tx: images.remove(tx, BLUE, "x", lease_id="l"))
    assert database.read(lambda c: leases.resources(c, BLUE, "l")) == []


def test_events(database: Database) -> None:
    create(database)
    change(database, replace(IMAGE, labels={"b": "2"}))
    database.write(lambda tx: images.remove(tx, BLUE, IMAGE.name))
    told = database.read(lambda c: events.since(c, 0, 10))
    assert [e.topic for e in told] == ["/images/create", "/images/update", "/images/delete"]
    payloads = [e.event for e in told if e.event]
    assert payloads[0].type_url == "containerd.services.images.v1.ImageCreate"
    assert ImageCreate.FromString(payloads[0].value) == ImageCreate(name=IMAGE.name, labels={"a": "1"})
    assert ImageUpdate.FromString(payloads[1].value) == ImageUpdate(name=IMAGE.name, labels={"b": "2"})


def test_edges_follow_the_image(database: Database) -> None:
    def targets() -> set[tuple[str, str]]:
        query = select(EdgeRow.kind, EdgeRow.target_key).where(EdgeRow.source_key == IMAGE.name)
        return database.read(lambda c: {tuple(row) for row in c.execute(query)})

    create(database, replace(IMAGE, labels={"containerd.io/gc.ref.image.x": "other"}))
    assert targets() == {("target", ONE), ("ref", "other")}
    change(database, replace(IMAGE, target=replace(TARGET, digest=TWO)))
    assert targets() == {("target", TWO)}
    database.write(lambda tx: images.remove(tx, BLUE, IMAGE.name))
    assert targets() == set()
