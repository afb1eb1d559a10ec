"""What keeps an object, asked from the object's side: the graph read backwards.

A sweep asks it in the transaction that deletes, so that what came to be kept since the mark stays.
"""

# ruff: noqa: S608 (the queries are put together from constants; values are bound)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection

from supervisor.gc import conditions, graph
from supervisor.gc.candidate import Candidate, listed
from supervisor.metadata.edges import Node
from supervisor.metadata.statements import driver
from supervisor.model.instant import Nanoseconds

_KEEPERS = f"WITH RECURSIVE {graph.LISTED}, {graph.KEEPERS} SELECT DISTINCT namespace, type, key FROM keepers"
_KEPT = (
    f"WITH RECURSIVE {graph.LISTED}, {graph.KEEPERS}"
    f" SELECT EXISTS ({graph.roots_among('keepers', 'structural')})"
)
_FREE = f"""
    WITH {graph.LISTED} SELECT n.position FROM listed n
    WHERE NOT EXISTS (
        SELECT 1 FROM edges e
        WHERE e.namespace = n.namespace AND e.target_type = n.type AND e.target_key = n.key
            AND e.kind <> 'bref' AND NOT (e.source_type = n.type AND e.source_key = n.key)
    ) AND NOT EXISTS (
        SELECT 1 FROM edges e WHERE e.namespace = n.namespace AND e.source_type = n.type
            AND e.source_key = n.key AND e.kind IN ('root', 'bref')
    )
"""
_REFERRED = f"""
    WITH {graph.LISTED} SELECT e.namespace, e.target_type, e.target_key FROM listed n
        JOIN edges e ON e.namespace = n.namespace AND e.source_type = n.type AND e.source_key = n.key
        WHERE e.kind NOT IN ('root', 'bref')
"""


def free(connection: Connection, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that nothing refers to at all, in one cheap look: nothing can keep them but themselves."""
    positions = driver(connection).execute(_FREE, {"nodes": listed(candidates)})
    return [candidates[position] for (position,) in positions]


def referred(connection: Connection, candidates: Iterable[Candidate]) -> set[Node]:
    """What these refer to."""
    return {Node(*row) for row in driver(connection).execute(_REFERRED, {"nodes": listed(candidates)})}


def closure(connection: Connection, candidates: Iterable[Candidate], now: Nanoseconds) -> set[Node]:
    """These, and all that could keep them, directly or by others."""
    conditions.install(connection)
    rows = driver(connection).execute(_KEEPERS, {"nodes": listed(candidates), "now": now})
    return {Node(*row) for row in rows}


def dead(connection: Connection, candidates: Sequence[Candidate], now: Nanoseconds) -> list[Candidate]:
    """Those that no root reaches; found together if none is kept, as is usual, else one by one."""
    conditions.install(connection)
    if not _kept(connection, candidates, now):
        return list(candidates)
    return [one for one in candidates if not _kept(connection, [one], now)]


def _kept(connection: Connection, candidates: Sequence[Candidate], now: Nanoseconds) -> bool:
    found = driver(connection).execute(_KEPT, {"nodes": listed(candidates), "now": now}).fetchone()
    return bool(found[0])


def pieces(candidates: Sequence[Candidate], size: int) -> Iterator[Sequence[Candidate]]:
    """Candidates in runs of at most `size`."""
    for start in range(0, len(candidates), size):
        yield candidates[start : start + size]
