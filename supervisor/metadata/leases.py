"""Leases and what they hold (containerd: core/metadata/leases.go). Rules: contract 1.3 and 8.

A lease's resources are edges out of it. They need not exist, and they do not end with the objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import BindParameter, Connection, and_, bindparam, delete, exists, literal, select
from sqlalchemy.dialects.sqlite import insert

from supervisor.errors import AlreadyExists, InvalidArgument, NotFound, SupervisorError, Unimplemented
from supervisor.metadata import edges, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Node
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import EdgeRow, LeaseRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model.digest import digest
from supervisor.model.filters import Filter, parse_all
from supervisor.model.identifiers import Namespace, stored_labels
from supervisor.model.lease import Lease, Resource, expiry, generated_id

_COLUMNS = LeaseRow.__table__.columns
# Statements are built once: building one costs more than running it.
_IN: BindParameter[str] = bindparam("in_namespace")
_THIS = and_(LeaseRow.namespace == _IN, LeaseRow.id == bindparam("of_id"))
_EXISTS = Prepared(select(exists().where(_THIS).label("found")))
_FIND = Search(
    select(*_COLUMNS).where(LeaseRow.namespace == _IN).order_by(LeaseRow.id),
    LeaseRow.id,
    {
        ("id",): Text(LeaseRow.id, optional=True),
        ("labels",): Labels(_IN, literal(edges.LEASE), LeaseRow.id),
    },
)
_INSERT = Prepared(insert(LeaseRow).on_conflict_do_nothing())
_DELETE = Prepared(delete(LeaseRow).where(_THIS))
_HELD = select(EdgeRow.target_type, EdgeRow.target_key).where(edges.LEAVING)
_HOLD = Prepared(insert(EdgeRow).on_conflict_do_nothing())
_LET_GO = Prepared(
    delete(EdgeRow).where(
        edges.LEAVING,
        EdgeRow.target_type == bindparam("to_type"),
        EdgeRow.target_key == bindparam("to_key"),
    )
)
_SNAPSHOTS = "snapshots"
_PLURALS = {"content": edges.CONTENT, "images": edges.IMAGE, "ingests": edges.INGEST}
_SINGULARS = {node_type: plural for plural, node_type in _PLURALS.items()}


def create(tx: Transaction, namespace: Namespace, lease: Lease) -> Lease:
    """Store a new lease, under an id made here if it has none; raises AlreadyExists.

    Neither id nor labels have rules. A label `containerd.io/gc.expire` that is no time never expires.
    """
    id_ = lease.id or generated_id(tx.now)
    stored = replace(lease, id=id_, labels=stored_labels(lease.labels), created_at=tx.now)
    namespaces.touch(tx, namespace)
    values = {
        "namespace": namespace,
        "id": stored.id,
        "labels": stored.labels,
        "created_at": stored.created_at,
        "expires_at": expiry(stored.labels),
    }
    if not _INSERT.run(tx.connection, values).rowcount:
        raise AlreadyExists(f'lease "{stored.id}"')
    return stored


def remove(tx: Transaction, namespace: Namespace, id_: str) -> None:
    """Delete a lease with its hold on its resources; raises NotFound."""
    if not _DELETE.run(tx.connection, _this(namespace, id_)).rowcount:
        raise NotFound(f'lease "{id_}"')
    edges.drop(tx, _node(namespace, id_))
    tx.freed = True


def find(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Lease]:
    """The leases that pass the filters, in byte order of their ids."""
    return [_value(row) for row in _FIND.rows(connection, {"in_namespace": namespace}, filters)]


def add_resource(tx: Transaction, namespace: Namespace, id_: str, resource: Resource) -> None:
    """Have a lease hold a resource; raises NotFound for the lease first, then what the resource breaks."""
    _require(tx.connection, namespace, id_)
    _hold(tx, namespace, id_, _node_type(resource), resource.id)


def remove_resource(tx: Transaction, namespace: Namespace, id_: str, resource: Resource) -> None:
    """Have a lease let go of a resource, whether it held it or not; raises as `add_resource`."""
    _require(tx.connection, namespace, id_)
    detach(tx, namespace, id_, _node_type(resource), resource.id)
    tx.freed = True


def resources(connection: Connection, namespace: Namespace, id_: str) -> list[Resource]:
    """What a lease holds: content, images, ingests, snapshots by snapshotter, each by id. Raises NotFound."""
    _require(connection, namespace, id_)
    held = connection.execute(_HELD, edges.leaving(_node(namespace, id_)))
    shown = ((type_, key) for type_, key in held if type_ != edges.MOUNT)  # the API has no name for it
    return sorted(Resource(_resource_type(node_type), key) for node_type, key in shown)


def marked(connection: Connection, label: str) -> list[tuple[Namespace, str, Resource]]:
    """What the leases hold that have a label, in all namespaces: namespace, lease, resource."""
    wanted = parse_all([f'labels."{label}"'])
    return [
        (Namespace(name), lease.id, held)
        for name, _ in namespaces.all_labels(connection)
        for lease in find(connection, Namespace(name), wanted)
        for held in resources(connection, Namespace(name), lease.id)
    ]


def attach(tx: Transaction, namespace: Namespace, lease_id: str | None, node_type: str, key: str) -> None:
    """Have the lease of a call hold what the call makes; without a lease nothing happens.

    `node_type` is one of `supervisor.metadata.edges`. Raises NotFound for a lease that does not exist.
    """
    check(tx.connection, namespace, lease_id)
    if lease_id is not None:
        _hold(tx, namespace, lease_id, node_type, key)


def check(connection: Connection, namespace: Namespace, lease_id: str | None) -> None:
    """Raise NotFound when a call names a lease that does not exist."""
    if lease_id is not None and not _exists(connection, namespace, lease_id):
        raise NotFound("lease does not exist")


def detach(tx: Transaction, namespace: Namespace, lease_id: str | None, node_type: str, key: str) -> None:
    """Have the lease of a call let go; nothing happens when lease or hold is missing."""
    if lease_id is None:
        return
    hold = {**edges.leaving(_node(namespace, lease_id)), "to_type": node_type, "to_key": key}
    _LET_GO.run(tx.connection, hold)


def _hold(tx: Transaction, namespace: Namespace, id_: str, node_type: str, key: str) -> None:
    values = {
        "namespace": namespace,
        "source_type": edges.LEASE,
        "source_key": id_,
        "kind": edges.HOLDS,
        "target_type": node_type,
        "target_key": key,
        "condition": "",
    }
    _HOLD.run(tx.connection, values)


def _this(namespace: Namespace, id_: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_id": id_}


def _exists(connection: Connection, namespace: Namespace, id_: str) -> bool:
    return _EXISTS.one(connection, _this(namespace, id_)) == {"found": True}


def _require(connection: Connection, namespace: Namespace, id_: str) -> None:
    if not _exists(connection, namespace, id_):
        raise NotFound(f'lease "{id_}"')


def _node(namespace: Namespace, id_: str) -> Node:
    return Node(namespace, edges.LEASE, id_)


def _value(row: Row) -> Lease:
    return Lease(row["id"], row["labels"], row["created_at"])


def _node_type(resource: Resource) -> str:
    """The node that a resource names; raises as `_checked_type`, UNKNOWN for an empty id (contract 1.4)."""
    node_type = _checked_type(resource)
    if not resource.id:
        raise SupervisorError(f"lease resource of type {resource.type!r}: the id must not be empty")
    return node_type


def _checked_type(resource: Resource) -> str:
    """The node's type; raises InvalidArgument, or Unimplemented for an unknown type."""
    name, *rest = resource.type.split("/")
    if name == _SNAPSHOTS:
        if len(rest) != 1 or not rest[0]:
            raise InvalidArgument(f"lease resource type {resource.type!r} must be snapshots/SNAPSHOTTER")
        return edges.snapshot_type(rest[0])
    if name not in _PLURALS:
        raise Unimplemented(f"lease resource type {resource.type!r}")
    if rest:
        raise InvalidArgument(f"lease resource type {resource.type!r} must be {name}")
    if name == "content":
        digest(resource.id)
    return _PLURALS[name]


def _resource_type(node_type: str) -> str:
    if node_type.startswith(edges.SNAPSHOT_PREFIX):
        return f"{_SNAPSHOTS}/{node_type.removeprefix(edges.SNAPSHOT_PREFIX)}"
    return _SINGULARS[node_type]
