"""Rows of snapshots, read and written; the rules are in `supervisor.metadata.snapshots`.

A record of a namespace and the folder of a driver are one row: containerd keeps them in two databases
(core/metadata/snapshot.go, core/snapshots/storage/bolt.go), which can disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any as Anything

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    exists,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.orm import aliased

from supervisor.metadata import edges
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import SnapshotRow
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import Nanoseconds
from supervisor.snapshots.snapshotter import LABEL_PREFIX, LABEL_REF, Info, Kind, Layer, Usage

MAKING, READY = "making", "ready"

_Parent = aliased(SnapshotRow)


@dataclass(frozen=True, slots=True)
class Place:
    """One space of keys: a namespace's snapshots of one snapshotter."""

    namespace: Namespace
    snapshotter: str

    @property
    def node_type(self) -> str:
        """What garbage collection calls a snapshot of this place."""
        return edges.snapshot_type(self.snapshotter)

    def node(self, key: str) -> edges.Node:
        """The node of one snapshot."""
        return edges.Node(self.namespace, self.node_type, key)


@dataclass(frozen=True, slots=True)
class Record:
    """A row: the snapshot's number, that of its parent, and what is told of it."""

    id: int
    parent_id: int | None
    info: Info
    usage: Usage


def _in(place: Place) -> ColumnElement[bool]:
    return and_(SnapshotRow.namespace == place.namespace, SnapshotRow.snapshotter == place.snapshotter)


def _records() -> Select[*tuple[Anything, ...]]:
    columns = (
        SnapshotRow.id, SnapshotRow.parent_id, SnapshotRow.key, _Parent.key.label("parent"), SnapshotRow.kind,
        SnapshotRow.labels, SnapshotRow.size, SnapshotRow.inodes,
        SnapshotRow.created_at, SnapshotRow.updated_at,
    )  # fmt: skip
    return select(*columns).join(_Parent, SnapshotRow.parent_id == _Parent.id, isouter=True)


def _record(row: Row[Anything]) -> Record:
    times = (Nanoseconds(row.created_at), Nanoseconds(row.updated_at))
    info = Info(row.key, row.parent or "", Kind(row.kind), row.labels, *times)
    return Record(row.id, row.parent_id, info, Usage(row.size, row.inodes))


def find(connection: Connection, place: Place, key: str) -> Record | None:
    """The snapshot of that key, None while it is still being made."""
    query = _records().where(_in(place), SnapshotRow.key == key, SnapshotRow.state == READY)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def all_of(connection: Connection, place: Place) -> list[Record]:
    """The snapshots of a place in byte order of their keys."""
    query = _records().where(_in(place), SnapshotRow.state == READY).order_by(SnapshotRow.key)
    return [_record(row) for row in connection.execute(query)]


def taken(connection: Connection, place: Place, key: str) -> bool:
    """Whether a key is in use, also by a snapshot that is being made."""
    query = select(exists().where(_in(place), SnapshotRow.key == key))
    return bool(connection.execute(query).scalar_one())


def any_in(connection: Connection, place: Place) -> bool:
    """Whether the place holds any snapshot."""
    return bool(connection.execute(select(exists().where(_in(place)))).scalar_one())


def children(connection: Connection, number: int) -> list[str]:
    """The keys of the snapshots that have this one for their parent; a few are enough for a message."""
    query = select(SnapshotRow.key).where(SnapshotRow.parent_id == number).limit(3)
    return list(connection.execute(query).scalars())


def ancestors(connection: Connection, parent_id: int | None) -> tuple[int, ...]:
    """The numbers of a chain from `parent_id` to its root."""
    if parent_id is None:
        return ()
    base = select(SnapshotRow.id, SnapshotRow.parent_id, literal(0).label("depth"))
    chain = base.where(SnapshotRow.id == parent_id).cte("chain", recursive=True)
    step = select(SnapshotRow.id, SnapshotRow.parent_id, chain.c.depth + 1)
    chain = chain.union_all(step.join(chain, SnapshotRow.id == chain.c.parent_id))
    return tuple(connection.execute(select(chain.c.id).order_by(chain.c.depth)).scalars())


def layer(connection: Connection, record: Record) -> Layer:
    """The snapshot as its driver knows it."""
    info = record.info
    parents = ancestors(connection, record.parent_id)
    return Layer(record.id, info.kind, parents, driver_labels(info.labels))


def driver_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that are meant for drivers."""
    return {k: v for k, v in labels.items() if k.startswith(f"{LABEL_PREFIX}/") or k == LABEL_REF}


def add(
    tx: Transaction, place: Place, key: str, *, kind: Kind, parent_id: int | None, labels: Mapping[str, str]
) -> int:
    """Write the row of a snapshot whose files are yet to be made; answers its number."""
    values = {
        "namespace": place.namespace, "snapshotter": place.snapshotter, "key": key, "parent_id": parent_id,
        "kind": kind.value, "state": MAKING, "labels": labels, "size": 0, "inodes": 0,
        "created_at": tx.now, "updated_at": tx.now,
    }  # fmt: skip
    made = tx.execute(insert(SnapshotRow), values).inserted_primary_key
    assert made is not None
    return int(made[0])


def change(tx: Transaction, number: int, **values: object) -> bool:
    """Change columns of a row; False when there is no such row any more."""
    return tx.execute(update(SnapshotRow).where(SnapshotRow.id == number).values(**values)).rowcount == 1


def drop(tx: Transaction, number: int) -> bool:
    """Delete a row; False when there is no such row any more."""
    return tx.execute(delete(SnapshotRow).where(SnapshotRow.id == number)).rowcount == 1


def write_edges(tx: Transaction, place: Place, key: str, *, parent: str, labels: Mapping[str, str]) -> None:
    """Write down what a snapshot keeps alive: its parent, and what its labels name."""
    found = edges.label_edges(place.node_type, labels)
    if parent:
        found.append(edges.Edge(edges.PARENT, place.node_type, parent))
    edges.replace(tx, place.node(key), found)


def numbers(connection: Connection, snapshotter: str) -> set[int]:
    """The numbers of all snapshots of a driver, of all namespaces."""
    query = select(SnapshotRow.id).where(SnapshotRow.snapshotter == snapshotter)
    return set(connection.execute(query).scalars())


def unfinished(connection: Connection, snapshotter: str) -> list[tuple[int, Place, str]]:
    """Number, place and key of what a crash left in the making."""
    query = select(SnapshotRow.id, SnapshotRow.namespace, SnapshotRow.key).where(
        SnapshotRow.snapshotter == snapshotter, SnapshotRow.state == MAKING
    )
    found = connection.execute(query)
    return [(number, Place(Namespace(space), snapshotter), key) for number, space, key in found]
