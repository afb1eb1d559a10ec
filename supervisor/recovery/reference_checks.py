"""References: the edges that collection follows against the objects, and what images and containers name."""

# ruff: noqa: S608 (the queries are put together from constants)

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection

from supervisor.metadata import edge_audit, edges
from supervisor.metadata.edge_audit import Mismatch
from supervisor.metadata.statements import driver
from supervisor.recovery.findings import Finding, Report, Workshop

_IMAGES = """
    SELECT i.namespace, i.name, i.digest FROM images i
    WHERE NOT EXISTS (SELECT 1 FROM blobs b WHERE b.namespace = i.namespace AND b.digest = i.digest)
    ORDER BY i.namespace, i.name
"""
_CONTAINERS = """
    SELECT c.namespace, c.id, c.snapshotter, c.snapshot_key FROM containers c
    WHERE c.snapshot_key <> '' AND NOT EXISTS (
        SELECT 1 FROM snapshots s
        WHERE s.namespace = c.namespace AND s.snapshotter = c.snapshotter AND s.key = c.snapshot_key
    )
    ORDER BY c.namespace, c.id
"""
_COUNTS = (
    "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM containers), (SELECT count(*) FROM edges)"
)


_MAPS = {
    "namespaces": ("'namespace'", "name", "''", ("labels",)),
    "containers": ("'container'", "id", "namespace", ("labels", "extensions")),
    "images": ("'image'", "name", "namespace", ("labels", "annotations")),
    "blobs": ("'blob'", "digest", "namespace", ("labels",)),
    "snapshots": ("'snapshot'", "key", "namespace", ("labels",)),
    "leases": ("'lease'", "id", "namespace", ("labels",)),
    "sandboxes": ("'sandbox'", "id", "namespace", ("labels", "extensions")),
    "mounts": ("'mount'", "name", "namespace", ("labels", "active", "system")),
}
_UNREADABLE = " UNION ALL ".join(
    f"SELECT {kind}, {key}, {namespace}, '{column}' FROM {table} WHERE NOT json_valid({column})"
    for table, (kind, key, namespace, columns) in _MAPS.items()
    for column in columns
)
"""Rows with a value that is no JSON: SQLite sees damage of its own structures, and not of what they hold."""


def references(connection: Connection, report: Report) -> None:
    """Look at every edge, every image and every container."""
    raw = driver(connection)
    images, containers, rows = raw.execute(_COUNTS).fetchone()
    report.looked_at |= {"images": images, "containers": containers, "references": rows}
    unreadable = [_unreadable(*row) for row in raw.execute(_UNREADABLE)]
    report.findings += unreadable
    if unreadable:
        report.notes.append("references were not checked, since objects that say them cannot be read")
    else:
        report.findings += [_mismatched(one) for one in edge_audit.mismatches(connection)]
    for namespace, name, digest in raw.execute(_IMAGES):
        problem, advice = f"its target {digest} is not there", f"pull {name} again, or remove it"
        report.findings.append(Finding(f"image {name} of namespace {namespace}", problem, then=advice))
    for namespace, container, snapshotter, key in raw.execute(_CONTAINERS):
        problem = f'its snapshot "{key}" of {snapshotter} is not there'
        advice = "remove the container and make it anew"
        report.findings.append(
            Finding(f"container {container} of namespace {namespace}", problem, then=advice)
        )


def _unreadable(kind: str, key: str, namespace: str, column: str) -> Finding:
    return Finding(
        f"{kind} {key} of namespace {namespace}" if namespace else f"{kind} {key}",
        f"its {column} cannot be read, and so the store has been damaged",
        then="restore a backup of before (container-supervisor backup --restore)",
    )


def _mismatched(mismatch: Mismatch) -> Finding:
    node = mismatch.node
    counts = [f"{mismatch.missing} are missing"] * bool(mismatch.missing)
    counts += [f"{mismatch.surplus} are too many"] * bool(mismatch.surplus)
    problem = f"of its references, which collection follows, {' and '.join(counts)}"
    if node.type == edges.LEASE:
        problem = f"it is gone, but {mismatch.surplus} references of it are there"
    return Finding(
        f"{node.type} {node.key} of namespace {node.namespace}",
        problem,
        plan="write them anew as the object says them",
        mend=partial(_rebuild, mismatch=mismatch),
    )


def _rebuild(workshop: Workshop, mismatch: Mismatch) -> str:
    workshop.database.write(partial(edge_audit.mend, mismatch=mismatch))
    return "written anew"
