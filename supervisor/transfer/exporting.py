"""Exporting images as an archive that both containerd and Docker load (containerd: core/images/archive).

An OCI layout in a tar: `oci-layout`, `index.json`, `blobs/`; and `manifest.json` for `docker load`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from supervisor.diff import tar_writer
from supervisor.diff.entry import Entry, Kind
from supervisor.errors import DataLoss, InvalidArgument, NotFound
from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.model.platform import Platform
from supervisor.oci import archive, references
from supervisor.oci import image as documents
from supervisor.oci import platform as platforms
from supervisor.oci.image import Index, Manifest
from supervisor.transfer import origins, walking
from supervisor.transfer.progress import Progress, Report
from supervisor.transfer.stores import Scope
from supervisor.transfer.walking import Wanted

PIECE_BYTES = 1 << 20

_LAYOUT = {"imageLayoutVersion": "1.0.0"}


class Sink(Protocol):
    """Where an archive goes."""

    def write(self, data: bytes, /) -> int:
        """Take the bytes, all of them."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for; without platforms those of the host, unless all are wanted."""

    names: Sequence[str]
    platforms: Sequence[Platform] = ()
    all_platforms: bool = False
    docker: bool = True
    """Whether Docker should be able to load it."""
    non_distributable: bool = True
    """Whether layers that must not be passed on are in it."""

    @property
    def wanted(self) -> Wanted:
        """The platforms of an index that are meant."""
        if self.all_platforms:
            return walking.EVERYTHING
        return Wanted(tuple(self.platforms) or (platforms.host(),))


def export(scope: Scope, asked: Export, sink: Sink, report: Report) -> None:
    """Write the named images; raises NotFound for one that is unknown, or of which a part is missing."""
    if not asked.names:
        raise InvalidArgument("export: the request names no image")
    report(Progress("Exporting"))
    images = [scope.image(name) for name in asked.names]
    writer = _Writer(scope, sink, asked, report)
    # Docker, and others that read a stream from its start, want the layout's file first.
    writer.document("oci-layout", _LAYOUT)
    writer.finish([writer.image(image) for image in images])
    report(Progress("Completed export"))


@dataclass(frozen=True, slots=True)
class _Described:
    """An image as `docker load` reads of it."""

    config: str
    layers: tuple[str, ...]
    names: Sequence[str]


@dataclass(slots=True)
class _Writer:
    scope: Scope
    sink: Sink
    asked: Export
    report: Report
    written: set[str] = field(default_factory=set)
    docker: dict[str, _Described] = field(default_factory=dict)

    def image(self, image: Image) -> dict[str, object]:
        """Write all of an image; its entry in the archive's index."""
        self._target(image.target, image.name, depth=0)
        self.report(Progress("exported", image.name, descriptor=image.target))
        stored = self.scope.stores.content.info(self.scope.namespace, image.target.digest)
        told = {
            **image.target.annotations,
            **origins.of(stored.labels),
            **archive.name_annotations(image.name),
        }
        return _entry(replace(image.target, annotations=told))

    def document(self, name: str, value: object) -> None:
        """Write a file of JSON."""
        self._file(name, json.dumps(value).encode())

    def finish(self, entries: Sequence[dict[str, object]]) -> None:
        """Write what names the images."""
        if self.asked.docker and self.docker:
            self.document("manifest.json", _grouped(self.docker.values()))
        self.document(
            "index.json", {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": list(entries)}
        )
        self.sink.write(tar_writer.END)

    def _target(self, target: Descriptor, name: str, *, depth: int) -> None:
        walking.check_depth(depth, target)
        data = self.scope.document(target)
        parsed = documents.parse(data, target.media_type)
        for child in self._children(parsed):
            if walking.is_document(child):
                self._target(child, name, depth=depth + 1)
            else:
                self._blob(child)
        self._add(target, data)
        if isinstance(parsed, Manifest) and parsed.config.media_type in documents.CONFIG_TYPES:
            self._describe(parsed, name)

    def _children(self, parsed: Index | Manifest) -> list[Descriptor]:
        if isinstance(parsed, Index):
            return [entry.descriptor for entry in self.asked.wanted.of(parsed)]
        layers = parsed.layers
        if not self.asked.non_distributable:
            layers = tuple(layer for layer in layers if "nondistributable" not in layer.media_type)
        return [parsed.config, *layers]

    def _describe(self, manifest: Manifest, name: str) -> None:
        """Docker loads one image a name: the one that the host runs, or else the first."""
        config = documents.parse_config(self.scope.document(manifest.config))
        runs_here = platforms.rank(config.platform, platforms.host()) == 0
        if name in self.docker and not runs_here:
            return
        names = [references.familiar(name)] if "@" not in name else []
        self.docker[name] = _Described(_path(manifest.config), tuple(map(_path, manifest.layers)), names)

    def _blob(self, blob: Descriptor) -> None:
        if blob.digest in self.written:
            return
        self.written.add(blob.digest)
        try:
            opened = self.scope.open(blob.digest)
        except NotFound as error:
            raise NotFound(f"export: {error}; pull the image again, with all of its content") from error
        algorithm, encoded = digests.split(blob.digest)
        running = hashlib.new(algorithm)
        with opened:
            self._begin(_path(blob), blob.size)
            while piece := opened.read(PIECE_BYTES):
                self.scope.check()
                running.update(piece)
                self.sink.write(piece)
        if running.hexdigest() != encoded:
            raise DataLoss(f"export: blob {blob.digest} is damaged: its bytes have another digest")
        self.sink.write(tar_writer.padding(blob.size))

    def _add(self, target: Descriptor, data: bytes) -> None:
        if target.digest not in self.written:
            self.written.add(target.digest)
            self._file(_path(target), data)

    def _file(self, name: str, data: bytes) -> None:
        self._begin(name, len(data))
        self.sink.write(data + tar_writer.padding(len(data)))

    def _begin(self, name: str, size: int) -> None:
        self.sink.write(tar_writer.header(Entry(Kind.FILE, name.encode(), mode=0o444, size=size)))


def _path(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/', 1)}"


def _grouped(described: Iterable[_Described]) -> list[dict[str, object]]:
    """An entry for each image, with all of its names."""
    names: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in described:
        names.setdefault((one.config, one.layers), []).extend(one.names)
    return [
        {"Config": config, "RepoTags": tags, "Layers": list(layers)}
        for (config, layers), tags in names.items()
    ]


def _entry(target: Descriptor) -> dict[str, object]:
    return {
        "mediaType": target.media_type,
        "digest": target.digest,
        "size": target.size,
        "annotations": dict(target.annotations),
    }
