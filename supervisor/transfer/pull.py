"""Pulling an image: network, hash, decompression and unpacking as one pipeline (containerd: core/transfer).

    resolve -> index, manifest, configuration -> per layer: socket -> sha256 -> ingest file
                                                                              -> decompressed -> snapshot

Layers arrive side by side and are unpacked in their order, each from its first byte on. An image gets its
name when everything that it needs is there; what was fetched before a failure stays under a lease for a
while, so that the next attempt goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from supervisor.errors import InvalidArgument, ResourceExhausted
from supervisor.kernel.usage import free_bytes
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.oci import image as documents
from supervisor.oci import platform as platforms
from supervisor.oci.image import ImageConfig, Index, Manifest
from supervisor.oci.references import Reference, parse
from supervisor.registry.fetcher import Fetcher
from supervisor.registry.resolver import resolve
from supervisor.registry.session import Session
from supervisor.transfer import origins, walking
from supervisor.transfer.fetching import Fetching
from supervisor.transfer.growing import Growing
from supervisor.transfer.naming import Naming
from supervisor.transfer.progress import Extraction, Part, Progress, Report, part_name
from supervisor.transfer.stores import Scope
from supervisor.transfer.unpacking import Source, Unpack, unpack
from supervisor.transfer.verifiers import Verify
from supervisor.transfer.walking import EVERYTHING, Wanted


@dataclass(frozen=True, slots=True)
class Pull:
    """What is asked for: a reference, the platforms of it, where to unpack, and what to call it."""

    reference: str
    naming: Naming
    wanted: Wanted = EVERYTHING
    unpacks: Sequence[Unpack] = ()
    all_metadata: bool = False
    """Whether manifests and configurations of other platforms are fetched, too."""


def pull(scope: Scope, session: Session, asked: Pull, report: Report, verify: Verify) -> list[Image]:
    """Pull an image and name it; raises RegistryErrors and SupervisorErrors that say what failed.

    Ends with Cancelled soon after `session` is cancelled.
    """
    reference = parse(asked.reference)
    report(Progress(f"Resolving from OCI Registry ({asked.reference})"))
    name, target = resolve(session, reference)
    verify(name, target)
    report(Progress(f"Pulling from OCI Registry ({asked.reference})"))
    report(Progress("fetching image content", name, descriptor=target))
    with _puller(scope, session, reference, asked, report) as puller:
        puller.bring(target)
    stored = [scope.name(image) for image in asked.naming.of_target(target)]
    if not stored:
        raise InvalidArgument(f"pull {asked.reference}: the request says no name for the image")
    for image in stored:
        report(Progress("saved", image.name, descriptor=image.target))
    report(Progress(f"Completed pull from OCI Registry ({asked.reference})"))
    return stored


@contextmanager
def _puller(
    scope: Scope, session: Session, reference: Reference, asked: Pull, report: Report
) -> Iterator[_Puller]:
    labels = origins.label(reference)
    fetching = Fetching(scope, Fetcher(session, reference), labels, session.deadline.check)
    with ThreadPoolExecutor(session.settings.parallel_layers, thread_name_prefix="pull") as pool:
        puller = _Puller(scope, fetching, labels, asked, report, pool, session.cancel)
        try:
            yield puller
        except BaseException:
            session.cancel()
            raise
        finally:
            puller.close()


@dataclass(slots=True)
class _Puller:
    scope: Scope
    fetching: Fetching
    labels: Mapping[str, str]
    asked: Pull
    report: Report
    pool: ThreadPoolExecutor
    give_up: Callable[[], None]
    arriving: dict[str, tuple[Growing, Future[None]]] = field(default_factory=dict)

    def bring(self, target: Descriptor) -> None:
        """Have the store hold all that is wanted of what `target` names, unpacked as asked."""
        self._document(target, self.asked.naming.name or self.asked.reference, chosen=True, depth=0)
        for _, arrived in self.arriving.values():
            arrived.result()

    def close(self) -> None:
        """Let go of the files of what arrived."""
        for _, arrived in self.arriving.values():
            arrived.cancel()
        self.pool.shutdown(wait=True)
        for growing, _ in self.arriving.values():
            growing.close()

    def _document(self, target: Descriptor, parent: str, *, chosen: bool, depth: int) -> None:
        walking.check_depth(depth, target)
        part = Part(self.report, target, parent, "downloading")
        data = self.fetching.document(target, part)
        parsed = documents.parse(data, target.media_type)
        if isinstance(parsed, Index):
            self._index(target, parsed, data, depth=depth)
        else:
            self._manifest(target, parsed, data, chosen=chosen)

    def _index(self, target: Descriptor, index: Index, data: bytes, *, depth: int) -> None:
        chosen = [entry.descriptor for entry in self.asked.wanted.of(index)]
        kept = walking.children(index) if self.asked.all_metadata else chosen
        self._store(target, data, walking.reference_labels(index))
        digests = {descriptor.digest for descriptor in chosen}
        for child in kept:
            if walking.is_document(child):
                self._document(child, part_name(target), chosen=child.digest in digests, depth=depth + 1)

    def _manifest(self, target: Descriptor, manifest: Manifest, data: bytes, *, chosen: bool) -> None:
        parts = [manifest.config, *(manifest.layers if chosen else ())]
        self._store(target, data, walking.reference_labels(manifest))
        if chosen:
            self._check_space(parts)
        for part in parts:
            self._start(part, part_name(target))
        if chosen and self.asked.unpacks and manifest.config.media_type in documents.CONFIG_TYPES:
            self._unpack(manifest, part_name(target))

    def _store(self, target: Descriptor, data: bytes, references: Mapping[str, str]) -> None:
        self.scope.write(target, data, {**self.labels, **references})

    def _check_space(self, parts: Sequence[Descriptor]) -> None:
        """Before the first byte: an image that cannot be stored is not begun."""
        needed = sum(part.size for part in parts if not self.scope.has(part.digest))
        free = free_bytes(self.scope.stores.spool)
        if needed > free:
            raise ResourceExhausted(
                f"pull {self.asked.reference}: {needed} bytes are to be fetched, and {free} are free on the"
                f" disk of {self.scope.stores.spool}; free some space, for instance by removing images"
            )

    def _start(self, blob: Descriptor, parent: str) -> None:
        if blob.digest in self.arriving:
            return
        growing, part = Growing(), Part(self.report, blob, parent, "downloading")
        work = partial(self.fetching.blob, blob, part, growing)
        self.arriving[blob.digest] = growing, self.pool.submit(work)

    def _unpack(self, manifest: Manifest, parent: str) -> None:
        growing, _ = self.arriving[manifest.config.digest]
        growing.wait()
        config = documents.parse_config(self.scope.document(manifest.config))
        for wanted in self.asked.unpacks:
            if platforms.rank(config.platform, wanted.platform) is not None:
                self._unpack_into(wanted.snapshotter, manifest, config, parent)

    def _unpack_into(self, snapshotter: str, manifest: Manifest, config: ImageConfig, parent: str) -> None:
        sources = [self._source(layer, parent) for layer in manifest.layers]
        top = unpack(self.scope, snapshotter, config, sources, self.give_up)
        if top:
            label = f"containerd.io/gc.ref.snapshot.{snapshotter}"
            self.scope.label(manifest.config.digest, {label: top})

    def _source(self, layer: Descriptor, parent: str) -> Source:
        growing, _ = self.arriving[layer.digest]
        return Source(layer, growing.reader, Extraction(self.report, layer, parent), growing.wait)
