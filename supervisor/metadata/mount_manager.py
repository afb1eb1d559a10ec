"""The mount manager: mounts prepared and held under a name (containerd: core/mount/manager).

    activate     row 'making', commit; mounts; row 'active', commit
    deactivate   row 'ending', commit; unmounts; row gone, commit

After a crash in between, `reconcile` at start undoes what was begun. After a reboot nothing is mounted
any more, and it forgets what was.

Methods block on disk and kernel: call them from a thread.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from supervisor.content.locks import WaitingLocks
from supervisor.errors import AlreadyExists, FailedPrecondition, InvalidArgument, SupervisorError
from supervisor.kernel.mountinfo import mount_table
from supervisor.metadata import mounts as rows
from supervisor.metadata.database import Database, Transaction
from supervisor.metadata.mounts import Record, State
from supervisor.model.activation import Activation, ActiveMount
from supervisor.model.fieldmask import parse_mask
from supervisor.model.filters import Filter
from supervisor.model.identifiers import Namespace
from supervisor.model.mount import Mount
from supervisor.mounts import performing
from supervisor.mounts.plan import Plan, are_plain, plan

log = logging.getLogger(__name__)

MAX_MOUNTS = 255
"""Mounts of one activation, as many as containerd's store has numbers for."""


PASSING_LABEL = "container-supervisor/passing"
"""Marks an activation that belongs to a call of this daemon's own, and ends with it."""


