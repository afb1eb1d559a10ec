"""Which namespace sees which blob, with its labels (containerd: core/metadata/content.go). Rules: contract 6.

Only rows: the bytes are in supervisor.content, and supervisor.metadata.content_store keeps the
two agreed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any as Anything

from sqlalchemy import Connection, and_, bindparam, delete, exists, literal, or_, select
from sqlalchemy.dialects.sqlite import insert

from supervisor.api.events.content_pb2 import ContentCreate, ContentDelete
from supervisor.content.store import Info
from supervisor.errors import NotFound
from supervisor.metadata import edges, leases, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Node
from supervisor.metadata.filtering import Labels, Search, Text
from supervisor.metadata.schema import BlobRow, IngestRow, NamespaceRow
from supervisor.metadata.statements import Prepared, Row
from supervisor.model.digest import Digest
from supervisor.model.fieldmask import MaskPath, merged_map
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace, check_labels, stored_labels

SHAREABLE_LABEL = "containerd.io/namespace.shareable"

_COLUMNS = BlobRow.__table__.columns
_IS = and_(BlobRow.namespace == bindparam("in_namespace"), BlobRow.digest == bindparam("of_digest"))

# Built once: building a statement costs more than running it, and clients read blobs in small pieces.
_FIND = Prepared(select(*_COLUMNS).where(_IS))
_SEARCH = Search(
    select(*_COLUMNS).where(BlobRow.namespace == bindparam("in_namespace")).order_by(BlobRow.digest),
    BlobRow.digest,
    {
        ("digest",): Text(BlobRow.digest),
        ("labels",): Labels(bindparam("in_namespace"), literal(edges.CONTENT), BlobRow.digest),
    },
)
_FORGET = delete(BlobRow).where(_IS)
_IN_USE = select(
    or_(
        exists().where(BlobRow.digest == bindparam("of_digest")),
        exists().where(IngestRow.expected == bindparam("of_digest"), IngestRow.shared.is_(True)),
    )
)
_NEW = insert(BlobRow)
_UPSERT = _NEW.on_conflict_do_update(
    index_elements=["namespace", "digest"],
    set_={name: _NEW.excluded[name] for name in ("size", "labels", "updated_at")},
)


def find(connection: Connection, namespace: Namespace, digest: str) -> Info | None:
    """What the namespace knows of a blob, None when it has no record."""
    row = _FIND.one(connection, _key(namespace, digest))
    return None if row is None else _value(row)


def get(connection: Connection, namespace: Namespace, digest: str) -> Info:
    """What the namespace knows of a blob; raises NotFound."""
    found = find(connection, namespace, digest)
    if found is None:
        raise NotFound(f"content {digest} in namespace {namespace!r}")
    return found


def matching(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Info]:
    """The namespace's blobs that pass the filters, in byte order of their digests."""
    return [_value(row) for row in _SEARCH.rows(connection, {"in_namespace": namespace}, filters)]


def recorded_sizes(connection: Connection) -> list[tuple[Namespace, Digest, int]]:
    """Every record of every namespace: whose, of what, how large."""
    rows = connection.execute(select(BlobRow.namespace, BlobRow.digest, BlobRow.size))
    return [(Namespace(namespace), Digest(digest), size) for namespace, digest, size in rows]


def digests_in_use(connection: Connection) -> frozenset[Digest]:
    """Every blob that a record of any namespace, or a shared ingest, needs."""
    shared = select(IngestRow.expected).where(IngestRow.shared.is_(True))
    return frozenset(map(Digest, connection.execute(select(BlobRow.digest).union(shared)).scalars()))


def in_use(connection: Connection, digest: str) -> bool:
    """Whether a record of any namespace, or a shared ingest, needs the blob's bytes."""
    return bool(connection.execute(_IN_USE, {"of_digest": digest}).scalar_one())


def shareable_size(connection: Connection, digest: str, *, isolated: bool) -> int | None:
    """Size of a blob that some namespace has and shares; when isolated only a shareable namespace does."""
    rows = connection.execute(
        select(BlobRow.size, NamespaceRow.labels)
        .join(NamespaceRow, NamespaceRow.name == BlobRow.namespace)
        .where(BlobRow.digest == digest)
    )
    sizes = (size for size, labels in rows if not isolated or labels.get(SHAREABLE_LABEL) == "true")
    return next(sizes, None)


def record(
    tx: Transaction,
    namespace: Namespace,
    digest: Digest,
    size: int,
    labels: Mapping[str, str],
    media_type: str = "",
) -> None:
    """Let the namespace see the blob, with these labels, and tell so.

    A record whose bytes had been lost is there already: it keeps its labels beside the new ones.
    """
    check_labels(labels)
    namespaces.touch(tx, namespace)
    lost = find(tx.connection, namespace, digest)
    kept = {**(lost.labels if lost else {}), **stored_labels(labels)}
    info = Info(digest, size, lost.created_at if lost else tx.now, tx.now, kept)
    _store(tx, namespace, info)
    event = ContentCreate(digest=digest, size=size, mediaType=media_type)
    tx.emit(namespace, "/content/create", event)


def update(tx: Transaction, namespace: Namespace, given: Info, mask: Sequence[MaskPath] = ()) -> Info:
    """Replace the labels, or those that the mask names; returns the record.

    Raises NotFound, InvalidArgument.
    """
    stored = get(tx.connection, namespace, given.digest)
    labels = dict(stored.labels) if mask else dict(given.labels)
    for path in mask:
        labels = merged_map(labels, given.labels, path.key)
    check_labels(labels)
    changed = replace(stored, labels=stored_labels(labels), updated_at=tx.now)
    _store(tx, namespace, changed)
    return changed


def forget(tx: Transaction, namespace: Namespace, digest: Digest, lease_id: str | None = None) -> None:
    """Drop the namespace's record, and the hold of the call's lease, and tell so; raises NotFound."""
    if not tx.execute(_FORGET, _key(namespace, digest)).rowcount:
        raise NotFound(f"content {digest} in namespace {namespace!r}")
    edges.drop(tx, Node(namespace, edges.CONTENT, digest))
    tx.freed = True
    leases.detach(tx, namespace, lease_id, edges.CONTENT, digest)
    tx.emit(namespace, "/content/delete", ContentDelete(digest=digest))


def hold(tx: Transaction, namespace: Namespace, digest: str, lease_id: str | None) -> bool:
    """Have the lease of a call hold a blob; False when there is none. Raises NotFound for the lease."""
    if find(tx.connection, namespace, digest) is None:
        return False
    leases.attach(tx, namespace, lease_id, edges.CONTENT, digest)
    return True


def _store(tx: Transaction, namespace: Namespace, info: Info) -> None:
    tx.execute(_UPSERT, _values(namespace, info))
    node = Node(namespace, edges.CONTENT, info.digest)
    edges.replace(tx, node, edges.label_edges(edges.CONTENT, info.labels))


def _key(namespace: Namespace, digest: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_digest": digest}


def _values(namespace: Namespace, info: Info) -> dict[str, Anything]:
    return {
        "namespace": namespace,
        "digest": info.digest,
        "size": info.size,
        "labels": info.labels,
        "created_at": info.created_at,
        "updated_at": info.updated_at,
    }


def _value(row: Row) -> Info:
    return Info(row["digest"], row["size"], row["created_at"], row["updated_at"], row["labels"])
