"""Labels to edges (contract 11.2), and edges as rows."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select

from supervisor.metadata import edges
from supervisor.metadata.database import Database
from supervisor.metadata.edges import Edge, Node, label_edges
from supervisor.metadata.schema import EdgeRow

DIGEST = "sha256:" + "a" * 64
PREFIX = "containerd.io/gc."
A = Node("blue", edges.IMAGE, "a")


def said(label: str, value: str = DIGEST, node_type: str = edges.CONTENT) -> list[Edge]:
    return label_edges(node_type, {PREFIX + label: value})


@pytest.mark.parametrize(
    ("label", "target_type"),
    [
        ("ref.content", "content"),
        ("ref.content.config", "content"),
        ("ref.content.l.0", "content"),
        ("ref.content.moby/container.config", "content"),
        ("ref.content/x", "content"),
        ("ref.image", "image"),
        ("ref.image.x", "image"),
        ("ref.image/x", "image"),
        ("ref.snapshot.overlayfs", "snapshot/overlayfs"),
        ("ref.snapshot.overlayfs/x", "snapshot/overlayfs"),
        ("ref.snapshot.a.b.c/x/y", "snapshot/a.b.c"),
    ],
)
def test_references(label: str, target_type: str) -> None:
    assert said(label) == [Edge("ref", target_type, DIGEST)]


@pytest.mark.parametrize(
    "label",
    [
        "ref.contentX",
        "ref.container",
        "ref.snapshot",
        "ref.snapshot./x",
        "ref",
        "roo",
        "refs.content",
        "expire",
    ],
)
def test_labels_that_say_no_reference(label: str) -> None:
    assert said(label) == []


@pytest.mark.parametrize("label", ["root", "root.mine", "rootish"])
def test_any_label_that_begins_so_makes_a_root(label: str) -> None:
    """Contract 11.1: of content and of snapshots, with any value but an empty one."""
    for node_type in (edges.CONTENT, edges.snapshot_type("overlayfs")):
        assert said(label, "x", node_type) == [Edge("root", "", "")]
        assert said(label, "", node_type) == []
    assert said(label, "x", edges.IMAGE) == said(label, "x", edges.CONTAINER) == []


def test_an_empty_value_and_other_prefixes_say_nothing() -> None:
    assert said("ref.content", "") == []
    assert label_edges(edges.CONTENT, {"gc.ref.content": DIGEST}) == []


@pytest.mark.parametrize(
    ("label", "target_type"),
    [
        ("bref.content", "content"),
        ("bref.image.x", "image"),
        ("bref.container/x", "container"),
        ("bref.snapshot.native/x", "snapshot/native"),
    ],
)
def test_back_references(label: str, target_type: str) -> None:
    assert said(label) == [Edge("bref", target_type, DIGEST)]


def test_conditions() -> None:
    assert said("cond.snapshot.native", "usedat<720h,usedat>9h|key") == [
        Edge("cond", "snapshot/native", "key", "usedat<720h,usedat>9h")
    ]
    assert said("cond.snapshot.native", "usedat<720h") == []
    assert said("cond.content", "usedat<720h|key") == []
    assert said("cond.snapshot.native", "usedat<720h|key", edges.CONTAINER) == []


def rows(connection: Connection) -> list[tuple[str, ...]]:
    query = select(EdgeRow.source_key, EdgeRow.kind, EdgeRow.target_key, EdgeRow.condition)
    return [tuple(row) for row in connection.execute(query)]


def test_replace_and_drop_touch_only_what_leads_out(database: Database) -> None:
    other = Node("blue", edges.IMAGE, "other")
    database.write(lambda tx: edges.add(tx, other, [Edge("ref", edges.IMAGE, "a")]))
    database.write(lambda tx: edges.add(tx, A, [Edge("ref", "content", "1"), Edge("ref", "content", "2")]))
    database.write(lambda tx: edges.replace(tx, A, [Edge("ref", "content", "3")]))
    assert database.read(rows) == [("a", "ref", "3", ""), ("other", "ref", "a", "")]
    database.write(lambda tx: edges.drop(tx, A))
    assert database.read(rows) == [("other", "ref", "a", "")]


def test_labels_that_say_the_same_are_one_row_and_conditions_are_alternatives(database: Database) -> None:
    labels = {
        PREFIX + "ref.content.1": "x",
        PREFIX + "ref.content.2": "x",
        PREFIX + "cond.snapshot.s/1": "usedat<1h|k",
        PREFIX + "cond.snapshot.s/2": "usedat>9h|k",
    }
    database.write(lambda tx: edges.add(tx, A, label_edges(edges.IMAGE, labels)))
    assert database.read(rows) == [("a", "cond", "k", "usedat<1h,usedat>9h"), ("a", "ref", "x", "")]
