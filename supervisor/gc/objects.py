"""The rows of what is collected, kind by kind: whether they may go as far as they know, and their end.

No event tells of a lease, an ingest or a blob that collection removed; of images and snapshots one does
(contract 10).
"""

# ruff: noqa: S608 (the queries are put together from constants; values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message
from sqlalchemy import Connection

from supervisor.api.events.image_pb2 import ImageDelete
from supervisor.api.events.snapshot_pb2 import SnapshotRemove
from supervisor.gc import graph
from supervisor.gc.candidate import Candidate, Kind, listed
from supervisor.metadata import edges
from supervisor.metadata.database import Transaction
from supervisor.metadata.statements import driver
from supervisor.model.instant import Nanoseconds

_ROWS: Mapping[Kind, str] = {
    Kind.LEASE: "leases t ON t.namespace = n.namespace AND t.id = n.key"
    f" WHERE t.created_at = n.mark AND NOT {graph.ALIVE.format('t')}",
    Kind.IMAGE: "images t ON t.namespace = n.namespace AND t.name = n.key"
    f" WHERE t.created_at = n.mark AND NOT {graph.ALIVE.format('t')}",
    Kind.INGEST: "ingests t ON t.namespace = n.namespace AND t.ref = n.key"
    " WHERE t.started_at = n.mark AND (t.expires_at IS NULL OR t.expires_at < :now)",
    Kind.CONTENT: "blobs t ON t.namespace = n.namespace AND t.digest = n.key"
    " WHERE t.created_at = n.mark AND :now",
    Kind.SNAPSHOT: "snapshots t ON t.id = n.mark"
    " WHERE t.namespace = n.namespace AND t.snapshotter = substr(n.type, 10) AND t.key = n.key"
    " AND t.state = 'ready' AND :now AND NOT EXISTS (SELECT 1 FROM snapshots c WHERE c.parent_id = t.id)",
}
_PRESENT = {
    kind: f"WITH {graph.LISTED} SELECT n.position FROM listed n CROSS JOIN {rows}"
    for kind, rows in _ROWS.items()
}
_DROP = {
    Kind.LEASE: "DELETE FROM leases WHERE namespace = :namespace AND id = :key",
    Kind.IMAGE: "DELETE FROM images WHERE namespace = :namespace AND name = :key",
    Kind.INGEST: "DELETE FROM ingests WHERE namespace = :namespace AND ref = :key",
    Kind.CONTENT: "DELETE FROM blobs WHERE namespace = :namespace AND digest = :key",
    Kind.SNAPSHOT: "DELETE FROM snapshots WHERE id = :identity",
}
_DROP_EDGES = "DELETE FROM edges WHERE namespace = :namespace AND source_type = :type AND source_key = :key"


def present(connection: Connection, candidates: Sequence[Candidate], now: Nanoseconds) -> list[Candidate]:
    """Those that are there still, and neither alive by themselves nor in use by a child."""
    found: list[Candidate] = []
    for kind in Kind:
        of_kind = [one for one in candidates if one.kind is kind]
        if of_kind:
            parameters = {"nodes": listed(of_kind), "now": now}
            found += [of_kind[n] for (n,) in driver(connection).execute(_PRESENT[kind], parameters)]
    return found


def drop(tx: Transaction, candidates: Sequence[Candidate]) -> None:
    """Delete the rows with all that they refer to, and tell of those that are told of."""
    for kind in Kind:
        rows = [_row(one) for one in candidates if one.kind is kind]
        if rows:
            driver(tx.connection).executemany(_DROP[kind], rows)
            driver(tx.connection).executemany(_DROP_EDGES, rows)
    for one in candidates:
        told = _event(one)
        if told is not None:
            tx.emit(one.node.namespace, *told)


def _row(candidate: Candidate) -> dict[str, object]:
    node = candidate.node
    return {
        "namespace": node.namespace,
        "type": node.type,
        "key": node.key,
        "identity": candidate.identity,
    }


def _event(candidate: Candidate) -> tuple[str, Message] | None:
    node = candidate.node
    if candidate.kind is Kind.IMAGE:
        return "/images/delete", ImageDelete(name=node.key)
    if candidate.kind is Kind.SNAPSHOT:
        snapshotter = node.type.removeprefix(edges.SNAPSHOT_PREFIX)
        return "/snapshot/remove", SnapshotRemove(key=node.key, snapshotter=snapshotter)
    return None
