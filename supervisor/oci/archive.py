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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO, cast

from supervisor.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted
from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.oci import document, image

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
    """An image in an archive; `name` in full, or only `tag`, are empty when the archive does not say."""

    name: str
    target: Descriptor
    tag: str = ""


class Archive:
    """An open archive: the images in it, and their blobs by digest."""

    def __init__(self, tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> None:
        self._tar = tar
        self._members = members
        self._made: dict[Digest, bytes] = {}
        self._places: dict[Digest, str] = {}
        self.images: tuple[NamedTarget, ...] = self._read_images()

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

    def _read_images(self) -> tuple[NamedTarget, ...]:
        # Newer `docker save` writes both; the layout says more.
        if _INDEX_FILE in self._members and _LAYOUT_FILE in self._members:
            index = image.parse_index(self._file(_INDEX_FILE))
            return tuple(
                NamedTarget(_oci_name(e.descriptor), _bare(e.descriptor), _oci_tag(e.descriptor))
                for e in index.entries
            )
        if _DOCKER_FILE in self._members:
            return tuple(self._docker_images())
        raise InvalidArgument(
            f"no image archive: it has neither {_LAYOUT_FILE} and {_INDEX_FILE} nor {_DOCKER_FILE}"
        )

    def _docker_images(self) -> Iterator[NamedTarget]:
        listed = document.parse(b'{"images":' + self._file(_DOCKER_FILE) + b"}", _DOCKER_FILE).child("images")
        for entry in listed.items(MAX_MEMBERS):
            layers = [self._docker_layer(name) for name in entry.child("Layers").texts(image.MAX_LAYERS)]
            target = self._docker_manifest(entry.child("Config").text(), layers)
            for name in entry.child("RepoTags").texts(MAX_MEMBERS) or ("",):
                yield NamedTarget(name, target)

    def _docker_manifest(self, config_name: str, layers: Sequence[Descriptor]) -> Descriptor:
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
        made = json.dumps(manifest).encode()
        target = Descriptor(image.DOCKER_MANIFEST, digests.of_bytes(made), len(made))
        self._made[target.digest] = made
        return target

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


def _oci_name(target: Descriptor) -> str:
    """The name an archive gives an image; a reference that is a bare tag names nothing."""
    reference = target.annotations.get(REF_ANNOTATION, "")
    full = reference if "/" in reference or ":" in reference else ""
    return target.annotations.get(NAME_ANNOTATION) or full


def _oci_tag(target: Descriptor) -> str:
    reference = target.annotations.get(REF_ANNOTATION, "")
    return "" if "/" in reference or ":" in reference else reference


def _bare(target: Descriptor) -> Descriptor:
    """The descriptor without annotations: names belong to the archive, not to the image record."""
    return replace(target, annotations={})


def _as_json(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
