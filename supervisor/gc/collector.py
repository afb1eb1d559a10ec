"""Collection as a whole: run, plan, explain (containerd: core/metadata/db.go, GarbageCollect).

A run marks, then sweeps what it found; a plan is a mark that is kept, to be looked at and swept later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from supervisor.gc import mark, paths
from supervisor.gc.candidate import Candidate, Kind
from supervisor.gc.files import Files
from supervisor.gc.paths import Hop
from supervisor.gc.plans import Plan, Plans
from supervisor.gc.scales import Scales
from supervisor.gc.sweep import Sweep
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshots import Snapshots
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import now


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a run did, and how long its phases took in seconds; `writing` is when it held the writer."""

    removed: dict[Kind, int]
    size: int
    marking: float
    sweeping: float
    writing: float

    @property
    def metadata(self) -> float:
        """The time by which containerd's scheduler reckons its pauses: that spent on records."""
        return self.marking + self.writing


class Collector:
    """The collector of one store. Methods block, and may be called from any thread; runs take turns."""

    def __init__(self, store: ContentStore, snapshots: Snapshots, mounts: MountManager | None = None) -> None:
        """Without a mount manager there are no mounts to end."""
        self._database = store.database
        self._mounts = mounts
        self._store = store
        self._snapshots = snapshots
        self._plans = Plans()
        self._turn = threading.Lock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have a run end after its slice; what it did not get to, a later one does."""
        self._stopping.set()

    def run(self) -> Statistics:
        """Remove all that no root reaches."""
        with self._turn:
            began = time.monotonic()
            found = self._database.read(lambda connection: mark.unreached(connection, now()))
            return self._sweep(found, time.monotonic() - began)

    def run_plan(self, plan_id: str) -> Statistics:
        """Remove what a plan lists, without what has come to be kept since; raises NotFound."""
        with self._turn:
            return self._sweep([item.candidate for item in self._plans.taken(plan_id).items], 0.0)

    def plan(self) -> Plan:
        """What a run would remove now, kept for a while under an id."""
        found = self._database.read(lambda connection: mark.unreached(connection, now()))
        return self._plans.keep(Scales(self._store, self._snapshots).weighed(found))

    def explain(self, namespace: Namespace, type_: str, key: str) -> list[Hop]:
        """The path from a root that keeps an object; empty when the next run removes it.

        Raises NotFound, and InvalidArgument for a type that there is not.
        """
        asked = paths.node(namespace, type_, key)
        return self._database.read(lambda connection: paths.explain(connection, asked, now()))

    def _sweep(self, found: Iterable[Candidate], marking: float) -> Statistics:
        files = Files(self._store, self._snapshots, self._mounts)
        began = time.monotonic()
        swept = Sweep(self._database, files, found, self._stopping.is_set).run()
        return Statistics(swept.removed, swept.size, marking, time.monotonic() - began, swept.writing)
