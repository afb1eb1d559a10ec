"""What collection may remove: six kinds of objects, and one object as a candidate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from supervisor.metadata.edges import Node


class Kind(Enum):
    """The kinds of what is collected; containers, sandboxes and namespaces never are (contract 11.1).

    In the order in which a sweep takes them: mounts before the snapshots that they show, and what
    rather refers to others before what does not.
    """

    MOUNT = "mount"
    LEASE = "lease"
    IMAGE = "image"
    INGEST = "ingest"
    CONTENT = "content"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that nothing kept when it was looked at.

    `identity` tells it from another of the same name that is made later: the number of a snapshot or a
    mount, else the time of creation. `size` is what its row says of its bytes, as it does of blobs and
    of committed snapshots.
    """

    node: Node
    kind: Kind
    identity: int
    size: int


def listed(candidates: Iterable[Candidate]) -> str:
    """Candidates as the relation `listed` of the graph's queries takes them, marked with their identities."""
    return json.dumps(
        [(c.node.namespace, c.node.type, c.node.key, c.identity) for c in candidates], ensure_ascii=False
    )
