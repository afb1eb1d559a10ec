"""Images made of random bytes, and what to do with them in a registry."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.oci import image, references
from supervisor.oci.references import Reference
from supervisor.registry.fetcher import Fetcher
from supervisor.registry.hosts import Hosts
from supervisor.registry.pusher import Outcome, Pusher
from supervisor.registry.session import Session
from supervisor.registry.settings import RegistrySettings

MIB = 1 << 20
QUICK = RegistrySettings(backoff=0.01, backoff_limit=0.02, stall_window=5.0, total=60.0)
"""For tests: errors come soon."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes and the descriptor of them."""

    descriptor: Descriptor
    data: bytes = field(repr=False)

    def opened(self, offset: int) -> BinaryIO:
        """The bytes from `offset` on, as a pusher wants them."""
        file = io.BytesIO(self.data)
        file.seek(offset)
        return file


@dataclass(frozen=True, slots=True)
class SmallImage:
    """A manifest with its config and layers."""

    manifest: Content
    config: Content
    layers: tuple[Content, ...]

    @property
    def blobs(self) -> tuple[Content, ...]:
        return (*self.layers, self.config)


def content(data: bytes, media_type: str = image.OCI_LAYER) -> Content:
    return Content(Descriptor(media_type, digests.of_bytes(data), len(data)), data)


def random_layer(size: int, seed: int = 1) -> Content:
    """A layer of bytes that nobody compresses, the same for the same seed."""
    return content(random.Random(seed).randbytes(size))


def small_image(sizes: Sequence[int] = (1000, 70_000), seed: int = 1) -> SmallImage:
    layers = tuple(random_layer(size, seed + place) for place, size in enumerate(sizes))
    config = content(b'{"architecture":"amd64","os":"linux"}', image.OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": image.OCI_MANIFEST,
        "config": _as_json(config.descriptor),
        "layers": [_as_json(layer.descriptor) for layer in layers],
    }
    return SmallImage(content(json.dumps(document).encode(), image.OCI_MANIFEST), config, layers)


def _as_json(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def push(session: Session, reference: Reference, one: SmallImage) -> list[Outcome]:
    """Push all of an image, the manifest by its tag."""
    pusher = Pusher(session, reference)
    done = [pusher.push(blob.descriptor, blob.opened) for blob in one.blobs]
    return [*done, pusher.push(one.manifest.descriptor, one.manifest.opened, tag=reference.tag)]


def fetch(
    session: Session,
    reference: Reference,
    descriptor: Descriptor,
    on_bytes: Callable[[int], object] | None = None,
) -> bytes:
    pieces: list[bytes] = []
    Fetcher(session, reference).fetch_into(descriptor, pieces.append, on_bytes=on_bytes)
    return b"".join(pieces)


def reference(host: str, repository: str = "tests/app", tag: str = "1") -> Reference:
    return references.parse(f"{host}/{repository}:{tag}")


def session(settings: RegistrySettings = QUICK, **more: object) -> Session:
    """A session without configuration of hosts."""
    hosts = more.pop("hosts", None)
    assert hosts is None or isinstance(hosts, Hosts)
    return Session(hosts or Hosts(), settings=settings, **more)  # type: ignore[arg-type]
