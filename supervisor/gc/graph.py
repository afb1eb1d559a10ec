"""The graph in SQL: which nodes are roots, and which edges lead where (contract 11.1 and 11.2).

Nodes are (namespace, type, key), their edges the rows of `edges`, written with the objects. Two
relations are built of it, each the other read backwards:

    reached   from the roots onwards: what stays
    keepers   from some nodes back towards roots: what keeps them, and so, whether anything does

A flat lease (`gc.flat`) holds what it names with the targets and parents of that, and without what
labels say. So a path from one may use structural edges only: `flat` says that forwards, `structural`
that only such edges lead from here on, backwards.

Edges may name what does not exist: it is a node without edges of its own, and harmless.
"""

# ruff: noqa: S608 (the queries are put together from constants; values are bound)

from __future__ import annotations

from supervisor.gc.conditions import SQL_FUNCTION

ALIVE = "({0}.expires_at IS NULL OR {0}.expires_at >= :now)"
"""An image or a lease that has not expired: `now > expire` is expired."""

FLAT_LABEL = """'$."containerd.io/gc.flat"'"""

_CONDITION = f"""
    e.kind = 'cond' AND {SQL_FUNCTION}(e.condition, (
        SELECT s.labels FROM snapshots s
        WHERE s.namespace = e.namespace AND s.snapshotter = substr(e.target_type, 10) AND s.key = e.target_key
    ), :now)
"""

REACHED = f"""
reached(namespace, type, key, flat) AS (
    SELECT l.namespace, 'lease', l.id, json_extract(l.labels, {FLAT_LABEL}) IS NOT NULL
        FROM leases l WHERE {ALIVE.format("l")}
    UNION SELECT i.namespace, 'image', i.name, 0 FROM images i WHERE {ALIVE.format("i")}
    UNION SELECT c.namespace, 'container', c.id, 0 FROM containers c
    UNION SELECT g.namespace, 'ingest', g.ref, 0 FROM ingests g WHERE g.expires_at >= :now
    UNION SELECT e.namespace, e.source_type, e.source_key, 0 FROM edges e WHERE e.kind = 'root'
    UNION SELECT e.namespace, e.source_type, e.source_key, 0
        FROM namespaces n CROSS JOIN edges e ON e.namespace = n.name AND e.source_type = 'sandbox'
    UNION SELECT s.namespace, 'snapshot/' || s.snapshotter, s.key, 0 FROM snapshots s WHERE s.state = 'making'

    UNION SELECT e.namespace, e.target_type, e.target_key, r.flat AND e.target_type <> 'ingest'
        FROM reached r
        JOIN edges e ON e.namespace = r.namespace AND e.source_type = r.type AND e.source_key = r.key
        WHERE e.kind IN ('lease', 'target', 'parent') OR r.flat = 0 AND (e.kind = 'ref' OR {_CONDITION})
    UNION SELECT e.namespace, e.source_type, e.source_key, 0
        FROM reached r
        JOIN edges e ON e.namespace = r.namespace AND e.target_type = r.type AND e.target_key = r.key
        WHERE e.kind = 'bref' AND r.flat = 0
)
"""
"""Everything that stays. Snapshots in the making belong to a call that runs, so they are roots."""

LISTED = """
listed(position, namespace, type, key, mark) AS (
    SELECT j.key, json_extract(j.value, '$[0]'), json_extract(j.value, '$[1]'), json_extract(j.value, '$[2]'),
        json_extract(j.value, '$[3]')
    FROM json_each(:nodes) j
)
"""
"""Nodes that Python hands over as JSON, in its order, each with a fourth value of its own."""

_BACKWARDS = f"""
    SELECT {{columns}} e.namespace, e.source_type, e.source_key, CASE
            WHEN e.source_type = 'ingest' THEN 1
            WHEN e.kind IN ('lease', 'target', 'parent') THEN {{structural}}
            ELSE 0
        END
        FROM {{origin}} k
        JOIN edges e ON e.namespace = k.namespace AND e.target_type = k.type AND e.target_key = k.key
        WHERE e.kind IN ('lease', 'target', 'parent', 'ref') OR {_CONDITION}
    UNION SELECT {{columns}} e.namespace, e.target_type, e.target_key, 0
        FROM {{origin}} k
        JOIN edges e ON e.namespace = k.namespace AND e.source_type = k.type AND e.source_key = k.key
        WHERE e.kind = 'bref'
"""

KEEPERS = f"""
keepers(namespace, type, key, structural) AS (
    SELECT namespace, type, key, 1 FROM listed
    UNION {_BACKWARDS.format(columns="", structural="k.structural", origin="keepers")}
)
"""
"""The listed nodes and all that could keep them. A flat lease counts at a structural end only."""

STEP_BACK = _BACKWARDS.format(
    columns="k.position, e.kind, e.condition,", structural="k.mark", origin="listed"
)
"""One step of KEEPERS from each listed node; `mark` is whether only structural edges were used so far."""


def roots_among(relation: str, structural: str) -> str:
    """A query for the rows of a relation of nodes that are roots; `structural` names its column for that."""
    return f"""
    SELECT k.* FROM {relation} k WHERE CASE k.type
        WHEN 'lease' THEN EXISTS (
            SELECT 1 FROM leases l WHERE l.namespace = k.namespace AND l.id = k.key AND {ALIVE.format("l")}
                AND (k.{structural} OR json_extract(l.labels, {FLAT_LABEL}) IS NULL))
        WHEN 'image' THEN EXISTS (
            SELECT 1 FROM images i WHERE i.namespace = k.namespace AND i.name = k.key AND {ALIVE.format("i")})
        WHEN 'container' THEN EXISTS (
            SELECT 1 FROM containers c WHERE c.namespace = k.namespace AND c.id = k.key)
        WHEN 'ingest' THEN EXISTS (
            SELECT 1 FROM ingests g
            WHERE g.namespace = k.namespace AND g.ref = k.key AND g.expires_at >= :now)
        WHEN 'sandbox' THEN 1
        ELSE EXISTS (
            SELECT 1 FROM edges e WHERE e.namespace = k.namespace AND e.source_type = k.type
                AND e.source_key = k.key AND e.kind = 'root')
            OR EXISTS (
            SELECT 1 FROM snapshots s WHERE s.namespace = k.namespace AND k.type LIKE 'snapshot/%'
                AND s.snapshotter = substr(k.type, 10) AND s.key = k.key AND s.state = 'making')
        END
    """
