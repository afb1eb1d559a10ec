"""What may happen to a snapshot, and what is written when it does: one function per transaction.

Checks come in the contract's order (7.1), because clients see which of two errors wins. (containerd:
core/metadata/snapshot.go.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from supervisor.api.events.snapshot_pb2 import SnapshotCommit, SnapshotPrepare, SnapshotRemove
from supervisor.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SupervisorError,
)
from supervisor.metadata import edges, leases, namespaces, snapshot_rows
from supervisor.metadata.database import Transaction
from supervisor.metadata.snapshot_rows import Place, Record
from supervisor.model.fieldmask import merged_map, parse_mask
from supervisor.model.identifiers import check_labels, stored_labels
from supervisor.snapshots.snapshotter import LABEL_REF, Info, Kind, Layer, Snapshotter, Usage


@dataclass(frozen=True, slots=True)
class New:
    """A snapshot that is asked for: writable (ACTIVE) or read-only (VIEW), on `parent` unless it is empty."""

    key: str
    parent: str = ""
    kind: Kind = Kind.ACTIVE
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """A commit that is asked for: the active snapshot `key` becomes `name`, on `parent` if it has none."""

    key: str
    name: str
    parent: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def existing(connection: Connection, place: Place, key: str) -> Record:
    """The snapshot of that key; raises NotFound."""
    record = snapshot_rows.find(connection, place, key)
    if record is None:
        raise NotFound(f'snapshot "{key}" of {place.snapshotter} in namespace "{place.namespace}"')
    return record


def layer_of(connection: Connection, place: Place, key: str) -> Layer:
    """The snapshot of that key as its driver knows it; raises NotFound."""
    return snapshot_rows.layer(connection, existing(connection, place, key))


def measurable(connection: Connection, place: Place, key: str) -> tuple[Record, Layer]:
    """Both sides of the snapshot of that key; raises NotFound."""
    record = existing(connection, place, key)
    return record, snapshot_rows.layer(connection, record)


def attach(tx: Transaction, place: Place, key: str, lease: str | None) -> None:
    """Have the lease of a call hold a snapshot; raises NotFound when there is no such lease."""
    leases.attach(tx, place.namespace, lease, place.node_type, key)


def begin(
    tx: Transaction, *, place: Place, new: New, lease: str | None, driver: Snapshotter
) -> Layer | AlreadyExists:
    """Check a request in the contract's order and write the row in the making.

    AlreadyExists is answered, not raised: the lease keeps the snapshot that is there.
    """
    for key in (new.labels.get(LABEL_REF, ""), new.key):
        if key and snapshot_rows.taken(tx.connection, place, key):
            attach(tx, place, key, lease)
            return AlreadyExists(f'snapshot "{key}"')
    parent = _parent(tx.connection, place, new.parent) if new.parent else None
    driver.check(new.labels)
    attach(tx, place, new.key, lease)
    if not new.key:
        raise SupervisorError("the key of a snapshot must not be empty")
    namespaces.touch(tx, place.namespace)
    labels, parent_id = stored_labels(new.labels), parent.id if parent else None
    number = snapshot_rows.add(tx, place, new.key, kind=new.kind, parent_id=parent_id, labels=labels)
    snapshot_rows.write_edges(tx, place, new.key, parent=new.parent, labels=labels)
    ancestors = snapshot_rows.ancestors(tx.connection, parent_id)
    return Layer(number, new.kind, ancestors, snapshot_rows.driver_labels(labels))


def _parent(connection: Connection, place: Place, key: str) -> Record:
    record = snapshot_rows.find(connection, place, key)
    if record is None:
        raise NotFound(f'parent snapshot "{key}" of {place.snapshotter}')
    if record.info.kind is not Kind.COMMITTED:
        raise InvalidArgument(f'parent "{key}" is not a committed snapshot; commit it first')
    return record


def made(tx: Transaction, *, place: Place, new: New, number: int) -> None:
    """Files are there: from now on the snapshot is seen. Only an active one is told of (contract 7.1)."""
    if not snapshot_rows.set_ready(tx, number):
        raise Aborted(f'snapshot "{new.key}" was removed while it was being made')
    if new.kind is Kind.ACTIVE:
        event = SnapshotPrepare(key=new.key, parent=new.parent, snapshotter=place.snapshotter)
        tx.emit(place.namespace, "/snapshot/prepare", event)


def forget(tx: Transaction, *, place: Place, key: str, number: int) -> None:
    """Delete a row with what it keeps alive. A lease may go on naming the key (contract 8)."""
    if snapshot_rows.drop(tx, number):
        edges.drop(tx, place.node(key))


def committable(connection: Connection, place: Place, finished: Finished, rebases: bool) -> Layer | None:
    """The active snapshot that can be committed, None when the name is taken; else the error."""
    if not snapshot_rows.any_in(connection, place):
        raise NotFound(f'no snapshots of {place.snapshotter} in namespace "{place.namespace}"')
    if snapshot_rows.taken(connection, place, finished.name):
        return None
    record = existing(connection, place, finished.key)
    parent = _new_parent(connection, place, record, finished.parent)
    if record.info.kind is not Kind.ACTIVE:
        raise FailedPrecondition(f'snapshot "{finished.key}" is not active but {record.info.kind.value}')
    if parent is not None and parent.info.kind is not Kind.COMMITTED:
        raise FailedPrecondition(f'parent "{finished.parent}" is not a committed snapshot; commit it first')
    if parent is not None and not rebases:
        raise FailedPrecondition(
            f'{place.snapshotter} cannot put "{finished.key}" on another parent; prepare it on that one'
        )
    if not finished.name:
        raise SupervisorError("the name of a snapshot must not be empty")
    return snapshot_rows.layer(connection, record)


def _new_parent(connection: Connection, place: Place, record: Record, parent: str) -> Record | None:
    """The parent to put a parentless snapshot on; one that has a parent keeps it, whatever is asked."""
    if not parent or record.parent_id is not None:
        return None
    found = snapshot_rows.find(connection, place, parent)
    if found is None:
        raise NotFound(f'parent snapshot "{parent}" of {place.snapshotter}')
    return found


def committed(
    tx: Transaction,
    *,
    place: Place,
    finished: Finished,
    lease: str | None,
    rebases: bool,
    layer: Layer,
    usage: Usage,
) -> AlreadyExists | None:
    """Write a commit down, after checking again what may have changed while files were written out."""
    if not snapshot_rows.any_in(tx.connection, place):
        raise NotFound(f'no snapshots of {place.snapshotter} in namespace "{place.namespace}"')
    attach(tx, place, finished.name, lease)
    again = committable(tx.connection, place, finished, rebases)
    if again is None:
        return AlreadyExists(f'snapshot "{finished.name}"')
    if again.id != layer.id:
        raise Aborted(f'snapshot "{finished.key}" was replaced while it was being committed')
    _rename(tx, place, finished, usage)
    leases.detach(tx, place.namespace, lease, place.node_type, finished.key)
    event = SnapshotCommit(key=finished.key, name=finished.name, snapshotter=place.snapshotter)
    tx.emit(place.namespace, "/snapshot/commit", event)
    return None


def _rename(tx: Transaction, place: Place, finished: Finished, usage: Usage) -> None:
    record = existing(tx.connection, place, finished.key)
    parent = _new_parent(tx.connection, place, record, finished.parent)
    labels = stored_labels(finished.labels)
    snapshot_rows.change(
        tx, record.id,
        key=finished.name, kind=Kind.COMMITTED.value, labels=labels, size=usage.size, inodes=usage.inodes,
        parent_id=parent.id if parent else record.parent_id, created_at=tx.now, updated_at=tx.now,
    )  # fmt: skip
    edges.drop(tx, place.node(finished.key))
    parent_key = parent.info.name if parent else record.info.parent
    snapshot_rows.write_edges(tx, place, finished.name, parent=parent_key, labels=labels)


def remove(tx: Transaction, place: Place, key: str, lease: str | None) -> int:
    """Delete the row of a snapshot that nothing builds on; answers its number."""
    record = existing(tx.connection, place, key)
    if children := snapshot_rows.children(tx.connection, record.id):
        raise FailedPrecondition(f'snapshot "{key}" has children; remove {", ".join(children)} first')
    forget(tx, place=place, key=key, number=record.id)
    tx.freed = True
    leases.detach(tx, place.namespace, lease, place.node_type, key)
    tx.emit(place.namespace, "/snapshot/remove", SnapshotRemove(key=key, snapshotter=place.snapshotter))
    return record.id


def update(tx: Transaction, place: Place, key: str, given: Mapping[str, str], paths: Sequence[str]) -> Info:
    """Replace labels, or those that the mask names; all else in a request is ignored."""
    record = existing(tx.connection, place, key)
    check_labels(given)
    labels = dict(record.info.labels) if paths else dict(given)
    for path in parse_mask(paths, f'snapshot "{key}"', fields=("labels",), maps=("labels",)):
        labels = merged_map(labels, given, path.key)
    snapshot_rows.change(tx, record.id, labels=stored_labels(labels), updated_at=tx.now)
    snapshot_rows.write_edges(tx, place, key, parent=record.info.parent, labels=labels)
    return existing(tx.connection, place, key).info
