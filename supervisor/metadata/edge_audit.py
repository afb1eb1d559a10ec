"""The table of edges held against the objects that it was written with: what it lacks, what it has too much.

Edges and objects are written in one transaction, so a difference is damage, or a defect. What a lease holds
is written nowhere else: of those edges only the lease itself can be looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from supervisor.metadata import containers, content, edges, images, mounts, namespaces, sandboxes
from supervisor.metadata.database import Transaction
from supervisor.metadata.edges import Edge, Node
from supervisor.metadata.schema import EdgeRow, IngestRow, LeaseRow, SnapshotRow
from supervisor.model.identifiers import Namespace

_PARENT = SnapshotRow.__table__.alias("parent").columns
_SNAPSHOTS = select(
    SnapshotRow.namespace,
    SnapshotRow.snapshotter,
    SnapshotRow.key,
    SnapshotRow.labels,
    _PARENT.key.label("on"),
).select_from(SnapshotRow.__table__.outerjoin(_PARENT.id.table, SnapshotRow.parent_id == _PARENT.id))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A node whose edges are not those that its object says."""

    node: Node
    right: frozenset[Edge]
    missing: int
    surplus: int


def mismatches(connection: Connection) -> list[Mismatch]:
    """All nodes whose edges are wrong, with the right ones."""
    stored = _stored(connection)
    right = {node: frozenset(edges.merged(found)) for node, found in _right(connection)}
    return [
        Mismatch(node, said, len(said - have), len(have - said))
        for node in sorted(stored.keys() | right.keys(), key=lambda n: (n.namespace, n.type, n.key))
        if (said := right.get(node, frozenset())) != (have := stored.get(node, set()))
    ]


def mend(tx: Transaction, mismatch: Mismatch) -> None:
    """Make the right edges of a node the stored ones."""
    edges.replace(tx, mismatch.node, mismatch.right)


def _stored(connection: Connection) -> dict[Node, set[Edge]]:
    """All edges by the node that they lead out of, but for those of leases that are there."""
    leases = {(row.namespace, row.id) for row in connection.execute(select(LeaseRow.namespace, LeaseRow.id))}
    found: defaultdict[Node, set[Edge]] = defaultdict(set)
    for row in connection.execute(select(*EdgeRow.__table__.columns)):
        if row.source_type != edges.LEASE or (row.namespace, row.source_key) not in leases:
            node = Node(row.namespace, row.source_type, row.source_key)
            found[node].add(Edge(row.kind, row.target_type, row.target_key, row.condition))
    return found


def _right(connection: Connection) -> Iterator[tuple[Node, Iterable[Edge]]]:
    """Every object with the edges that it says, as its own module would write them; none for most."""
    for namespace, _ in namespaces.all_labels(connection):
        yield from _of_namespace(connection, namespace)
    for row in connection.execute(_SNAPSHOTS):
        node_type = edges.snapshot_type(row.snapshotter)
        parent = [Edge(edges.PARENT, node_type, row.on)] if row.on is not None else []
        yield Node(row.namespace, node_type, row.key), edges.label_edges(node_type, row.labels) + parent
    for record in mounts.everything(connection):
        labels = record.activation.labels
        node = Node(record.namespace, edges.MOUNT, record.activation.name)
        yield node, mounts.references(labels, leased=record.leased)
    shared = select(IngestRow.namespace, IngestRow.ref, IngestRow.expected).where(IngestRow.shared.is_(True))
    for row in connection.execute(shared):
        yield Node(row.namespace, edges.INGEST, row.ref), [Edge(edges.TARGET, edges.CONTENT, row.expected)]


def _of_namespace(connection: Connection, namespace: Namespace) -> Iterator[tuple[Node, Iterable[Edge]]]:
    for info in content.matching(connection, namespace):
        said = edges.label_edges(edges.CONTENT, info.labels)
        yield Node(namespace, edges.CONTENT, info.digest), said
    for image in images.find(connection, namespace):
        yield Node(namespace, edges.IMAGE, image.name), images.references(image)
    for container in containers.find(connection, namespace):
        yield Node(namespace, edges.CONTAINER, container.id), containers.references(container)
    for sandbox in sandboxes.find(connection, namespace):
        said = edges.label_edges(edges.SANDBOX, sandbox.labels)
        yield Node(namespace, edges.SANDBOX, sandbox.id), said
