"""Pushing an image: what it names before what names it (containerd: core/transfer, push)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from supervisor.model.descriptor import Descriptor
from supervisor.oci import image as documents
from supervisor.oci.references import Reference, parse
from supervisor.registry.pusher import Outcome, Pusher
from supervisor.registry.session import Session
from supervisor.transfer import origins, walking
from supervisor.transfer.progress import Part, Progress, Report, part_name
from supervisor.transfer.stores import Scope
from supervisor.transfer.walking import Wanted

MAX_SOURCES = 3
"""Other repositories that a registry is asked to take a blob over from, at most."""


def push(scope: Scope, session: Session, name: str, reference: str, wanted: Wanted, report: Report) -> None:
    """Push the image `name` to `reference`; raises NotFound, and RegistryErrors that say what failed.

    What the registry has already is not sent, or taken over from another of its repositories that the
    content came from. Ends with Cancelled soon after `session` is cancelled.
    """
    target, place = scope.image(name).target, parse(reference)
    report(Progress(f"Pushing to OCI Registry ({reference})"))
    report(Progress("pushing content", name, descriptor=target))
    with ThreadPoolExecutor(session.settings.parallel_layers, thread_name_prefix="push") as pool:
        pushing = _Push(scope, Pusher(session, place), place, report, name, pool)
        try:
            pushing.document(target, place.tag, wanted, depth=0)
        except BaseException:
            session.cancel()
            raise
    report(Progress("pushed content", name, descriptor=target))
    report(Progress(f"Completed push to OCI Registry ({reference})", descriptor=target))


@dataclass(slots=True)
class _Push:
    scope: Scope
    pusher: Pusher
    place: Reference
    report: Report
    name: str
    pool: ThreadPoolExecutor
    sent: set[str] = field(default_factory=set)

    def document(self, target: Descriptor, tag: str, wanted: Wanted, *, depth: int) -> None:
        """Send an index or a manifest behind all that it names; what is sent is not sent again."""
        walking.check_depth(depth, target)
        data = self.scope.document(target)
        parsed = documents.parse(data, target.media_type)
        children = walking.children(parsed)
        if isinstance(parsed, documents.Index) and wanted.platforms:
            children = [entry.descriptor for entry in wanted.of(parsed)]
        for child in filter(walking.is_document, children):
            self.document(child, "", wanted, depth=depth + 1)
        self._blobs([child for child in children if not walking.is_document(child)], part_name(target))
        self._send(target, self.name, tag)

    def _blobs(self, blobs: Sequence[Descriptor], parent: str) -> None:
        new = [blob for blob in blobs if blob.digest not in self.sent]
        self.sent.update(blob.digest for blob in new)
        for done in [self.pool.submit(self._send, blob, parent, "") for blob in new]:
            done.result()

    def _send(self, target: Descriptor, parent: str, tag: str) -> None:
        part = Part(self.report, target, parent, "uploading")
        outcome = self.pusher.push(
            target,
            self._source(target),
            tag=tag,
            mount_from=self._elsewhere(target),
            on_offset=part.at,
        )
        if outcome is Outcome.EXISTS:
            part.exists()
        else:
            part.complete()

    def _source(self, target: Descriptor) -> Callable[[int], BinaryIO]:
        return partial(_opened, self.scope, target)

    def _elsewhere(self, target: Descriptor) -> list[str]:
        """Repositories of the same registry that the blob was pulled from."""
        labels = self.scope.stores.content.info(self.scope.namespace, target.digest).labels
        return origins.elsewhere(labels, self.place)[:MAX_SOURCES]


def _opened(scope: Scope, target: Descriptor, offset: int) -> BinaryIO:
    blob = scope.open(target.digest)
    blob.seek(offset)
    return blob
