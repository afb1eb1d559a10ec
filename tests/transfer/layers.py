"""Images whose layers can be unpacked and are large enough to be cut off in between."""

from __future__ import annotations

import io
import json
import random
import tarfile

from supervisor.oci import image
from tests.registry.images import Content, SmallImage, content

MIB = 1 << 20


def layer(name: str, size: int) -> Content:
    """A layer with one file of random bytes, the same for the same name."""
    data = random.Random(name).randbytes(size)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = size
        tar.addfile(member, io.BytesIO(data))
    return content(packed.getvalue(), image.OCI_LAYER)


def large_image(name: str, sizes: tuple[int, ...] = (3 * MIB, 2 * MIB, 3 * MIB)) -> SmallImage:
    """An image of uncompressed layers."""
    layers = tuple(layer(f"{name}-{number}", size) for number, size in enumerate(sizes))
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [one.descriptor.digest for one in layers]},
    }
    config = content(json.dumps(document).encode(), image.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": image.OCI_MANIFEST,
        "config": _as_json(config),
        "layers": [_as_json(one) for one in layers],
    }
    return SmallImage(content(json.dumps(manifest).encode(), image.OCI_MANIFEST), config, layers)


def _as_json(one: Content) -> dict[str, object]:
    blob = one.descriptor
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
