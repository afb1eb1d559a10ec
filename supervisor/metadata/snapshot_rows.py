"""Rows of snapshots, read and written; the rules are in `supervisor.metadata.snapshots`.

A record of a namespace and the folder of a driver are one row: containerd keeps them in two databases
(core/metadata/snapshot.go, core/snapshots/storage/bolt.go), which can disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from supervisor.metadata import edges
from supervisor.metadata.database import Transaction
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import SnapshotRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import Nanoseconds
from supervisor.snapshots.snapshotter import LABEL_PREFIX, LABEL_REF, Info, Kind, Layer, Usage

MAKING, READY = "making", "ready"


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


# Statements are built once: building one costs more than running it.
_T = SnapshotRow.__table__.columns
_P = SnapshotRow.__table__.alias("parent").columns
_IN_PLACE = and_(_T.namespace == bindparam("namespace"), _T.snapshotter == bindparam("snapshotter"))
_KEYED = and_(_IN_PLACE, _T.key == bindparam("key"))
_RECORDS = (
    select(
        _T.id, _T.parent_id, _T.key, _P.key.label("parent"), _T.kind,
        _T.labels, _T.size, _T.inodes, _T.created_at, _T.updated_at,
    )
    .select_from(SnapshotRow.__table__.outerjoin(_P.id.table, _T.parent_id == _P.id))
    .where(_IN_PLACE, _T.state == READY)
)  # fmt: skip
_FIND = Prepared(_RECORDS.where(_KEYED))
_ALL = Search(
    _RECORDS.order_by(_T.key),
    _T.key,
    {
        ("kind",): Text(_T.kind),
        ("name",): Text(_T.key),
        ("parent",): Text(func.coalesce(_P.key, "")),
        ("labels",): Labels(
            bindparam("namespace"), literal(edges.SNAPSHOT_PREFIX).concat(bindparam("snapshotter")), _T.key
        ),
    },
)
_TAKEN = Prepared(select(exists().where(_KEYED).label("found")))
_ANY = select(exists().where(_IN_PLACE))
_CHILDREN = Prepared(select(_T.key).where(_T.parent_id == bindparam("number")).limit(3))
_NUMBERS = select(_T.id).where(_T.snapshotter == bindparam("snapshotter"))
_UNFINISHED = select(_T.id, _T.namespace, _T.key).where(
    _T.snapshotter == bindparam("snapshotter"), _T.state == MAKING
)
_INSERT = Prepared(insert(SnapshotRow), [column.name for column in _T if column is not _T.id])
_SET_READY = Prepared(update(SnapshotRow).where(_T.id == bindparam("number")).values(state=READY))
_DELETE = Prepared(delete(SnapshotRow).where(_T.id == bindparam("number")))


def _ancestors() -> Select[int]:
    base = select(_T.id, _T.parent_id, literal(0).label("depth")).where(_T.id == bindparam("number"))
    chain = base.cte("chain", recursive=True)
    step = select(_T.id, _T.parent_id, chain.c.depth + 1).join(chain, _T.id == chain.c.parent_id)
    chain = chain.union_all(step)
    return select(chain.c.id).order_by(chain.c.depth)


_ANCESTORS = Prepared(_ancestors())


def _keyed(place: Place, key: str) -> dict[str, str]:
    return {"namespace": place.namespace, "snapshotter": place.snapshotter, "key": key}


def _record(row: Row) -> Record:
    times = (Nanoseconds(row["created_at"]), Nanoseconds(row["updated_at"]))
    info = Info(row["key"], row["parent"] or "", Kind(row["kind"]), row["labels"], *times)
    return Record(row["id"], row["parent_id"], info, Usage(row["size"], row["inodes"]))


def find(connection: Connection, place: Place, key: str) -> Record | None:
    """The snapshot of that key, None while it is still being made."""
    row = _FIND.one(connection, _keyed(place, key))
    return None if row is None else _record(row)


def all_of(connection: Connection, place: Place, filters: Sequence[Filter] = ()) -> list[Record]:
    """The snapshots of a place that pass the filters, in byte order of their keys."""
    where = {"namespace": place.namespace, "snapshotter": place.snapshotter}
    return [_record(row) for row in _ALL.rows(connection, where, filters)]


def taken(connection: Connection, place: Place, key: str) -> bool:
    """Whether a key is in use, also by a snapshot that is being made."""
    return _TAKEN.one(connection, _keyed(place, key)) == {"found": True}


def any_in(connection: Connection, place: Place) -> bool:
    """Whether the place holds any snapshot."""
    where = {"namespace": place.namespace, "snapshotter": place.snapshotter}
    return bool(connection.execute(_ANY, where).scalar_one())


def children(connection: Connection, number: int) -> list[str]:
    """The keys of the snapshots that have this one for their parent; a few are enough for a message."""
    return [row["key"] for row in _CHILDREN.each(connection, {"number": number})]


def ancestors(connection: Connection, parent_id: int | None) -> tuple[int, ...]:
    """The numbers of a chain from `parent_id` to its root."""
    if parent_id is None:
        return ()
    return tuple(row["id"] for row in _ANCESTORS.each(connection, {"number": parent_id}))


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
    return _INSERT.run(tx.connection, values).lastrowid or 0


def set_ready(tx: Transaction, number: int) -> bool:
    """Note that a snapshot's files are made; False when there is no such row any more."""
    return _SET_READY.run(tx.connection, {"number": number}).rowcount == 1


def change(tx: Transaction, number: int, **values: object) -> bool:
    """Change columns of a row; False when there is no such row any more."""
    return tx.execute(update(SnapshotRow).where(SnapshotRow.id == number).values(**values)).rowcount == 1


def drop(tx: Transaction, number: int) -> bool:
    """Delete a row; False when there is no such row any more."""
    return _DELETE.run(tx.connection, {"number": number}).rowcount == 1


def write_edges(tx: Transaction, place: Place, key: str, *, parent: str, labels: Mapping[str, str]) -> None:
    """Write down what a snapshot keeps alive: its parent, and what its labels name."""
    found = edges.label_edges(place.node_type, labels)
    if parent:
        found.append(edges.Edge(edges.PARENT, place.node_type, parent))
    edges.replace(tx, place.node(key), found)


def numbers(connection: Connection, snapshotter: str) -> set[int]:
    """The numbers of all snapshots of a driver, of all namespaces."""
    return set(connection.execute(_NUMBERS, {"snapshotter": snapshotter}).scalars())


def ready(connection: Connection, snapshotter: str) -> set[int]:
    """The numbers of those whose files were made."""
    return set(connection.execute(_NUMBERS.where(_T.state == READY), {"snapshotter": snapshotter}).scalars())


def unfinished(connection: Connection, snapshotter: str) -> list[tuple[int, Place, str]]:
    """Number, place and key of what a crash left in the making."""
    found = connection.execute(_UNFINISHED, {"snapshotter": snapshotter})
    return [(number, Place(Namespace(space), snapshotter), key) for number, space, key in found]
