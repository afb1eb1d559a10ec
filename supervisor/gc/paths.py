"""Why an object stays: the shortest path from a root to it, each step with its reason.

It is the sweep's question, asked step by step so that the way is known, not only the answer.
"""

# ruff: noqa: S608 (the queries are put together from constants; values are bound)

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from supervisor.errors import InvalidArgument, NotFound
from supervisor.gc import conditions, graph
from supervisor.metadata import edges
from supervisor.metadata.edges import Node
from supervisor.metadata.statements import driver
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import Nanoseconds

_STEP = f"WITH {graph.LISTED} {graph.STEP_BACK}"
_ROOTS = (
    f"WITH {graph.LISTED} SELECT k.position FROM ({graph.roots_among('listed', 'mark')}) k"
    " ORDER BY k.position"
)
_SINGULARS = {
    "images": edges.IMAGE,
    "ingests": edges.INGEST,
    "leases": edges.LEASE,
    "containers": edges.CONTAINER,
}
_TABLES = {
    edges.CONTENT: ("blobs", "digest"),
    edges.IMAGE: ("images", "name"),
    edges.CONTAINER: ("containers", "id"),
    edges.LEASE: ("leases", "id"),
    edges.INGEST: ("ingests", "ref"),
    edges.SANDBOX: ("sandboxes", "id"),
    edges.MOUNT: ("mounts", "name"),
}
_AS_ROOT = {
    edges.LEASE: "a lease that has not expired",
    edges.IMAGE: "an image that does not expire, or not yet",
    edges.CONTAINER: "a container: kept until it is deleted",
    edges.SANDBOX: "a sandbox: kept until it is deleted",
    edges.INGEST: "a write that was opened less than a day ago",
    edges.CONTENT: f"has a label {edges.KEPT_FOR_ITSELF_LABEL}",
    edges.MOUNT: "mounted for nobody in particular: kept until it is deactivated",
}
_STRUCTURE = {
    (edges.HOLDS, edges.LEASE): "held by the lease",
    (edges.TARGET, edges.IMAGE): "what the image stands for",
    (edges.TARGET, edges.CONTAINER): "the container's root file system",
    (edges.TARGET, edges.INGEST): "the blob that the write shares",
}


@dataclass(frozen=True, slots=True)
class Hop:
    """One node of a path, and why it stays: the first for itself, the others for the one before."""

    node: Node
    reason: str


@dataclass(frozen=True, slots=True)
class _State:
    """A node, and whether only structure leads from here on: all that counts to a flat lease."""

    node: Node
    structural: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """How the search came to a state: it keeps `onto` by an edge of `kind`."""

    onto: _State
    kind: str
    condition: str


def node(namespace: Namespace, type_: str, key: str) -> Node:
    """The node that somebody names; plurals are understood. Raises InvalidArgument for an unknown type."""
    if type_.startswith(("snapshots/", edges.SNAPSHOT_PREFIX)):
        return Node(namespace, edges.snapshot_type(type_.partition("/")[2]), key)
    singular = _SINGULARS.get(type_, type_)
    if singular not in _TABLES:
        known = ", ".join((*sorted(_TABLES), "snapshot/SNAPSHOTTER"))
        raise InvalidArgument(f"type {type_!r} is not known; there are: {known}")
    return Node(namespace, singular, key)


def explain(connection: Connection, asked: Node, now: Nanoseconds) -> list[Hop]:
    """The path from a root to `asked`; empty when there is none. Raises NotFound when it does not exist."""
    conditions.install(connection)
    if labels_of(connection, asked) is None:
        raise NotFound(f'{asked.type} "{asked.key}" in namespace "{asked.namespace}"')
    came: dict[_State, _Step | None] = {_State(asked, True): None}
    frontier = list(came)
    while frontier:
        parameters = {"nodes": _listed(frontier), "now": now}
        root = driver(connection).execute(_ROOTS, parameters).fetchone()
        if root is not None:
            return _told(connection, frontier[root[0]], came)
        frontier = _back(connection, frontier, parameters, came)
    return []


def labels_of(connection: Connection, asked: Node) -> Mapping[str, str] | None:
    """The labels of an object, None when there is no such object."""
    parameters = {"namespace": asked.namespace, "key": asked.key}
    if asked.type.startswith(edges.SNAPSHOT_PREFIX):
        of_place = "namespace = :namespace AND snapshotter = :place AND key = :key"
        query = f"SELECT labels FROM snapshots WHERE {of_place}"
        parameters["place"] = asked.type.removeprefix(edges.SNAPSHOT_PREFIX)
    elif asked.type in _TABLES:
        table, column = _TABLES[asked.type]
        labels = "'{}'" if asked.type == edges.INGEST else "labels"
        query = f"SELECT {labels} FROM {table} WHERE namespace = :namespace AND {column} = :key"
    else:
        return None
    found = driver(connection).execute(query, parameters).fetchone()
    return None if found is None else json.loads(found[0])


def _back(
    connection: Connection,
    frontier: Sequence[_State],
    parameters: Mapping[str, object],
    came: dict[_State, _Step | None],
) -> list[_State]:
    """The states one step further back that were not seen yet."""
    new = []
    for position, kind, condition, namespace, type_, key, structural in driver(connection).execute(
        _STEP, parameters
    ):
        state = _State(Node(namespace, type_, key), bool(structural))
        if state not in came:
            came[state] = _Step(frontier[position], kind, condition)
            new.append(state)
    return new


def _listed(states: Sequence[_State]) -> str:
    rows = [(s.node.namespace, s.node.type, s.node.key, int(s.structural)) for s in states]
    return json.dumps(rows, ensure_ascii=False)


def _told(connection: Connection, root: _State, came: Mapping[_State, _Step | None]) -> list[Hop]:
    hops = [Hop(root.node, _root_reason(connection, root.node))]
    state = root
    while (step := came[state]) is not None:
        hops.append(Hop(step.onto.node, _reason(connection, state.node, step)))
        state = step.onto
    return hops


def _root_reason(connection: Connection, root: Node) -> str:
    if not root.type.startswith(edges.SNAPSHOT_PREFIX):
        return _AS_ROOT[root.type]
    labels = labels_of(connection, root) or {}
    if any(label.startswith(edges.KEPT_FOR_ITSELF_LABEL) for label in labels):
        return _AS_ROOT[edges.CONTENT]
    return "is being made"


def _reason(connection: Connection, keeper: Node, step: _Step) -> str:
    """In words; a label is named by its key, as it stands on the object that carries it."""
    kept = step.onto.node
    if step.kind == edges.PARENT:
        return "parent of the snapshot"
    if (step.kind, keeper.type) in _STRUCTURE:
        return _STRUCTURE[step.kind, keeper.type]
    carrier, target = (kept, keeper) if step.kind == edges.BACK_REFERENCE else (keeper, kept)
    for label, value in (labels_of(connection, carrier) or {}).items():
        for edge in edges.label_edges(carrier.type, {label: value}):
            if (edge.kind, edge.target_type, edge.target_key) == (step.kind, target.type, target.key):
                return f"its own label {label}" if carrier is kept else f"label {label}"
    return f"reference of kind {step.kind}"
