"""Containers' records (containerd: core/metadata/containers.go). Rules: contract 4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any as Anything

from google.protobuf.any_pb2 import Any as AnyMessage
from sqlalchemy import BindParameter, Connection, and_, bindparam, delete, literal, select, update
from sqlalchemy.dialects.sqlite import insert

from supervisor.api.events.container_pb2 import ContainerCreate, ContainerDelete, ContainerUpdate
from supervisor.errors import AlreadyExists, NotFound
from supervisor.metadata import edges, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Edge, Node
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import ContainerRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model import container as rules
from supervisor.model.container import Container, Runtime
from supervisor.model.fieldmask import MaskPath
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace, stored_labels

_COLUMNS = ContainerRow.__table__.columns
_IN: BindParameter[str] = bindparam("in_namespace")
_THIS = and_(ContainerRow.namespace == _IN, ContainerRow.id == bindparam("of_id"))
_GET = Prepared(select(*_COLUMNS).where(_THIS))
_FIND = Search(
    select(*_COLUMNS).where(ContainerRow.namespace == _IN).order_by(ContainerRow.id),
    ContainerRow.id,
    {
        ("id",): Text(ContainerRow.id, optional=True),
        ("image",): Text(ContainerRow.image, optional=True),
        ("runtime", "name"): Text(ContainerRow.runtime_name, optional=True),
        ("labels",): Labels(_IN, literal(edges.CONTAINER), ContainerRow.id),
    },
)
_INSERT = Prepared(insert(ContainerRow).on_conflict_do_nothing())
_UPDATE = Prepared(update(ContainerRow).where(_THIS))
_DELETE = Prepared(delete(ContainerRow).where(_THIS))


def get(connection: Connection, namespace: Namespace, id_: str) -> Container:
    """The record of a container; raises NotFound."""
    row = _GET.one(connection, _this(namespace, id_))
    if row is None:
        raise NotFound(f'container "{id_}" in namespace "{namespace}"')
    return _value(row)


def find(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Container]:
    """The containers that pass the filters, in byte order of their ids."""
    return [_value(row) for row in _FIND.rows(connection, {"in_namespace": namespace}, filters)]


def create(tx: Transaction, namespace: Namespace, container: Container) -> Container:
    """Store a new record; returns it as stored. Raises InvalidArgument, AlreadyExists."""
    rules.validate(container)
    stored = replace(container, labels=stored_labels(container.labels), created_at=tx.now, updated_at=tx.now)
    namespaces.touch(tx, namespace)
    if not _INSERT.run(tx.connection, _values(namespace, stored)).rowcount:
        raise AlreadyExists(f'container "{stored.id}"')
    edges.add(tx, _node(namespace, stored.id), references(stored))
    runtime = ContainerCreate.Runtime(name=stored.runtime.name)
    if (options := stored.runtime.options) is not None:
        runtime.options.CopyFrom(AnyMessage(type_url=options.type_url, value=options.value))
    event = ContainerCreate(id=stored.id, image=stored.image, runtime=runtime)
    tx.emit(namespace, "/containers/create", event)
    return stored


def change(
    tx: Transaction, namespace: Namespace, given: Container, mask: tuple[MaskPath, ...] = ()
) -> Container:
    """Update the fields of `mask`, or all; returns the result. Raises NotFound, InvalidArgument."""
    result = replace(rules.updated(get(tx.connection, namespace, given.id), given, mask), updated_at=tx.now)
    rules.validate(result)
    _UPDATE.run(tx.connection, {**_values(namespace, result), **_this(namespace, result.id)})
    edges.replace(tx, _node(namespace, result.id), references(result))
    event = ContainerUpdate(
        id=result.id, image=result.image, labels=result.labels, snapshot_key=result.snapshot_key
    )
    tx.emit(namespace, "/containers/update", event)
    return result


def remove(tx: Transaction, namespace: Namespace, id_: str) -> None:
    """Delete a record; whether a task still runs is not asked, as in containerd. Raises NotFound."""
    if not _DELETE.run(tx.connection, _this(namespace, id_)).rowcount:
        raise NotFound(f'container "{id_}" in namespace "{namespace}"')
    edges.drop(tx, _node(namespace, id_))
    tx.freed = True
    tx.emit(namespace, "/containers/delete", ContainerDelete(id=id_))


def _this(namespace: Namespace, id_: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_id": id_}


def _node(namespace: Namespace, id_: str) -> Node:
    return Node(namespace, edges.CONTAINER, id_)


def references(container: Container) -> Iterable[Edge]:
    """The snapshot and what labels say; the image's name is not a reference (contract 11.1)."""
    if container.snapshotter and container.snapshot_key:
        yield Edge(edges.TARGET, edges.snapshot_type(container.snapshotter), container.snapshot_key)
    yield from edges.label_edges(edges.CONTAINER, container.labels)


def _values(namespace: Namespace, container: Container) -> dict[str, Anything]:
    return {
        "namespace": namespace,
        "id": container.id,
        "image": container.image,
        "runtime_name": container.runtime.name,
        "runtime_options": container.runtime.options,
        "spec": container.spec,
        "snapshotter": container.snapshotter,
        "snapshot_key": container.snapshot_key,
        "sandbox": container.sandbox,
        "labels": container.labels,
        "extensions": container.extensions,
        "created_at": container.created_at,
        "updated_at": container.updated_at,
    }


def _value(row: Row) -> Container:
    return Container(
        id=row["id"],
        runtime=Runtime(row["runtime_name"], row["runtime_options"]),
        image=row["image"],
        spec=row["spec"],
        snapshotter=row["snapshotter"],
        snapshot_key=row["snapshot_key"],
        sandbox=row["sandbox"],
        labels=row["labels"],
        extensions=row["extensions"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
