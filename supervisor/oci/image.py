"""Image documents: index, manifest and configuration (OCI image spec; containerd: core/images).

Docker's forms of the same documents are read alike. A document that could be taken for an index
and for a manifest is refused: two programs reading it could see two different images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from supervisor.errors import InvalidArgument, NotFound
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest, digest
from supervisor.model.platform import Platform
from supervisor.oci import document, platform
from supervisor.oci.document import Node

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"

INDEX_TYPES = frozenset((OCI_INDEX, DOCKER_INDEX))
MANIFEST_TYPES = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
CONFIG_TYPES = frozenset((OCI_CONFIG, DOCKER_CONFIG))

# The kernel stacks at most 500 overlay layers, so an image with more could never be run.
MAX_LAYERS = 500
MAX_INDEX_ENTRIES = 4096
MAX_HISTORY = 8192
MAX_URLS = 64
MAX_WORDS = 32768


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A manifest (or a further index) that an index points to, with the platform it is for."""

    descriptor: Descriptor
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """Several images, usually one per platform, under one digest."""

    media_type: str
    entries: tuple[IndexEntry, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about running it, and the digests of its uncompressed layers."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def command(self, arguments: Sequence[str] = ()) -> tuple[str, ...]:
        """The words to run: the entrypoint, then `arguments`, or the image's own when there are none."""
        words = (*self.entrypoint, *(arguments or self.cmd))
        if not words:
            raise InvalidArgument("the image names neither entrypoint nor command; say what to run")
        return words


def parse_index(data: bytes, media_type: str = "") -> Index:
    """Read an index or a Docker manifest list; `media_type` is what the descriptor pointing to it said."""
    root = document.parse(data, "image index")
    _refuse_ambiguous(root)
    found = _media_type(root, media_type, OCI_INDEX, INDEX_TYPES)
    entries = tuple(_entry(node) for node in root.child("manifests").items(MAX_INDEX_ENTRIES))
    return Index(found, entries, root.child("annotations").mapping())


def parse_manifest(data: bytes, media_type: str = "") -> Manifest:
    """Read an image manifest; `media_type` is what the descriptor pointing to it said."""
    root = document.parse(data, "image manifest")
    _refuse_ambiguous(root)
    found = _media_type(root, media_type, OCI_MANIFEST, MANIFEST_TYPES)
    if not root.has("config"):
        raise InvalidArgument("image manifest lacks a config; is it an index, or of Docker's schema 1?")
    layers = tuple(parse_descriptor(node) for node in root.child("layers").items(MAX_LAYERS))
    config = parse_descriptor(root.child("config"))
    return Manifest(found, config, layers, root.child("annotations").mapping())


def parse(data: bytes, media_type: str = "") -> Index | Manifest:
    """Read an index or a manifest, by `media_type`, or by what the document holds when that is empty."""
    kind = media_type or document.parse(data, "image document").child("mediaType").text()
    if not kind:
        kind = OCI_INDEX if document.parse(data, "image document").has("manifests") else OCI_MANIFEST
    if kind in INDEX_TYPES:
        return parse_index(data, media_type)
    if kind in MANIFEST_TYPES:
        return parse_manifest(data, media_type)
    raise InvalidArgument(f"media type {kind[:200]!r} is neither an image index nor an image manifest")


def parse_config(data: bytes) -> ImageConfig:
    """Read an image configuration."""
    root = document.parse(data, "image config")
    run = root.child("config")
    return ImageConfig(
        platform=platform.read(root) or platform.host(),
        diff_ids=tuple(digest(text) for text in root.child("rootfs").child("diff_ids").texts(MAX_LAYERS)),
        env=run.child("Env").texts(MAX_WORDS),
        entrypoint=run.child("Entrypoint").texts(MAX_WORDS),
        cmd=run.child("Cmd").texts(MAX_WORDS),
        user=run.child("User").text(),
        working_dir=run.child("WorkingDir").text(),
        stop_signal=run.child("StopSignal").text(),
        volumes=tuple(run.child("Volumes").members()),
        exposed_ports=tuple(run.child("ExposedPorts").members()),
        labels=run.child("Labels").mapping(),
        created=root.child("created").text(),
    )


def parse_descriptor(node: Node) -> Descriptor:
    """Read a descriptor; raises InvalidArgument when its digest or size cannot be."""
    size = node.child("size").number(-1)
    if not 0 <= size < 1 << 63:
        raise InvalidArgument(f"{node.path}.size must be given and lie between 0 and 2^63-1")
    return Descriptor(
        media_type=node.child("mediaType").text(),
        digest=digest(node.child("digest").text()),
        size=size,
        annotations=node.child("annotations").mapping(),
        urls=node.child("urls").texts(MAX_URLS),
    )


def choose(index: Index, wanted: Platform) -> IndexEntry:
    """The entry that suits `wanted` best, the first of several; raises NotFound naming what is there."""
    ranked = [
        (rank, place)
        for place, entry in enumerate(index.entries)
        if (rank := platform.rank(entry.platform, wanted)) is not None and not _is_attestation(entry)
    ]
    if not ranked:
        offered = ", ".join(str(entry.platform) for entry in index.entries[:20]) or "nothing"
        raise NotFound(f"no image for {wanted} in the index; it offers {offered}")
    return index.entries[min(ranked)[1]]


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain id up to each layer (OCI image spec, config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        joined = f"{chain[-1]} {diff_id}".encode() if chain else b""
        chain.append(f"sha256:{hashlib.sha256(joined).hexdigest()}" if joined else diff_id)
    return tuple(chain)


def _is_attestation(entry: IndexEntry) -> bool:
    """Whether the entry is BuildKit's provenance of another entry, which is no image to run."""
    return "vnd.docker.reference.type" in entry.descriptor.annotations


def _entry(node: Node) -> IndexEntry:
    return IndexEntry(parse_descriptor(node), platform.read(node.child("platform")))


def _refuse_ambiguous(root: Node) -> None:
    """A document that is both index and manifest reads differently in different programs (CVE-2021-41190)."""
    manifest = [key for key in ("config", "layers") if root.has(key)]
    if root.has("manifests") and manifest:
        raise InvalidArgument(f"{root.path} has both manifests and {' and '.join(manifest)}: it is ambiguous")
    if root.has("fsLayers"):
        raise InvalidArgument(f"{root.path} is of Docker's schema 1, which is not supported: push it again")


def _media_type(root: Node, told: str, default: str, allowed: frozenset[str]) -> str:
    stated = root.child("mediaType").text()
    if told and stated and told != stated:
        raise InvalidArgument(f"{root.path} calls itself {stated[:99]!r}, its descriptor {told[:99]!r}")
    found = stated or told or default
    if found not in allowed:
        known = ", ".join(sorted(allowed))
        raise InvalidArgument(f"{root.path} has media type {found[:99]!r}; known here are {known}")
    return found
