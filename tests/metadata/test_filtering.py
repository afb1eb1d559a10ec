"""Filters as SQL find what the predicate finds (contract 2), and find it by index."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from supervisor.errors import InvalidArgument
from supervisor.metadata import containers, content, images, ingests, leases, sandboxes, snapshot_rows
from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.filtering import MAX_SELECTORS, Search, literal_beginning
from supervisor.metadata.schema import SnapshotRow
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.statements import Prepared, driver
from supervisor.model.container import Container, Runtime
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.filters import Filter, Operator, Selector, parse_all
from supervisor.model.identifiers import Namespace
from supervisor.model.image import Image
from supervisor.model.lease import Lease
from supervisor.model.predicate import predicate
from supervisor.model.sandbox import Sandbox

KEYS = ("a", "a.b", "b", 'q"uote', "ü/x", "back\\slash", "$.a", "a b")
TEXTS = (
    "1", "10", "2", "ü", "Ü", 'say "hi"', "a.b", "A.b", "\\", "new\nline", "\U0010ffff", "\ud7ff\ue000", "'",
)  # fmt: skip
PATTERNS = (
    "^1", "^10$", "^1*$", "^1?0", "^$", "", ".", "^a\\.b$", "^a|2", "^(1|2)", "(?i)^a", "^(?i)a",
    "^\\Qa.b\\E$", "^ü", "^\ud7ff", "^\U0010ffff", "\\z", "^[[:alpha:]]", "\\pL", "(?=1)", "(a)\\1", "[",
    "^1{2}", "^\\d", "(?s)w.l", "(?m)^line", "^new\\nline", "^'", '^say "', "^\\\\", "x" * 300,
)  # fmt: skip
NUMBERS = itertools.count()

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS), max_size=4)
values = st.one_of(st.just(""), st.sampled_from(TEXTS), st.text(max_size=3).filter(lambda t: "\0" not in t))


def selectors(*fields: tuple[str, ...]) -> st.SearchStrategy[Selector]:
    """Any condition on these fields, on labels, and on a field that there is not."""
    keys = st.sampled_from(KEYS).map(lambda key: ("labels", *key.split(".")))
    path = st.one_of(st.sampled_from([*fields, ("nothing",), ("labels",), ("labels", "absent")]), keys)
    plain = st.builds(Selector, path, st.sampled_from(list(Operator)), values)
    return st.one_of(plain, st.builds(Selector, path, st.just(Operator.MATCHES), st.sampled_from(PATTERNS)))


def filters(*fields: tuple[str, ...]) -> st.SearchStrategy[Sequence[Filter]]:
    return st.lists(st.lists(selectors(*fields), max_size=3).map(tuple), max_size=3).map(tuple)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with Database(tmp_path_factory.mktemp("filtering") / "metadata.db") as opened:
        yield opened


def fresh() -> Namespace:
    return Namespace(f"ns{next(NUMBERS)}")


Find = Callable[[Connection, Any, Sequence[Filter]], Sequence[Any]]


def agree(store: Database, find: Find, where: object, wanted: Sequence[Filter]) -> None:
    """The filtered list is the part of the whole that passes the predicate, in the same order."""
    everything = store.read(lambda c: find(c, where, ()))
    passes = predicate(wanted)
    expected = [one for one in everything if passes(getattr(one, "info", one).field)]
    assert store.read(lambda c: find(c, where, wanted)) == expected


several = settings(max_examples=150, deadline=None)

image_names = st.sampled_from(["", "docker.io/library/busybox:latest", "docker.io/x", "ü"])
some_containers = st.lists(
    st.builds(
        Container,
        id=st.sampled_from(["a", "a.b", "A", "10", "1"]),
        runtime=st.builds(Runtime, st.sampled_from(["io.containerd.runc.v2", "r"])),
        image=image_names,
        labels=labels,
    ),
    max_size=5,
    unique_by=lambda container: container.id,
)


@several
@given(some_containers, filters(("id",), ("id", "more"), ("image",), ("runtime", "name"), ("runtime",)))
def test_containers(store: Database, some: Sequence[Container], wanted: Sequence[Filter]) -> None:
    namespace = fresh()
    store.write(lambda tx: [containers.create(tx, namespace, one) for one in some])
    agree(store, containers.find, namespace, wanted)


DIGESTS = tuple(Digest(f"sha256:{character * 64}") for character in "01ab")
some_images = st.lists(
    st.builds(
        Image,
        name=st.sampled_from(["docker.io/library/busybox:latest", "docker.io/x", "ü", "1", 'q"']),
        target=st.builds(
            Descriptor,
            st.sampled_from(["a/b", "1"]),
            st.sampled_from(DIGESTS),
            st.just(1),
            annotations=labels,
        ),
        labels=labels,
    ),
    max_size=5,
    unique_by=lambda image: image.name,
)
annotation = st.sampled_from(KEYS).map(lambda key: ("annotations", *key.split(".")))


@several
@given(
    some_images, filters(("name",), ("target", "digest"), ("target", "mediatype"), ("annotations", "a", "b"))
)
def test_images(store: Database, some: Sequence[Image], wanted: Sequence[Filter]) -> None:
    namespace = fresh()
    store.write(lambda tx: [images.create(tx, namespace, one) for one in some])
    agree(store, images.find, namespace, wanted)


@several
@given(st.dictionaries(st.sampled_from(["", "1", "a", "ü", "new\nline"]), labels), filters(("id",)))
def test_leases(store: Database, some: Mapping[str, Mapping[str, str]], wanted: Sequence[Filter]) -> None:
    namespace = fresh()
    store.write(lambda tx: [leases.create(tx, namespace, Lease(id_, held)) for id_, held in some.items()])
    agree(store, leases.find, namespace, wanted)


@several
@given(st.dictionaries(st.sampled_from(["1", "a", "A.b"]), labels), filters(("id",)))
def test_sandboxes(store: Database, some: Mapping[str, Mapping[str, str]], wanted: Sequence[Filter]) -> None:
    namespace = fresh()
    made = [Sandbox(id=id_, runtime=Runtime("r"), labels=held) for id_, held in some.items()]
    store.write(lambda tx: [sandboxes.create(tx, namespace, one) for one in made])
    agree(store, sandboxes.find, namespace, wanted)


@several
@given(st.dictionaries(st.sampled_from(DIGESTS), labels), filters(("digest",)))
def test_content(store: Database, some: Mapping[Digest, Mapping[str, str]], wanted: Sequence[Filter]) -> None:
    namespace = fresh()
    store.write(lambda tx: [content.record(tx, namespace, digest, 1, held) for digest, held in some.items()])
    agree(store, content.matching, namespace, wanted)


def make_snapshots(tx: Transaction, place: Place, some: Sequence[tuple[str, str, Mapping[str, str]]]) -> None:
    """Each on top of the one before it, but for the first."""
    parent = None
    for key, kind, held in some:
        values = {
            "namespace": place.namespace, "snapshotter": place.snapshotter, "key": key, "parent_id": parent,
            "kind": kind, "state": "ready", "labels": held, "size": 0, "inodes": 0,
            "created_at": 1, "updated_at": 1,
        }  # fmt: skip
        parent = tx.execute(insert(SnapshotRow), values).inserted_primary_key[0]  # type: ignore[index]


kinds = st.sampled_from(["active", "view", "committed"])
some_snapshots = st.lists(
    st.tuples(st.sampled_from(["1", "a", "ü", "10"]), kinds, labels), max_size=4, unique_by=lambda row: row[0]
)


@several
@given(some_snapshots, filters(("kind",), ("name",), ("parent",), ("parent", "x")))
def test_snapshots(store: Database, some: Any, wanted: Sequence[Filter]) -> None:
    place = Place(fresh(), "overlayfs")
    store.write(lambda tx: make_snapshots(tx, place, some))
    store.write(lambda tx: make_snapshots(tx, Place(place.namespace, "native"), some))
    agree(store, snapshot_rows.all_of, place, wanted)


@pytest.mark.parametrize(
    "text", ["ref~=^a", "ref!=ab", "ref", "other", 'ref==""', "ref~=|b$|", "labels.x!=1"]
)
def test_ingests(store: Database, text: str) -> None:
    namespace, wanted = fresh(), parse_all([text])
    for ref in ("ab", "a", "b"):
        store.write(lambda tx, ref=ref: ingests.opened(tx, namespace, ref, None, total=0, shares=None))
    expected = [r for r in ("a", "ab", "b") if predicate(wanted)(lambda p, r=r: r if p[0] == "ref" else None)]
    assert store.read(lambda c: ingests.refs(c, namespace, wanted)) == expected


@pytest.mark.parametrize(
    ("pattern", "beginning"),
    [
        ("^docker\\.io/library/alpine:", "docker.io/library/alpine:"),
        ("^sha256:ab[0-9a-fA-F]{62}$", "sha256:ab"),
        ("^abc*", "ab"),
        ("^abc+", "abc"),
        ("^ab?", "a"),
        ("^a{2}", ""),
        ("^a\\d", "a"),
        ("^a|b", ""),
        ("a", ""),
        ("^", ""),
        ("^\\.*", ""),
    ],
)
def test_literal_beginning(pattern: str, beginning: str) -> None:
    assert literal_beginning(pattern) == beginning


def plan(store: Database, search: Search, *texts: str, **parameters: str) -> str:
    """What SQLite is going to do, for a store with 10,000 containers of 100 applications."""
    prepared: Prepared = search.prepared(parse_all(texts))
    explained = f"EXPLAIN QUERY PLAN {prepared.text}"

    def explain(connection: Connection) -> str:
        rows = driver(connection).execute(explained, prepared.encoded({"in_namespace": "many"} | parameters))
        return "\n".join(row[3] for row in rows)

    return store.read(explain)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    runtime, namespace = Runtime("r"), Namespace("many")

    def fill(tx: Transaction) -> None:
        for n in range(10_000):
            label = {"app": f"app-{n % 100}", "com.docker/id": str(n)}
            containers.create(tx, namespace, Container(f"c{n}", runtime, f"image-{n % 50}", labels=label))

    path: Path = tmp_path_factory.mktemp("many")
    with Database(path / "metadata.db") as opened:
        opened.write(fill)
        yield opened


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("labels.app==app-7", "labels USING PRIMARY KEY (namespace=? AND type=? AND name=? AND value=?)"),
        ("labels.app", "labels USING PRIMARY KEY (namespace=? AND type=? AND name=?)"),
        ("labels.app~=^app-7", "labels USING PRIMARY KEY (namespace=? AND type=? AND name=? AND value>? AND"),
        ('labels."com.docker/id"==7,labels.app==app-7', "labels USING PRIMARY KEY"),
        ("id==c7", "sqlite_autoindex_containers_1 (namespace=? AND id=?)"),
        ("id~=^c70", "sqlite_autoindex_containers_1 (namespace=? AND id>? AND id<?)"),
        ("image==image-7", "ix_containers_namespace_image_id (namespace=? AND image=?)"),
    ],
)
def test_a_list_of_10000_containers_is_answered_by_index(many: Database, text: str, index: str) -> None:
    found = plan(many, containers._FIND, text)
    assert index in found
    assert "SCAN" not in found
    if text.startswith("labels"):
        assert "containers USING INDEX sqlite_autoindex_containers_1 (namespace=? AND id=?)" in found


def test_alternatives_use_an_index_each(many: Database) -> None:
    found = plan(many, containers._FIND, "labels.app==app-7", "id==c9", "image==image-3")
    for index in (
        "labels USING PRIMARY KEY (namespace=? AND type=? AND name=? AND value=?)",
        "COVERING INDEX sqlite_autoindex_containers_1 (namespace=? AND id=?)",
        "COVERING INDEX ix_containers_namespace_image_id (namespace=? AND image=?)",
    ):
        assert index in found
    assert "SCAN" not in found


def test_more_filters_than_one_statement_takes(many: Database) -> None:
    wanted = parse_all([f"id==c{n * 3}" for n in range(1000)] + ["labels.app==app-1"])
    found = many.read(lambda c: containers.find(c, Namespace("many"), wanted))
    expected = {f"c{n * 3}" for n in range(1000)} | {f"c{n}" for n in range(10_000) if n % 100 == 1}
    assert [one.id for one in found] == sorted(expected)


def test_a_filter_too_long_for_sqlite_is_refused(store: Database) -> None:
    fits, too_long = (parse_all([",".join(["labels.a!=1"] * n)]) for n in (MAX_SELECTORS, MAX_SELECTORS + 1))
    assert store.read(lambda c: leases.find(c, fresh(), fits)) == []
    with pytest.raises(InvalidArgument, match="500 conditions"):
        store.read(lambda c: leases.find(c, fresh(), too_long))


@pytest.mark.parametrize("name", ["id==c7", "labels.app==app-7,labels.app!=x", "labels.app==none"])
def test_of_10000_containers_only_those_found_are_loaded(
    many: Database, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    monkeypatch.setattr(containers, "_value", lambda row: decoded.append(row["id"]))
    found = many.read(lambda c: containers.find(c, Namespace("many"), parse_all([name])))
    assert len(decoded) == len(found) <= 100


def test_dockers_question_for_an_images_digest_is_answered_by_index(many: Database) -> None:
    assert "ix_images_namespace_digest" in plan(many, images._FIND, f"target.digest=={DIGESTS[0]}")
    assert "ix_images_namespace_digest_name (namespace=? AND digest>? AND digest<?)" in plan(
        many, images._FIND, 'target.digest~="^sha256:ab[0-9a-fA-F]{62}$"'
    )
