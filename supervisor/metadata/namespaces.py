"""Namespaces: the walls between the users of one daemon (containerd: core/metadata/namespaces.go).

Rules: contract 3. A namespace comes into being with the first successful write into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, exists, select
from sqlalchemy.dialects.sqlite import insert

from supervisor.api.events.namespace_pb2 import NamespaceCreate, NamespaceDelete, NamespaceUpdate
from supervisor.errors import AlreadyExists, FailedPrecondition, NotFound
from supervisor.metadata import exits
from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import (
    BlobRow,
    ContainerRow,
    EdgeRow,
    ImageRow,
    IngestRow,
    LeaseRow,
    NamespaceRow,
    SandboxRow,
    SnapshotRow,
)
from supervisor.metadata.statements import Prepared
from supervisor.model.identifiers import Namespace, check_labels, stored_labels

_TOUCH = Prepared(insert(NamespaceRow).on_conflict_do_nothing())
_ALL = Prepared(select(NamespaceRow.name, NamespaceRow.labels).order_by(NamespaceRow.name))


def get(connection: Connection, name: str) -> Mapping[str, str]:
    """The labels of a namespace; none for one that is unknown."""
    labels = connection.execute(select(NamespaceRow.labels).where(NamespaceRow.name == name)).scalar()
    return labels or {}


def all_labels(connection: Connection) -> Sequence[tuple[Namespace, Mapping[str, str]]]:
    """Every namespace with its labels, in byte order of the names."""
    return [(Namespace(row["name"]), row["labels"]) for row in _ALL.each(connection, {})]


def touch(tx: Transaction, name: Namespace) -> None:
    """Make the namespace if it is not there: part of every write into it."""
    if name not in tx.known:
        _TOUCH.run(tx.connection, {"name": name, "labels": {}})
        tx.touched.add(name)


def create(tx: Transaction, name: Namespace, labels: Mapping[str, str]) -> None:
    """Make a namespace; raises AlreadyExists, InvalidArgument for a label that is too large."""
    check_labels(labels)
    if tx.execute(select(exists().where(NamespaceRow.name == name))).scalar_one():
        raise AlreadyExists(f"namespace {name!r}")
    tx.execute(insert(NamespaceRow), {"name": name, "labels": stored_labels(labels)})
    tx.emit(name, "/namespaces/create", NamespaceCreate(name=name, labels=labels))


def update(
    tx: Transaction, name: Namespace, labels: Mapping[str, str], only: Sequence[str] | None = None
) -> None:
    """Replace the labels, or just those whose keys are in `only`; an empty value removes a label.

    Makes a namespace that is missing. The event carries the labels of the request.
    """
    check_labels(labels)
    result = (
        dict(labels) if only is None else {**get(tx.connection, name), **{k: labels.get(k, "") for k in only}}
    )
    upsert = insert(NamespaceRow).values(name=name, labels=stored_labels(result))
    tx.execute(upsert.on_conflict_do_update(index_elements=["name"], set_={"labels": upsert.excluded.labels}))
    tx.emit(name, "/namespaces/update", NamespaceUpdate(name=name, labels=labels))


def remove(tx: Transaction, name: str) -> None:
    """Delete an empty namespace; leases, ingests, sandboxes and what kept mounts vanish with it.

    Raises NotFound, and FailedPrecondition that lists the kinds of what is still in it.
    """
    if not tx.execute(select(exists().where(NamespaceRow.name == name))).scalar_one():
        raise NotFound(f"namespace {name!r}")
    kinds = _contents(tx, name)
    if kinds:
        raise FailedPrecondition(f"namespace {name!r} must be empty, but it still has {', '.join(kinds)}")
    for table in (LeaseRow, IngestRow, SandboxRow, EdgeRow):
        tx.execute(delete(table).where(table.namespace == name))
    exits.forget_past(tx, name)
    tx.execute(delete(NamespaceRow).where(NamespaceRow.name == name))
    tx.known.discard(name)
    tx.touched.discard(name)
    tx.emit(name, "/namespaces/delete", NamespaceDelete(name=name))


def _contents(tx: Transaction, name: str) -> list[str]:
    kinds = [
        kind
        for kind, row in (("images", ImageRow), ("blobs", BlobRow), ("containers", ContainerRow))
        if tx.execute(select(exists().where(row.namespace == name))).scalar_one()
    ]
    query = select(SnapshotRow.snapshotter).distinct().where(SnapshotRow.namespace == name)
    return kinds + [
        f'snapshots on "{snapshotter}" snapshotter' for snapshotter in tx.execute(query).scalars()
    ]
