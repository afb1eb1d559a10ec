"""Snapshots: names, parents, kinds and the order in which rows and files change (contract 7).

    prepare, view   row 'making', commit; files; row 'ready' and event, commit
    commit          files made durable; row under its new name, commit
    remove          row gone, commit; files moved to the trash; trash deleted later

After a crash in between, `reconcile` at start carries each to one of its ends. (containerd:
core/metadata/snapshot.go.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from supervisor.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    SupervisorError,
)
from supervisor.metadata import snapshot_rows
from supervisor.metadata import snapshot_rules as rules
from supervisor.metadata.database import Database
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.model import filters as language
from supervisor.model.identifiers import check_labels
from supervisor.model.mount import Mount
from supervisor.snapshots.failures import translating
from supervisor.snapshots.snapshotter import REBASE, Info, Kind, Snapshotter, Usage

log = logging.getLogger(__name__)

Later = Callable[[Callable[[], None]], object]


class Snapshots:
    """The snapshots of all namespaces and drivers. Methods block; they may be called from any thread."""

    def __init__(
        self, database: Database, drivers: Iterable[Snapshotter], later: Later = lambda job: job()
    ) -> None:
        """`later` runs the deletion of files that nobody waits for; by default it is waited for."""
        self._database = database
        self._drivers = {driver.name: driver for driver in drivers}
        self._later = later

    def driver(self, name: str) -> Snapshotter:
        """The driver of that name; raises InvalidArgument (contract 7: never NotFound)."""
        if not name:
            raise InvalidArgument("the request names no snapshotter")
        if name not in self._drivers:
            known = ", ".join(sorted(self._drivers)) or "none"
            raise InvalidArgument(f'snapshotter "{name}" is not loaded; there are: {known}')
        return self._drivers[name]

    def rebases(self, name: str) -> bool:
        """Whether a snapshot of that driver can be made without its parent and be given it by `commit`."""
        return REBASE in self.driver(name).capabilities

    def prepare(self, place: Place, new: New, lease: str | None = None) -> tuple[Mount, ...]:
        """Make an active snapshot or a view and answer its mounts."""
        driver = self.driver(place.snapshotter)
        check_labels(new.labels)
        # Not waited for: files without their row, as a power failure may leave them, go at the next start.
        begin = partial(rules.begin, place=place, new=new, lease=lease, driver=driver)
        layer = self._database.write(begin, durable=False)
        if isinstance(layer, SupervisorError):
            raise layer
        try:
            with translating(f'make snapshot "{new.key}" of {place.snapshotter}'):
                driver.create(layer)
            mounts = driver.mounts(layer)
            self._database.write(partial(rules.made, place=place, new=new, number=layer.id))
        except BaseException:
            self._undo(driver, place, new.key, layer.id)
            raise
        return mounts

    def _undo(self, driver: Snapshotter, place: Place, key: str, number: int) -> None:
        self._database.write(partial(rules.forget, place=place, key=key, number=number))
        self._discard(driver, number)

    def _discard(self, driver: Snapshotter, number: int) -> None:
        _hide(driver, number)
        self._later(partial(_clean, driver))

    def mounts(self, place: Place, key: str) -> tuple[Mount, ...]:
        """The mounts of an active snapshot or a view, as they were when it was made."""
        driver = self.driver(place.snapshotter)
        layer = self._database.read(lambda connection: rules.layer_of(connection, place, key))
        if layer.kind is Kind.COMMITTED:
            raise FailedPrecondition(f'snapshot "{key}" is committed and has no mounts; prepare or view it')
        return driver.mounts(layer)

    def commit(self, place: Place, finished: Finished, lease: str | None = None) -> None:
        """Turn an active snapshot into a committed one that others can build on."""
        driver = self.driver(place.snapshotter)
        check_labels(finished.labels)
        rebases = REBASE in driver.capabilities
        layer = self._database.read(
            lambda connection: rules.committable(connection, place, finished, rebases)
        )
        if layer is None:
            self._database.write(lambda tx: rules.attach(tx, place, finished.name, lease))
            raise AlreadyExists(f'snapshot "{finished.name}"')
        with translating(f'commit snapshot "{finished.key}" of {place.snapshotter}'):
            usage = driver.commit(layer)
        committed = partial(rules.committed, place=place, finished=finished, lease=lease, rebases=rebases)
        error = self._database.write(lambda tx: committed(tx, layer=layer, usage=usage))
        if error is not None:
            raise error

    def remove(self, place: Place, key: str, lease: str | None = None) -> None:
        """Remove a snapshot that no other builds on; its key is free at once, its space a little later."""
        driver = self.driver(place.snapshotter)
        number = self._database.write(lambda tx: rules.remove(tx, place, key, lease))
        self._discard(driver, number)

    def stat(self, place: Place, key: str) -> Info:
        """What is known of one snapshot."""
        self.driver(place.snapshotter)
        return self._database.read(lambda connection: rules.existing(connection, place, key)).info

    def update(self, place: Place, key: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Info:
        """Change labels: all of them, or those that the field mask `paths` names."""
        self.driver(place.snapshotter)
        if not key:
            raise InvalidArgument("the request names no snapshot to update")
        return self._database.write(lambda tx: rules.update(tx, place, key, labels, paths))

    def list(self, place: Place, filters: Sequence[str] = ()) -> list[Info]:
        """The snapshots of a place that pass any of `filters`, in byte order of their names."""
        self.driver(place.snapshotter)
        wanted = language.parse_all(filters)
        records = self._database.read(lambda connection: snapshot_rows.all_of(connection, place, wanted))
        return [record.info for record in records]

    def usage(self, place: Place, key: str) -> Usage:
        """Size of a snapshot's own layer: measured now while active, as at its commit afterwards."""
        driver = self.driver(place.snapshotter)
        record, layer = self._database.read(lambda connection: rules.measurable(connection, place, key))
        if layer.kind is not Kind.ACTIVE:
            return record.usage
        with translating(f'measure snapshot "{key}" of {place.snapshotter}'):
            return driver.usage(layer)

    def hide(self, snapshotter: str, number: int) -> None:
        """Put the files of a collected snapshot out of sight; `cleanup` deletes them."""
        _hide(self.driver(snapshotter), number)

    def cleanup(self, snapshotter: str) -> None:
        """Delete the files of removed snapshots now."""
        driver = self.driver(snapshotter)
        with translating(f"clean up removed snapshots of {snapshotter}"):
            driver.cleanup()

    def reconcile(self) -> None:
        """At start, before anybody asks: agree rows and files again after a crash, driver by driver."""
        for driver in self._drivers.values():
            unfinished = partial(snapshot_rows.unfinished, snapshotter=driver.name)
            for number, place, key in self._database.read(unfinished):
                self._database.write(partial(rules.forget, place=place, key=key, number=number))
            self._reconcile_files(driver)

    def _reconcile_files(self, driver: Snapshotter) -> None:
        rows = self._database.read(partial(snapshot_rows.numbers, snapshotter=driver.name))
        folders = driver.numbers()
        for number in sorted(rows - folders):
            log.error("%s: snapshot %d has lost its files; remove what builds on it", driver.name, number)
        for number in sorted(folders - rows):
            _hide(driver, number)
        self._later(partial(_clean, driver))


def _hide(driver: Snapshotter, number: int) -> None:
    """Put files out of sight whose row is gone; a failure is made good at the next start."""
    try:
        driver.remove(number)
    except OSError as error:
        log.error("%s: snapshot %d keeps its files until the next start: %s", driver.name, number, error)


def _clean(driver: Snapshotter) -> None:
    """Empty a driver's trash; nobody waits for this, so a failure is only told."""
    try:
        driver.cleanup()
    except OSError as error:
        log.error("%s: the trash stays until the next clean-up: %s", driver.name, error)
