"""Activations' records (containerd: core/mount/manager, buckets.go). Rules: contract 1.3 and 11.1.

An activation is kept by the lease it was made under, by the targets of its `gc.bref` labels, and by
whoever names it in a `gc.ref.mount` label. One that has neither lease nor such a label is kept for
itself, until it is deactivated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import (
    BindParameter,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    insert,
    literal,
    select,
    update,
)

from supervisor.errors import NotFound
from supervisor.metadata import edges, leases, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Edge, Node
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import EdgeRow, MountRow
from supervisor.metadata.statements import Row
from supervisor.model.activation import Activation
from supervisor.model.fieldmask import MaskPath, merged_map
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace, check_labels, stored_labels


class State(StrEnum):
    """How far an activation is."""

    MAKING = "making"
    ACTIVE = "active"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class Record:
    """An activation as it is stored; its mounts are in the folder `id`."""

    id: int
    namespace: Namespace
    state: State
    leased: bool
    activation: Activation


_COLUMNS = MountRow.__table__.columns
# Statements are built once: building one costs more than running it.
_IN: BindParameter[str] = bindparam("in_namespace")
_THIS = and_(MountRow.namespace == _IN, MountRow.name == bindparam("of_name"))
_NUMBER = MountRow.id == bindparam("of_id")
_GET = select(*_COLUMNS).where(_THIS)
_FIND = Search(
    select(*_COLUMNS)
    .where(MountRow.namespace == _IN, MountRow.state != State.MAKING)
    .order_by(MountRow.name),
    MountRow.name,
    {("name",): Text(MountRow.name), ("labels",): Labels(_IN, literal(edges.MOUNT), MountRow.name)},
)
_ALL = select(*_COLUMNS).order_by(MountRow.id)
_INSERT = insert(MountRow)
_UPDATE = update(MountRow).where(_NUMBER)
_DELETE = delete(MountRow).where(_NUMBER)
_HOLDS = delete(EdgeRow).where(
    EdgeRow.namespace == bindparam("in_namespace"),
    EdgeRow.target_type == edges.MOUNT,
    EdgeRow.target_key == bindparam("of_name"),
    EdgeRow.kind == edges.HOLDS,
)


def lookup(connection: Connection, namespace: Namespace, name: str) -> Record | None:
    """The activation of that name, in whatever state."""
    row = connection.execute(_GET, _this(namespace, name)).mappings().one_or_none()
    return None if row is None else _record(row)


def get(connection: Connection, namespace: Namespace, name: str) -> Record:
    """The activation of that name, active or ending; raises NotFound."""
    found = lookup(connection, namespace, name)
    if found is None or found.state is State.MAKING:
        raise NotFound(f'mount "{name}"')
    return found


def find(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Activation]:
    """The activations that pass the filters, in byte order of their names."""
    rows = _FIND.rows(connection, {"in_namespace": namespace}, filters)
    return [_record(row).activation for row in rows]


def everything(connection: Connection) -> list[Record]:
    """All activations of all namespaces."""
    return [_record(row) for row in connection.execute(_ALL).mappings()]


def begin(
    tx: Transaction, namespace: Namespace, name: str, labels: Mapping[str, str], lease_id: str | None
) -> int:
    """Record that an activation is made; answers its number. Raises NotFound for an unknown lease.

    The caller has seen that no activation of the name is there.
    """
    check_labels(labels)
    leases.attach(tx, namespace, lease_id, edges.MOUNT, name)
    namespaces.touch(tx, namespace)
    kept = stored_labels(labels)
    values = {
        "namespace": namespace,
        "name": name,
        "state": State.MAKING,
        "leased": lease_id is not None,
        "active": (),
        "system": (),
        "labels": kept,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    row = tx.execute(_INSERT, values).inserted_primary_key
    assert row is not None
    edges.add(tx, Node(namespace, edges.MOUNT, name), references(kept, leased=lease_id is not None))
    return int(row[0])


def complete(tx: Transaction, number: int, activation: Activation) -> None:
    """Record what was mounted."""
    values = {"active": activation.active, "system": activation.system, "updated_at": tx.now}
    tx.execute(_UPDATE, {**values, "state": State.ACTIVE, "of_id": number})


def relabel(
    tx: Transaction, namespace: Namespace, given: Activation, mask: tuple[MaskPath, ...] = ()
) -> Activation:
    """Replace the labels, or those that the mask names; returns the result. Raises NotFound."""
    record = get(tx.connection, namespace, given.name)
    labels = record.activation.labels
    for path in mask or (MaskPath("labels"),):
        labels = merged_map(labels, given.labels, path.key)
    check_labels(labels)
    kept = stored_labels(labels)
    tx.execute(_UPDATE, {"labels": kept, "updated_at": tx.now, "of_id": record.id})
    node = Node(namespace, edges.MOUNT, given.name)
    edges.replace(tx, node, references(kept, leased=record.leased))
    return get(tx.connection, namespace, given.name).activation


def end(tx: Transaction, number: int) -> None:
    """Record that an activation is being undone: from here on there is no way back."""
    tx.execute(_UPDATE, {"state": State.ENDING, "updated_at": tx.now, "of_id": number})


def forget(tx: Transaction, record: Record) -> None:
    """Drop the record of an activation that is undone, and what kept it."""
    tx.execute(_DELETE, {"of_id": record.id})
    edges.drop(tx, Node(record.namespace, edges.MOUNT, record.activation.name))
    tx.execute(_HOLDS, _this(record.namespace, record.activation.name))


def references(labels: Mapping[str, str], *, leased: bool) -> Iterator[Edge]:
    """Of its labels only back references count; without any, and without a lease, it keeps itself."""
    references = [e for e in edges.label_edges(edges.MOUNT, labels) if e.kind == edges.BACK_REFERENCE]
    yield from references
    if not references and not leased:
        yield Edge(edges.ROOT, "", "")


def _this(namespace: Namespace, name: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_name": name}


def _record(row: Row | RowMapping) -> Record:
    activation = Activation(row["name"], tuple(row["active"]), tuple(row["system"]), row["labels"])
    return Record(row["id"], Namespace(row["namespace"]), State(row["state"]), row["leased"], activation)
