"""What keeps what, as rows: the references that garbage collection follows (containerd: metadata/gc.go).

Objects are nodes of one namespace. The module of an object writes its edges in the transaction that
writes the object, so that labels and edges cannot differ (contract 11.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, delete, insert

from supervisor.metadata.database import Transaction
from supervisor.metadata.schema import EdgeRow
from supervisor.metadata.statements import Prepared

CONTENT = "content"
INGEST = "ingest"
IMAGE = "image"
CONTAINER = "container"
LEASE = "lease"
SANDBOX = "sandbox"
MOUNT = "mount"
SNAPSHOT_PREFIX = "snapshot/"

HOLDS = "lease"
TARGET = "target"
PARENT = "parent"
REFERENCE = "ref"
BACK_REFERENCE = "bref"
CONDITIONAL = "cond"
ROOT = "root"

KEPT_FOR_ITSELF_LABEL = "containerd.io/gc.root"
"""Any label whose key begins so makes content or a snapshot a root (contract 11.1)."""

_LABEL_PREFIX = "containerd.io/gc."
_NAMED_TYPES = {
    REFERENCE: (CONTENT, IMAGE, "stream", MOUNT),
    BACK_REFERENCE: (CONTENT, IMAGE, CONTAINER),
    CONDITIONAL: (),
}
_CONDITIONAL_SOURCES = (CONTENT, IMAGE)

LEAVING = and_(
    EdgeRow.namespace == bindparam("in_namespace"),
    EdgeRow.source_type == bindparam("of_type"),
    EdgeRow.source_key == bindparam("of_key"),
)
"""The condition for edges out of a node; its parameters are `leaving(node)`."""

# Statements are built once: building one costs more than running it.
_INSERT = Prepared(insert(EdgeRow))
_DROP = Prepared(delete(EdgeRow).where(LEAVING))


@dataclass(frozen=True, slots=True)
class Node:
    """One object of the graph."""

    namespace: str
    type: str
    key: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A reference out of a node, to an object of the same namespace."""

    kind: str
    target_type: str
    target_key: str
    condition: str = ""


def snapshot_type(snapshotter: str) -> str:
    """The node type of a snapshotter's snapshots."""
    return SNAPSHOT_PREFIX + snapshotter


def label_edges(node_type: str, labels: Mapping[str, str]) -> list[Edge]:
    """The references that `labels` of an object of this type say; others of its labels say none."""
    return list(_from_labels(node_type, labels))


def add(tx: Transaction, node: Node, edges: Iterable[Edge]) -> None:
    """Write the edges of a node that has none yet."""
    rows = [_row(node, edge) for edge in merged(edges)]
    if rows:
        _INSERT.run_many(tx.connection, rows)


def replace(tx: Transaction, node: Node, edges: Iterable[Edge]) -> None:
    """Make `edges` all that lead out of `node`."""
    drop(tx, node)
    add(tx, node, edges)


def drop(tx: Transaction, node: Node) -> None:
    """Forget the edges out of `node`; what still points at it stays and is harmless."""
    _DROP.run(tx.connection, leaving(node))


def leaving(node: Node) -> dict[str, str]:
    """The parameters that make `LEAVING` mean the edges out of `node`."""
    return {"in_namespace": node.namespace, "of_type": node.type, "of_key": node.key}


def _row(node: Node, edge: Edge) -> dict[str, str]:
    return {
        "namespace": node.namespace,
        "source_type": node.type,
        "source_key": node.key,
        "kind": edge.kind,
        "target_type": edge.target_type,
        "target_key": edge.target_key,
        "condition": edge.condition,
    }


def merged(edges: Iterable[Edge]) -> Iterator[Edge]:
    """One edge per kind and target; conditions on the same target are alternatives, joined by commas."""
    conditions: dict[tuple[str, str, str], list[str]] = {}
    for edge in edges:
        conditions.setdefault((edge.kind, edge.target_type, edge.target_key), []).append(edge.condition)
    for (kind, target_type, target_key), alternatives in conditions.items():
        yield Edge(kind, target_type, target_key, ",".join(filter(None, alternatives)))


def _from_labels(node_type: str, labels: Mapping[str, str]) -> Iterator[Edge]:
    for label, value in labels.items():
        if not label.startswith(_LABEL_PREFIX):
            continue
        if label.startswith(KEPT_FOR_ITSELF_LABEL):
            if value and _can_be_root(node_type):
                yield Edge(ROOT, "", "")
            continue
        kind, _, rest = label.removeprefix(_LABEL_PREFIX).partition(".")
        target_type = _target_type(kind, rest)
        if target_type is None or not value:
            continue
        if kind != CONDITIONAL:
            yield Edge(kind, target_type, value)
        elif node_type in _CONDITIONAL_SOURCES:
            condition, bar, key = value.partition("|")
            if bar and key:
                yield Edge(kind, target_type, key, condition)


def _can_be_root(node_type: str) -> bool:
    return node_type == CONTENT or node_type.startswith(SNAPSHOT_PREFIX)


def _target_type(kind: str, rest: str) -> str | None:
    """The type that the rest of a label's key names, in front of a suffix that only tells labels apart.

    The suffix begins with a dot or a slash; behind a snapshotter's name, which may have dots, with a slash.
    """
    if kind not in _NAMED_TYPES:
        return None
    if rest.startswith("snapshot."):
        snapshotter = rest.removeprefix("snapshot.").partition("/")[0]
        return snapshot_type(snapshotter) if snapshotter else None
    for name in _NAMED_TYPES[kind]:
        if rest == name or rest.startswith((f"{name}.", f"{name}/")):
            return name
    return None
