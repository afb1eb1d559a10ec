"""Image archives: OCI layouts and what `docker save` writes, as tar files (containerd: core/images/archive).

Nothing is ever unpacked here: members are read in place, by name.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from supervisor.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted
from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.platform import Platform
from supervisor.oci import document, image, platform, references

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"

MAX_MEMBERS = 100_000
_LAYOUT_FILE = "oci-layout"
_INDEX_FILE = "index.json"
_DOCKER_FILE = "manifest.json"
_GZIP_MAGIC = b"\x1f\x8b"
_HASH_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """An image in an archive; `name` in full, or only `tag`, are empty when the archive does not say.

    The annotations of `target` are those that the archive's index gives it, its names among them.
    """

    name: str
    target: Descriptor
    tag: str = ""


class Archive:
    """An open archive: the index of it, the images that it lists, and their blobs by digest."""

    def __init__(self, tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> None:
        self._tar = tar
        self._members = members
        self._made: dict[Digest, bytes] = {}
        self._places: dict[Digest, str] = {}
        self.index, self.images = self._read_index()

    def has(self, digest: Digest) -> bool:
        """Whether the archive holds the blob; an index may name platforms that were left out."""
        return digest in self._made or self._place(digest) in self._members

    def document(self, target: Descriptor) -> bytes:
        """A small blob as a whole, checked against its digest."""
        data = self._made.get(target.digest) or self._file(self._place(target.digest))
        algorithm, _ = digests.split(target.digest)
        if digests.of_bytes(data, algorithm) != target.digest:
            raise DataLoss(f"the archive's blob {target.digest} is damaged: its bytes have another digest")
        return data

    def open(self, digest: Digest) -> BinaryIO:
        """A blob to read and to seek in."""
        if digest in self._made:
            return io.BytesIO(self._made[digest])
        return self._open(self._place(digest))

    def _place(self, digest: Digest) -> str:
        return self._places.get(digest) or f"blobs/{digest.replace(':', '/', 1)}"

    def _open(self, name: str) -> BinaryIO:
        try:
            opened = self._tar.extractfile(self._members[name])
        except KeyError:
            raise NotFound(f"the archive has no member {name!r}") from None
        if opened is None:
            raise InvalidArgument(f"the archive's member {name!r} is not a regular file")
        return cast(BinaryIO, opened)

    def _file(self, name: str) -> bytes:
        with self._open(name) as opened:
            data = opened.read(document.MAX_DOCUMENT_BYTES + 1)
        if len(data) > document.MAX_DOCUMENT_BYTES:
            raise ResourceExhausted(
                f"the archive's {name!r} has more than {document.MAX_DOCUMENT_BYTES} bytes"
            )
        return data

    def _read_index(self) -> tuple[Descriptor, tuple[NamedTarget, ...]]:
        # Newer `docker save` writes both; the layout says more.
        if _INDEX_FILE in self._members and _LAYOUT_FILE in self._members:
            data = self._file(_INDEX_FILE)
        elif _DOCKER_FILE in self._members:
            data = _document({"schemaVersion": 2, "manifests": list(self._docker_images())})
        else:
            raise InvalidArgument(
                f"no image archive: it has neither {_LAYOUT_FILE} and {_INDEX_FILE} nor {_DOCKER_FILE}"
            )
        parsed = image.parse_index(data)
        entries = (entry.descriptor for entry in parsed.entries)
        return self._make(parsed.media_type, data), tuple(map(_named, entries))

    def _docker_images(self) -> Iterator[Mapping[str, object]]:
        """The entries of the index that containerd makes of Docker's list, to the byte."""
        listed = document.parse(b'{"images":' + self._file(_DOCKER_FILE) + b"}", _DOCKER_FILE).child("images")
        for entry in listed.items(MAX_MEMBERS):
            layers = [self._docker_layer(name) for name in entry.child("Layers").texts(image.MAX_LAYERS)]
            target, runs_on = self._docker_manifest(entry.child("Config").text(), layers)
            for tag in entry.child("RepoTags").texts(MAX_MEMBERS) or ("",):
                names = {"annotations": name_annotations(references.normal(tag))} if tag else {}
                yield {**_as_json(target), **names, **runs_on}

    def _docker_manifest(
        self, config_name: str, layers: Sequence[Descriptor]
    ) -> tuple[Descriptor, Mapping[str, object]]:
        """A manifest for the image, and what an index says of where it runs."""
        data = self._file(config_name)
        config = self._register(
            Descriptor(image.DOCKER_CONFIG, digests.of_bytes(data), len(data)), config_name
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": image.DOCKER_MANIFEST,
            "config": _as_json(config),
            "layers": [_as_json(layer) for layer in layers],
        }
        runs_on = platform.read(document.parse(data, config_name))
        return self._make(image.DOCKER_MANIFEST, _document(manifest)), _platform(runs_on)

    def _make(self, media_type: str, data: bytes) -> Descriptor:
        made = Descriptor(media_type, digests.of_bytes(data), len(data))
        self._made[made.digest] = data
        return made

    def _docker_layer(self, name: str) -> Descriptor:
        """A layer's descriptor. Its digest must be computed: old archives name layers by other ids."""
        with self._open(name) as opened:
            head = opened.read(len(_GZIP_MAGIC))
            opened.seek(0)
            running, size = hashlib.sha256(), 0
            while piece := opened.read(_HASH_PIECE):
                running.update(piece)
                size += len(piece)
        media_type = image.DOCKER_LAYER_GZIP if head == _GZIP_MAGIC else image.DOCKER_LAYER
        return self._register(Descriptor(media_type, digests.from_hash(running), size), name)

    def _register(self, blob: Descriptor, name: str) -> Descriptor:
        self._places[blob.digest] = name
        return blob


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an image archive, a tar file that may be compressed; raises NotFound and InvalidArgument."""
    try:
        with open(path, "rb") as file, of_file(file, str(path)) as archive:
            yield archive
    except FileNotFoundError:
        raise NotFound(f"open image archive {path}: no such file") from None


@contextmanager
def of_file(file: IO[bytes], what: str = "") -> Iterator[Archive]:
    """The image archive in a file that can seek; raises InvalidArgument."""
    try:
        with tarfile.open(fileobj=file, mode="r:*") as tar:
            yield Archive(tar, _members(tar))
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArgument(f"read image archive {what}: {error}") from error


def _members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(tar):
        if count >= MAX_MEMBERS:
            raise ResourceExhausted(f"the archive has more than {MAX_MEMBERS} members")
        members[member.name.removeprefix("./")] = member
    return members


def name_annotations(name: str) -> dict[str, str]:
    """How an index says what an image is called: in full, and by its tag (containerd: addNameAnnotation)."""
    tag = name.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return {NAME_ANNOTATION: name, REF_ANNOTATION: tag or name}


def _named(target: Descriptor) -> NamedTarget:
    """An image as the index names it; a reference that is a bare tag names nothing."""
    reference = target.annotations.get(REF_ANNOTATION, "")
    full = target.annotations.get(NAME_ANNOTATION, "")
    if any(mark in reference for mark in "/:@"):
        return NamedTarget(full or reference, target)
    return NamedTarget(full, target, reference)


def _document(value: Mapping[str, object]) -> bytes:
    """JSON as Go writes it, so that digests agree with containerd's."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _as_json(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _platform(known: Platform | None) -> Mapping[str, object]:
    if known is None:
        return {}
    variant = {"variant": known.variant} if known.variant else {}
    return {"platform": {"architecture": known.architecture, "os": known.os, **variant}}
