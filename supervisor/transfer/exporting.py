"""Exporting images as an archive that both containerd and Docker load (containerd: core/images/archive).

An OCI layout in a tar: `oci-layout`, `index.json`, `blobs/`; and `manifest.json` for `docker load`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from supervisor.errors import InvalidArgument, NotFound
from supervisor.model.descriptor import Descriptor
from supervisor.model.image import Image
from supervisor.model.platform import Platform
from supervisor.oci import image as documents
from supervisor.oci import platform as platforms
from supervisor.oci.archive import NAME_ANNOTATION, REF_ANNOTATION
from supervisor.oci.image import Index, Manifest
from supervisor.transfer import walking
from supervisor.transfer.progress import Progress, Report
from supervisor.transfer.stores import Scope
from supervisor.transfer.walking import Wanted

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
    # Docker, and others that read a stream from its start, want the layout's file first.
    with tarfile.open(fileobj=cast("io.BytesIO", sink), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        writer = _Writer(scope, tar, asked, report)
        writer.document("oci-layout", _LAYOUT)
        entries = [writer.image(image) for image in images]
        writer.finish(entries)
    report(Progress("Completed export"))


@dataclass(slots=True)
class _Writer:
    scope: Scope
    tar: tarfile.TarFile
    asked: Export
    report: Report
    written: set[str] = field(default_factory=set)
    docker: dict[str, dict[str, object]] = field(default_factory=dict)

    def image(self, image: Image) -> dict[str, object]:
        """Write all of an image; its entry in the archive's index."""
        self._target(image.target, image.name, depth=0)
        self.report(Progress("exported", image.name, descriptor=image.target))
        target = replace(image.target, annotations={**image.target.annotations, **_names(image.name)})
        return _entry(target)

    def document(self, name: str, value: object) -> None:
        """Write a file of JSON."""
        self._file(name, json.dumps(value).encode())

    def finish(self, entries: Sequence[dict[str, object]]) -> None:
        """Write what names the images."""
        if self.asked.docker and self.docker:
            self.document("manifest.json", list(self.docker.values()))
        self.document(
            "index.json", {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": list(entries)}
        )

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
        if isinstance(parsed, Manifest) and self._is_for_docker(parsed):
            self._describe(parsed, name)

    def _children(self, parsed: Index | Manifest) -> list[Descriptor]:
        if isinstance(parsed, Index):
            return [entry.descriptor for entry in self.asked.wanted.of(parsed)]
        layers = parsed.layers
        if not self.asked.non_distributable:
            layers = tuple(layer for layer in layers if "nondistributable" not in layer.media_type)
        return [parsed.config, *layers]

    def _is_for_docker(self, manifest: Manifest) -> bool:
        """Docker loads one image a name: the one that the host runs, or else the first."""
        return manifest.config.media_type in documents.CONFIG_TYPES

    def _describe(self, manifest: Manifest, name: str) -> None:
        config = documents.parse_config(self.scope.document(manifest.config))
        runs_here = platforms.rank(config.platform, platforms.host()) == 0
        if name in self.docker and not runs_here:
            return
        self.docker[name] = {
            "Config": _path(manifest.config),
            "RepoTags": [name] if "@" not in name else [],
            "Layers": [_path(layer) for layer in manifest.layers],
        }

    def _blob(self, blob: Descriptor) -> None:
        if blob.digest in self.written:
            return
        self.written.add(blob.digest)
        try:
            opened = self.scope.open(blob.digest)
        except NotFound as error:
            raise NotFound(f"export: {error}; pull the image again, with all of its content") from error
        with opened:
            self.tar.addfile(_member(_path(blob), blob.size), opened)

    def _add(self, target: Descriptor, data: bytes) -> None:
        if target.digest not in self.written:
            self.written.add(target.digest)
            self._file(_path(target), data)

    def _file(self, name: str, data: bytes) -> None:
        self.tar.addfile(_member(name, len(data)), io.BytesIO(data))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    return member


def _path(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/', 1)}"


def _names(name: str) -> dict[str, str]:
    """How an archive says what an image is called: in full, and by its tag."""
    tag = name.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return {NAME_ANNOTATION: name, **({REF_ANNOTATION: tag} if tag else {})}


def _entry(target: Descriptor) -> dict[str, object]:
    return {
        "mediaType": target.media_type,
        "digest": target.digest,
        "size": target.size,
        "annotations": dict(target.annotations),
    }