class MountManager:
    """Activations of all namespaces; may be called from any thread."""

    def __init__(self, database: Database, targets: Path, roots: Sequence[Path]) -> None:
        """Mount below `targets`; folders and images that mounts ask for are made there or below `roots`."""
        targets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = database
        self._targets = targets
        self._roots = (*roots, targets)
        self._locks = WaitingLocks()

    def activate(
        self,
        namespace: Namespace,
        name: str,
        mounts: Sequence[Mount],
        labels: Mapping[str, str],
        *,
        temporary: bool = False,
        lease_id: str | None = None,
    ) -> Activation:
        """Perform the mounts that need it, all of a `temporary` activation, and hold them under the name.

        Raises InvalidArgument, Unimplemented when nothing has to be done here, AlreadyExists, NotFound for an
        unknown lease, SupervisorError for a mount that fails: then nothing of it stays.
        """
        if not name:
            raise InvalidArgument("the name of an activation must not be empty")
        if len(mounts) > MAX_MOUNTS:
            raise InvalidArgument(f'mount "{name}": {len(mounts)} mounts, more than {MAX_MOUNTS}')
        planned = plan(mounts, temporary=temporary)
        with self._locks.holding(f"{namespace}/{name}"):
            self._clear_the_name(namespace, name)
            number = self._database.write(lambda tx: rows.begin(tx, namespace, name, labels, lease_id))
            try:
                return self._make(namespace, name, number, planned, temporary)
            except BaseException:
                self._drop(namespace, name)
                raise

    @contextmanager
    def ready(self, namespace: Namespace, mounts: Sequence[Mount]) -> Iterator[Sequence[Mount]]:
        """Mounts of plain types that show what `mounts` do, for as long as the `with` lasts.

        A crash meanwhile leaves nothing either: what is held in this way ends at the next start.
        """
        if are_plain(mounts):
            yield mounts
            return
        name = f"passing-{uuid.uuid4()}"
        activation = self.activate(namespace, name, mounts, {PASSING_LABEL: "true"})
        try:
            yield activation.system
        finally:
            self.deactivate(namespace, name)

    def deactivate(self, namespace: Namespace, name: str) -> None:
        """Undo an activation; raises NotFound, and FailedPrecondition when it is in use: try again then."""
        with self._locks.holding(f"{namespace}/{name}"):
            self._undo(self._database.read(lambda c: rows.get(c, namespace, name)))

    def collect(
        self, namespace: Namespace, name: str, number: int, may_go: Callable[[Connection], bool]
    ) -> bool:
        """Undo the activation of that number if `may_go`, which is asked in the transaction that ends it.

        For garbage collection. Answers whether it is gone; raises FailedPrecondition when it is in use.
        """

        def end(tx: Transaction) -> Record | None:
            found = rows.lookup(tx.connection, namespace, name)
            if found is None or found.id != number or not may_go(tx.connection):
                return None
            rows.end(tx, number)
            return found

        with self._locks.holding(f"{namespace}/{name}"):
            ending = self._database.write(end)
            if ending is not None:
                self._undo(ending)
        return ending is not None

    def info(self, namespace: Namespace, name: str) -> Activation:
        """One activation; raises NotFound."""
        return self._database.read(lambda c: rows.get(c, namespace, name)).activation

    def find(self, namespace: Namespace, filters: Sequence[Filter] = ()) -> list[Activation]:
        """The activations that pass the filters, in byte order of their names."""
        return self._database.read(lambda c: rows.find(c, namespace, filters))

    def update(self, namespace: Namespace, given: Activation, paths: Sequence[str] = ()) -> Activation:
        """Replace the labels, or those that the mask's paths name; raises NotFound, InvalidArgument."""
        mask = parse_mask(paths, "mount", fields=("labels",), maps=("labels",))
        return self._database.write(lambda tx: rows.relabel(tx, namespace, given, mask))

    def reconcile(self) -> None:
        """Agree rows and kernel, before anybody else calls: undo what is half done, forget what is gone."""
        known = self._database.read(rows.everything)
        table = mount_table()
        for record in known:
            whole = all(performing.holds(active, table) for active in record.activation.active)
            passing = PASSING_LABEL in record.activation.labels
            if record.state is not State.ACTIVE or not whole or passing:
                self._undo_at_start(record)
        numbers = {str(record.id) for record in known}
        for folder in self._targets.iterdir():
            if folder.name not in numbers:
                log.warning("mounts in %s belong to no activation; unmounting them", folder)
                performing.undo_all(folder)

    def _clear_the_name(self, namespace: Namespace, name: str) -> None:
        """Raise AlreadyExists for an activation; undo what is left of one that is no more."""
        found = self._database.read(lambda c: rows.lookup(c, namespace, name))
        if found is None:
            return
        if found.state is State.ACTIVE:
            raise AlreadyExists(f'mount "{name}"')
        self._undo(found)

    def _make(
        self, namespace: Namespace, name: str, number: int, planned: Plan, temporary: bool
    ) -> Activation:
        try:
            active, left = self._perform(self._targets / str(number), planned)
        except OSError as error:
            raise SupervisorError(f'mount "{name}": {error}') from error
        if temporary:
            left.append(Mount("bind", active[-1].mount_point, ("rbind",)))
        made = Activation(name, tuple(active), tuple(left))
        self._database.write(lambda tx: rows.complete(tx, number, made))
        return self.info(namespace, name)

    def _perform(self, folder: Path, planned: Plan) -> tuple[list[ActiveMount], list[Mount]]:
        """What was mounted, on points in `folder`, and the mounts that are left, ready."""
        folder.mkdir(mode=0o700)
        active: list[ActiveMount] = []
        for index, step in enumerate(planned.performed):
            mount = performing.ready(step, active, self._roots)
            active.append(performing.perform(mount, folder / str(index)))
        return active, [performing.ready(step, active, self._roots) for step in planned.left]

    def _drop(self, namespace: Namespace, name: str) -> None:
        """Forget an activation that did not come to be; what cannot be undone now is at the next start."""
        found = self._database.read(lambda c: rows.lookup(c, namespace, name))
        if found is not None:
            try:
                self._undo(found)
            except SupervisorError:
                log.exception('what was begun of mount "%s" stays until the next start', name)

    def _undo(self, record: Record) -> None:
        self._database.write(lambda tx: rows.end(tx, record.id))
        try:
            performing.undo_all(self._targets / str(record.id))
        except OSError as error:
            raise FailedPrecondition(
                f'deactivate mount "{record.activation.name}": {error}; end what uses it and try again'
            ) from error
        self._database.write(lambda tx: rows.forget(tx, record))

    def _undo_at_start(self, record: Record) -> None:
        try:
            self._undo(record)
        except SupervisorError as error:
            log.error("%s", error)
