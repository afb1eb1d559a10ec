"""What the objects of a plan weigh: the bytes that the disk has more when they are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Connection

from supervisor.errors import SupervisorError
from supervisor.gc.candidate import Candidate, Kind
from supervisor.gc.plans import Item
from supervisor.metadata import edges, ingests
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshots import Snapshots
from supervisor.metadata.statements import driver
from supervisor.model.identifiers import Namespace

_SEVERAL_HOLDERS = """
    SELECT digest, count(*) FROM (
        SELECT digest FROM blobs UNION ALL SELECT expected FROM ingests WHERE shared
    ) GROUP BY digest HAVING count(*) > 1
"""


class Scales:
    """Weighs what a mark found."""

    def __init__(self, store: ContentStore, snapshots: Snapshots) -> None:
        self._store = store
        self._snapshots = snapshots

    def weighed(self, found: Sequence[Candidate]) -> list[Item]:
        """Each candidate with its bytes; a blob of several holders weighs with the last of them."""
        holders = self._store.database.read(_holders)
        items = []
        for candidate in found:
            if candidate.kind is Kind.CONTENT and candidate.node.key in holders:
                holders[candidate.node.key] -= 1
                last = not holders[candidate.node.key]
                items.append(Item(candidate, candidate.size if last else 0))
            else:
                items.append(Item(candidate, self._weight(candidate)))
        return items

    def _weight(self, candidate: Candidate) -> int:
        node = candidate.node
        with suppress(SupervisorError):  # it went meanwhile, or its driver is not loaded
            if candidate.kind is Kind.INGEST:
                return self._store.files.status(ingests.stored_ref(node.namespace, node.key)).offset
            if candidate.kind is Kind.SNAPSHOT and not candidate.size:
                place = Place(Namespace(node.namespace), node.type.removeprefix(edges.SNAPSHOT_PREFIX))
                return self._snapshots.usage(place, node.key).size
        return candidate.size


def _holders(connection: Connection) -> Counter[str]:
    """How many records and shared writes need the bytes of a blob, where it is more than one."""
    return Counter({row[0]: row[1] for row in driver(connection).execute(_SEVERAL_HOLDERS)})
