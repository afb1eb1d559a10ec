"""Images' records (containerd: core/metadata/images.go). Rules: contract 5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any as Anything

from sqlalchemy import BindParameter, Connection, and_, bindparam, delete, literal, select, update
from sqlalchemy.dialects.sqlite import insert

from supervisor.api.events.image_pb2 import ImageCreate, ImageDelete, ImageUpdate
from supervisor.errors import AlreadyExists, NotFound
from supervisor.metadata import edges, leases, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Edge, Node
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import ImageRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model import image as rules
from supervisor.model.descriptor import Descriptor
from supervisor.model.fieldmask import MaskPath
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace, stored_labels
from supervisor.model.image import Image
from supervisor.model.instant import Nanoseconds
from supervisor.model.lease import EXPIRE_LABEL, expiry

_COLUMNS = ImageRow.__table__.columns
# Statements are built once: building one costs more than running it.
_IN: BindParameter[str] = bindparam("in_namespace")
_THIS = and_(ImageRow.namespace == _IN, ImageRow.name == bindparam("of_name"))
_GET = Prepared(select(*_COLUMNS).where(_THIS))
_FIND = Search(
    select(*_COLUMNS).where(ImageRow.namespace == _IN).order_by(ImageRow.name),
    ImageRow.name,
    {
        ("name",): Text(ImageRow.name, optional=True),
        ("target", "digest"): Text(ImageRow.digest, optional=True),
        ("target", "mediatype"): Text(ImageRow.media_type, optional=True),
        ("labels",): Labels(_IN, literal(edges.IMAGE), ImageRow.name),
        ("annotations",): Labels(_IN, literal("annotation"), ImageRow.name),
    },
)
_INSERT = insert(ImageRow).on_conflict_do_nothing()
_UPDATE = update(ImageRow).where(_THIS)
_DELETE = delete(ImageRow).where(_THIS)


def get(connection: Connection, namespace: Namespace, name: str) -> Image:
    """The image of that name; raises NotFound."""
    row = _GET.one(connection, _this(namespace, name))
    if row is None:
        raise NotFound(f'image "{name}"')
    return _value(row)


def find(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Image]:
    """The images that pass the filters, in byte order of their names."""
    return [_value(row) for row in _FIND.rows(connection, {"in_namespace": namespace}, filters)]


def create(
    tx: Transaction,
    namespace: Namespace,
    image: Image,
    lease_id: str | None = None,
    source_date: Nanoseconds | None = None,
) -> Image:
    """Store a new image; returns it as stored. `source_date` stands for the present in its times.

    Raises InvalidArgument, NotFound for a lease that is needed and unknown, AlreadyExists.
    """
    rules.validate(image)
    now = tx.now if source_date is None else source_date
    target = replace(image.target, annotations=stored_labels(image.target.annotations))
    labels = stored_labels(image.labels)
    stored = replace(image, target=target, labels=labels, created_at=now, updated_at=now)
    _attach(tx, namespace, stored, lease_id)
    namespaces.touch(tx, namespace)
    if not tx.execute(_INSERT, _values(namespace, stored)).rowcount:
        raise AlreadyExists(f'image "{stored.name}"')
    edges.add(tx, _node(namespace, stored.name), references(stored))
    tx.emit(namespace, "/images/create", ImageCreate(name=stored.name, labels=stored.labels))
    return stored


def change(
    tx: Transaction,
    namespace: Namespace,
    given: Image,
    mask: tuple[MaskPath, ...] = (),
    lease_id: str | None = None,
    source_date: Nanoseconds | None = None,
) -> Image:
    """Update the fields of `mask`, or labels and target; returns the result.

    Raises InvalidArgument, NotFound for the image or for a lease that is needed and unknown.
    """
    now = tx.now if source_date is None else source_date
    result = replace(rules.updated(get(tx.connection, namespace, given.name), given, mask), updated_at=now)
    rules.validate(result)
    _attach(tx, namespace, result, lease_id)
    tx.execute(_UPDATE, {**_values(namespace, result), **_this(namespace, result.name)})
    edges.replace(tx, _node(namespace, result.name), references(result))
    tx.emit(namespace, "/images/update", ImageUpdate(name=result.name, labels=result.labels))
    return result


def remove(
    tx: Transaction, namespace: Namespace, name: str, target_digest: str = "", lease_id: str | None = None
) -> None:
    """Delete an image, if it is the one that points at `target_digest` when that is given; else NotFound."""
    stored = get(tx.connection, namespace, name)
    if target_digest and target_digest != stored.target.digest:
        raise NotFound(f'image "{name}" with target {target_digest}')
    tx.execute(_DELETE, _this(namespace, name))
    edges.drop(tx, _node(namespace, name))
    tx.freed = True
    leases.detach(tx, namespace, lease_id, edges.IMAGE, name)
    tx.emit(namespace, "/images/delete", ImageDelete(name=name))


def _attach(tx: Transaction, namespace: Namespace, image: Image, lease_id: str | None) -> None:
    """Only an image that can expire needs a lease to hold it."""
    if EXPIRE_LABEL in image.labels:
        leases.attach(tx, namespace, lease_id, edges.IMAGE, image.name)


def _this(namespace: Namespace, name: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_name": name}


def _node(namespace: Namespace, name: str) -> Node:
    return Node(namespace, edges.IMAGE, name)


def references(image: Image) -> Iterable[Edge]:
    """What an image keeps: its target, and what its labels name."""
    yield Edge(edges.TARGET, edges.CONTENT, image.target.digest)
    yield from edges.label_edges(edges.IMAGE, image.labels)


def _values(namespace: Namespace, image: Image) -> dict[str, Anything]:
    return {
        "namespace": namespace,
        "name": image.name,
        "media_type": image.target.media_type,
        "digest": image.target.digest,
        "size": image.target.size,
        "annotations": image.target.annotations,
        "labels": image.labels,
        "created_at": image.created_at,
        "updated_at": image.updated_at,
        "expires_at": expiry(image.labels),
    }


def _value(row: Row) -> Image:
    return Image(
        name=row["name"],
        target=Descriptor(row["media_type"], row["digest"], row["size"], row["annotations"]),
        labels=row["labels"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
