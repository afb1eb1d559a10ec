"""Sandboxes' records (containerd: core/metadata/sandbox.go). Rules: contract 14.

No events and no leases: a sandbox is there until somebody deletes it, and what its labels refer to
is kept as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any as Anything

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, literal, select, update
from sqlalchemy.dialects.sqlite import insert

from supervisor.errors import AlreadyExists, NotFound
from supervisor.metadata import edges, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Node
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import SandboxRow
from supervisor.metadata.statements import Row
from supervisor.model import sandbox as rules
from supervisor.model.container import Runtime
from supervisor.model.fieldmask import MaskPath
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace, stored_labels
from supervisor.model.sandbox import Sandbox

_COLUMNS = SandboxRow.__table__.columns
# Statements are built once: building one costs more than running it.
_THIS = and_(SandboxRow.namespace == bindparam("in_namespace"), SandboxRow.id == bindparam("of_id"))
_GET = select(*_COLUMNS).where(_THIS)
_FIND = Search(
    select(*_COLUMNS).where(SandboxRow.namespace == bindparam("in_namespace")).order_by(SandboxRow.id),
    SandboxRow.id,
    {
        ("id",): Text(SandboxRow.id),
        ("labels",): Labels(bindparam("in_namespace"), literal(edges.SANDBOX), SandboxRow.id),
    },
)
_INSERT = insert(SandboxRow).on_conflict_do_nothing()
_UPDATE = update(SandboxRow).where(_THIS)
_DELETE = delete(SandboxRow).where(_THIS)


def get(connection: Connection, namespace: Namespace, id_: str) -> Sandbox:
    """The record of a sandbox; raises NotFound."""
    row = connection.execute(_GET, _this(namespace, id_)).mappings().one_or_none()
    if row is None:
        raise NotFound(f'sandbox "{id_}" in namespace "{namespace}"')
    return _value(row)


def find(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Sandbox]:
    """The sandboxes that pass the filters, in byte order of their ids."""
    return [_value(row) for row in _FIND.rows(connection, {"in_namespace": namespace}, filters)]


def create(tx: Transaction, namespace: Namespace, sandbox: Sandbox) -> Sandbox:
    """Store a new record; returns it as stored. Raises InvalidArgument, AlreadyExists."""
    rules.validate(sandbox)
    stored = replace(sandbox, labels=stored_labels(sandbox.labels), created_at=tx.now, updated_at=tx.now)
    namespaces.touch(tx, namespace)
    if not tx.execute(_INSERT, _values(namespace, stored)).rowcount:
        raise AlreadyExists(f'sandbox "{stored.id}"')
    edges.add(tx, _node(namespace, stored.id), edges.label_edges(edges.SANDBOX, stored.labels))
    return stored


def change(tx: Transaction, namespace: Namespace, given: Sandbox, mask: tuple[MaskPath, ...] = ()) -> Sandbox:
    """Update the fields of `mask`, or all; returns the result. Raises NotFound, InvalidArgument."""
    result = replace(rules.updated(get(tx.connection, namespace, given.id), given, mask), updated_at=tx.now)
    rules.validate(result)
    tx.execute(_UPDATE, {**_values(namespace, result), **_this(namespace, result.id)})
    edges.replace(tx, _node(namespace, result.id), edges.label_edges(edges.SANDBOX, result.labels))
    return result


def remove(tx: Transaction, namespace: Namespace, id_: str) -> None:
    """Delete a record; containers that name it stay. Raises NotFound."""
    if not tx.execute(_DELETE, _this(namespace, id_)).rowcount:
        raise NotFound(f'sandbox "{id_}" in namespace "{namespace}"')
    edges.drop(tx, _node(namespace, id_))


def _this(namespace: Namespace, id_: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_id": id_}


def _node(namespace: Namespace, id_: str) -> Node:
    return Node(namespace, edges.SANDBOX, id_)


def _values(namespace: Namespace, sandbox: Sandbox) -> dict[str, Anything]:
    return {
        "namespace": namespace,
        "id": sandbox.id,
        "runtime_name": sandbox.runtime.name,
        "runtime_options": sandbox.runtime.options,
        "spec": sandbox.spec,
        "labels": sandbox.labels,
        "extensions": sandbox.extensions,
        "sandboxer": sandbox.sandboxer,
        "created_at": sandbox.created_at,
        "updated_at": sandbox.updated_at,
    }


def _value(row: RowMapping | Row) -> Sandbox:
    return Sandbox(
        id=row["id"],
        runtime=Runtime(row["runtime_name"], row["runtime_options"]),
        spec=row["spec"],
        labels=row["labels"],
        extensions=row["extensions"],
        sandboxer=row["sandboxer"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
