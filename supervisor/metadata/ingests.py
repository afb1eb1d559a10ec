"""Which namespace writes which ref, and until when that is kept (containerd: core/metadata/content.go).

Rules: contract 6.5 and 6.7. How far an ingest is, the store of its bytes knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, delete, exists, select, update
from sqlalchemy.dialects.sqlite import insert

from supervisor.errors import NotFound
from supervisor.metadata import edges, leases, namespaces
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Edge, Node
from supervisor.metadata.filtering import Search, Text
from supervisor.metadata.schema import IngestRow
from supervisor.model.digest import Digest
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import SECOND

_IS = and_(IngestRow.namespace == bindparam("in_namespace"), IngestRow.ref == bindparam("of_ref"))

# Built once: building a statement costs more than running it.
_REFS = Search(
    select(IngestRow.ref)
    .where(IngestRow.namespace == bindparam("in_namespace"), IngestRow.shared.is_(False))
    .order_by(IngestRow.ref),
    IngestRow.ref,
    {("ref",): Text(IngestRow.ref)},
)
_KNOWN = select(exists().where(_IS))
_CLOSED = delete(IngestRow).where(_IS).returning(IngestRow.expected, IngestRow.shared)
_UNSHARED = update(IngestRow).where(_IS).values(shared=False, expected="")
_NEW = insert(IngestRow)
_OPENED = _NEW.on_conflict_do_update(
    index_elements=["namespace", "ref"],
    set_={name: _NEW.excluded[name] for name in ("expected", "shared", "updated_at", "expires_at")},
)

UNLEASED_LIFETIME = 24 * 3600 * SECOND
"""How long an ingest that no lease holds is kept after it was last opened."""


def stored_ref(namespace: str, ref: str) -> str:
    """The ref under which the store of bytes, which knows no namespaces, has it (contract 6.6)."""
    return f"{namespace}/1/{ref}"


def known(connection: Connection, namespace: Namespace, ref: str) -> bool:
    """Whether the namespace has an ingest of that ref, shared or not."""
    return bool(connection.execute(_KNOWN, _key(namespace, ref)).scalar_one())


def refs(connection: Connection, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[str]:
    """The namespace's refs that pass the filters and whose bytes are on their way, not shared with a blob."""
    return [row["ref"] for row in _REFS.rows(connection, {"in_namespace": namespace}, filters)]


def everywhere(connection: Connection) -> list[tuple[Namespace, str, Digest | None]]:
    """All ingests: namespace, ref, and the digest of the blob that a shared one shares."""
    rows = connection.execute(
        select(IngestRow.namespace, IngestRow.ref, IngestRow.expected, IngestRow.shared)
    )
    return [(Namespace(row.namespace), row.ref, Digest(row.expected) if row.shared else None) for row in rows]


def opened(
    tx: Transaction,
    namespace: Namespace,
    ref: str,
    lease_id: str | None,
    *,
    total: int,
    shares: Digest | None,
) -> None:
    """Record that a ref was opened: held by the lease, else kept for a day; raises NotFound for the lease.

    `shares` is the blob whose bytes stand for the writer's, None when the writer sends them.
    """
    leases.attach(tx, namespace, lease_id, edges.INGEST, ref)
    namespaces.touch(tx, namespace)
    values = {
        "namespace": namespace,
        "ref": ref,
        "expected": shares or "",
        "total": total,
        "shared": shares is not None,
        "started_at": tx.now,
        "updated_at": tx.now,
        "expires_at": tx.now + UNLEASED_LIFETIME if lease_id is None else None,
    }
    tx.execute(_OPENED, values)
    shared = [] if shares is None else [Edge(edges.TARGET, edges.CONTENT, shares)]
    edges.replace(tx, Node(namespace, edges.INGEST, ref), shared)


def closed(tx: Transaction, namespace: Namespace, ref: str, lease_id: str | None = None) -> Digest | None:
    """Drop the record and the lease's hold: the ingest became a blob, or was given up. Raises NotFound.

    Answers the blob that it shared, which may be in nobody's use now.
    """
    gone = tx.execute(_CLOSED, _key(namespace, ref)).one_or_none()
    if gone is None:
        raise NotFound(f"ingest of ref {ref!r} in namespace {namespace!r}")
    edges.drop(tx, Node(namespace, edges.INGEST, ref))
    leases.detach(tx, namespace, lease_id, edges.INGEST, ref)
    return Digest(gone.expected) if gone.shared else None


def unshared(tx: Transaction, namespace: Namespace, ref: str) -> None:
    """Record that the writer of a shared ingest sends bytes of its own after all."""
    tx.execute(_UNSHARED, _key(namespace, ref))
    edges.drop(tx, Node(namespace, edges.INGEST, ref))


def _key(namespace: Namespace, ref: str) -> dict[str, str]:
    return {"in_namespace": namespace, "of_ref": ref}
