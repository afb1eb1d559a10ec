"""Importing archives of images: OCI layouts and what `docker save` writes (containerd: core/transfer)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, BinaryIO

from supervisor.diff import bounded
from supervisor.diff.compression import Readable
from supervisor.errors import (
    AlreadyExists,
    Cancelled,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SupervisorError,
)
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.oci import archive
from supervisor.oci import image as documents
from supervisor.oci import platform as platforms
from supervisor.oci.archive import Archive
from supervisor.oci.image import Index, Manifest
from supervisor.transfer import walking
from supervisor.transfer.naming import Naming
from supervisor.transfer.progress import Extraction, Part, Progress, Report, part_name
from supervisor.transfer.stores import Scope
from supervisor.transfer.unpacking import Source, Unpack, unpack
from supervisor.transfer.walking import EVERYTHING, Wanted

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Import:
    """What is asked for: what to call the images, which platforms of them, and where to unpack."""

    naming: Naming
    wanted: Wanted = EVERYTHING
    unpacks: Sequence[Unpack] = ()


def import_stream(scope: Scope, stream: Readable, asked: Import, report: Report) -> list[Image]:
    """Import the archive that `stream` is, and name its images; those that no rule names stay nameless.

    Raises InvalidArgument when it is no archive of images, or lacks a part, NotFound when no image got a
    name. Members lie in any order, so the stream is written to the spool first.
    """
    report(Progress("Importing"))
    with tempfile.TemporaryFile(dir=scope.stores.spool) as spooled:
        _spool(scope, stream, spooled)
        with archive.of_file(spooled) as source:
            stored = _import(scope, source, asked, report)
    if not stored:
        raise NotFound("no image name found: no rule of the request takes a name that the archive has")
    report(Progress("Completed import"))
    return stored


def _spool(scope: Scope, stream: Readable, file: IO[bytes]) -> None:
    """Write the archive down as it is inside of gzip or zstd: members can be found in no other.

    It holds many layers, so of the limits of one only the ratio is of use.
    """
    limits = replace(scope.stores.limits, max_bytes=0)
    try:
        for piece in bounded.plain(stream, limits, by_magic=True):
            scope.check()
            file.write(piece)
    except Cancelled:
        raise
    except ResourceExhausted as error:
        raise ResourceExhausted(f"read image archive: {error}") from error
    except SupervisorError as error:
        raise InvalidArgument(f"read image archive: {error}") from error
    file.seek(0)


def _import(scope: Scope, source: Archive, asked: Import, report: Report) -> list[Image]:
    importer = _Importer(scope, source, asked, report)
    for target in {entry.target.digest: entry.target for entry in source.images}.values():
        importer.bring(target, depth=1)
    importer.unpack()
    images = [image for entry in source.images for image in asked.naming.of_archived(entry)]
    if of_index := asked.naming.of_target(source.index):
        importer.bring(source.index, depth=0)
        images += of_index
    stored = [scope.name(image) for image in {image.name: image for image in images}.values()]
    for image in stored:
        report(Progress("saved", image.name, descriptor=image.target))
    return stored


@dataclass(slots=True)
class _Importer:
    scope: Scope
    source: Archive
    asked: Import
    report: Report
    manifests: list[tuple[Descriptor, Manifest]] = field(default_factory=list)
    brought: set[str] = field(default_factory=set)

    def bring(self, target: Descriptor, *, depth: int) -> None:
        """Store what `target` points to, children first; each once."""
        if target.digest in self.brought:
            return
        self.brought.add(target.digest)
        walking.check_depth(depth, target)
        data = self.source.document(target)
        parsed = documents.parse(data, target.media_type)
        kept = [child for child in walking.children(parsed) if self._is_wanted(parsed, child)]
        for child in kept:
            if walking.is_document(child):
                self.bring(child, depth=depth + 1)
            else:
                self._blob(child, part_name(target))
        if self.scope.write(target, data, walking.reference_labels(parsed)):
            Part(self.report, target, "", "importing").complete()
        if isinstance(parsed, Manifest):
            self.manifests.append((target, parsed))

    def _is_wanted(self, parsed: Index | Manifest, child: Descriptor) -> bool:
        if isinstance(parsed, Index):
            chosen = {entry.descriptor.digest for entry in self.asked.wanted.of(parsed)}
            return child.digest in chosen and self.source.has(child.digest)
        if not self.source.has(child.digest):
            raise InvalidArgument(f"the archive lacks {child.digest}, which one of its images needs")
        return True

    def _blob(self, blob: Descriptor, parent: str) -> None:
        part = Part(self.report, blob, parent, "importing")
        if self.scope.has(blob.digest):
            part.exists()
            return
        content, scope = self.scope.stores.content, self.scope
        try:
            ingest = content.open_ingest(
                scope.namespace, part_name(blob), scope.lease, total=blob.size, expected=blob.digest
            )
        except AlreadyExists:
            part.exists()
            return
        try:
            if ingest.status().offset != blob.size:  # another namespace's bytes may stand for them
                ingest.truncate()
                with self.source.open(blob.digest) as opened:
                    while piece := opened.read(_PIECE):
                        self.scope.check()
                        ingest.append(piece)
            with suppress(AlreadyExists):
                ingest.commit(blob.size, blob.digest, {})
        finally:
            ingest.close()
        part.complete()

    def unpack(self) -> None:
        """Unpack what was asked for."""
        for target, manifest in self.manifests:
            unpack_stored(self.scope, target, manifest, self.asked.unpacks, self.report)


def unpack_stored(
    scope: Scope, target: Descriptor, manifest: Manifest, unpacks: Sequence[Unpack], report: Report
) -> None:
    """Unpack the image `manifest`, which is at `target`, all of it in the store, where it suits `unpacks`."""
    if manifest.config.media_type not in documents.CONFIG_TYPES:
        return
    config = documents.parse_config(scope.document(manifest.config))
    for wanted in unpacks:
        if platforms.rank(config.platform, wanted.platform) is None:
            continue
        with ExitStack() as opened:
            sources = [
                Source(
                    layer,
                    partial(_opened, scope, layer, opened),
                    Extraction(report, layer, part_name(target)),
                )
                for layer in manifest.layers
            ]
            top = unpack(scope, wanted.snapshotter, config, sources)
        if top:
            scope.label(manifest.config.digest, {f"containerd.io/gc.ref.snapshot.{wanted.snapshotter}": top})


def _opened(scope: Scope, layer: Descriptor, files: ExitStack) -> BinaryIO:
    return files.enter_context(scope.open(layer.digest))
