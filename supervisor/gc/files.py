"""What lies on disk for collected objects: held while their rows go, and removed afterwards.

    content    the digest's lock is held over row and file, so a commit of the same blob comes before or after
    ingests    one that a writer has open is left for a later run; its ref is held for the others
    mounts     row and mounts end together, by the mount manager
    snapshots  numbers are never used again, so nothing needs to be held

A file whose removal fails is logged: its row is gone, so the next start collects it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from sqlalchemy import Connection

from supervisor.errors import NotFound, SupervisorError, Unavailable
from supervisor.gc.candidate import Candidate, Kind
from supervisor.metadata import edges, ingests
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshots import Snapshots
from supervisor.metadata.statements import driver
from supervisor.model.digest import Digest
from supervisor.model.identifiers import Namespace

log = logging.getLogger(__name__)

_USED = """
    SELECT j.value FROM json_each(:digests) j
    WHERE EXISTS (SELECT 1 FROM blobs b WHERE b.digest = j.value)
        OR EXISTS (SELECT 1 FROM ingests i WHERE i.shared AND i.expected = j.value)
"""


class Files:
    """The files of one run."""

    def __init__(self, store: ContentStore, snapshots: Snapshots, mounts: MountManager | None = None) -> None:
        self._content = store
        self._mounts = mounts
        self._snapshots = snapshots
        self._drivers: set[str] = set()

    def unmount(self, mount: Candidate, may_go: Callable[[Connection], bool]) -> bool:
        """End an activation, row included, if it may go; one that is in use is left for a later run."""
        if self._mounts is None:
            return False
        node = mount.node
        try:
            return self._mounts.collect(Namespace(node.namespace), node.key, mount.identity, may_go)
        except SupervisorError as error:
            log.warning("a mount that nothing keeps stays: %s", error)
            return False

    @contextmanager
    def held(self, candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
        """Hold off whoever would decide about the same files; yields the candidates without those in use."""
        with ExitStack() as stack:
            # In one order, so that two who hold several cannot wait for each other.
            for digest in sorted({c.node.key for c in candidates if c.kind is Kind.CONTENT}):
                stack.enter_context(self._content.files.exclusive(Digest(digest)))
            yield [c for c in candidates if c.kind is not Kind.INGEST or self._hold_ref(stack, c)]

    def _hold_ref(self, stack: ExitStack, ingest: Candidate) -> bool:
        with suppress(Unavailable):
            stack.enter_context(self._content.files.idle(_stored_ref(ingest)))
            return True
        return False

    def remove(self, gone: Sequence[Candidate]) -> int:
        """Remove the files of objects whose rows are gone; answers how many bytes that gave back."""
        blobs = [one.node.key for one in gone if one.kind is Kind.CONTENT]
        used = self._content.database.read(lambda c: _still_used(c, blobs)) if blobs else set()
        return sum(self._remove(one) for one in gone if one.node.key not in used)

    def _remove(self, gone: Candidate) -> int:
        try:
            match gone.kind:
                case Kind.CONTENT:
                    return gone.size if self._content.files.remove(Digest(gone.node.key)) else 0
                case Kind.INGEST:
                    return self._remove_ingest(gone)
                case Kind.SNAPSHOT:
                    return self._remove_snapshot(gone)
        except SupervisorError as error:
            log.error("collected %s keeps its files until the next start: %s", gone.node, error)
        return 0

    def _remove_ingest(self, gone: Candidate) -> int:
        with suppress(NotFound):  # one that shares a blob has none
            size = self._content.files.status(_stored_ref(gone)).offset
            self._content.files.abort(_stored_ref(gone))
            return size
        return 0

    def _remove_snapshot(self, gone: Candidate) -> int:
        name = gone.node.type.removeprefix(edges.SNAPSHOT_PREFIX)
        self._snapshots.hide(name, gone.identity)
        self._drivers.add(name)
        return gone.size

    def finish(self) -> None:
        """Delete what was put out of sight; this may take long."""
        for name in sorted(self._drivers):
            try:
                self._snapshots.cleanup(name)
            except SupervisorError as error:
                log.error("%s: the trash stays until the next clean-up: %s", name, error)


def _still_used(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those that another namespace has, or a write shares."""
    return {digest for (digest,) in driver(connection).execute(_USED, {"digests": json.dumps(digests)})}


def _stored_ref(ingest: Candidate) -> str:
    return ingests.stored_ref(ingest.node.namespace, ingest.node.key)
