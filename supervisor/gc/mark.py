"""The mark: what no root reaches, found by one query (containerd: core/metadata/gc.go, pkg/gc).

It reads one consistent state of the store on a reader's connection, so it holds up nobody: SQLite
works without Python's lock. What changes afterwards, the sweep asks for itself.
"""

# ruff: noqa: S608 (the queries are put together from constants; values are bound)

from __future__ import annotations

from sqlalchemy import Connection

from supervisor.gc import conditions, graph
from supervisor.gc.candidate import Candidate, Kind
from supervisor.metadata.edges import Node
from supervisor.metadata.statements import driver
from supervisor.model.instant import Nanoseconds

_UNREACHED = f"""
    WITH RECURSIVE {graph.REACHED},
    objects(namespace, type, key, kind, identity, size) AS (
        SELECT namespace, 'lease', id, 'lease', created_at, 0 FROM leases
        UNION ALL SELECT namespace, 'mount', name, 'mount', id, 0 FROM mounts WHERE state <> 'making'
        UNION ALL SELECT namespace, 'image', name, 'image', created_at, 0 FROM images
        UNION ALL SELECT namespace, 'ingest', ref, 'ingest', started_at, 0 FROM ingests
        UNION ALL SELECT namespace, 'content', digest, 'content', created_at, size FROM blobs
        UNION ALL SELECT namespace, 'snapshot/' || snapshotter, key, 'snapshot', id, size FROM snapshots
    )
    SELECT o.* FROM objects o
    WHERE NOT EXISTS (
        SELECT 1 FROM reached r WHERE r.namespace = o.namespace AND r.type = o.type AND r.key = o.key
    )
"""


def unreached(connection: Connection, now: Nanoseconds) -> list[Candidate]:
    """Every collectible object of every namespace that no root reaches."""
    conditions.install(connection)
    rows = driver(connection).execute(_UNREACHED, {"now": now})
    return [
        Candidate(Node(namespace, type_, key), Kind(kind), identity, size)
        for namespace, type_, key, kind, identity, size in rows
    ]
