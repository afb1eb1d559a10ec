"""Unpacking images into snapshots (containerd: core/unpack).

Each layer becomes a committed snapshot named by its chain id: the digest over all layers up to it.
So images share what they have in common, and a layer that is there is never unpacked again.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass

from supervisor.client.client import Client
from supervisor.client.images import Image
from supervisor.client.importing import Report, Step, silent
from supervisor.client.snapshots import DEFAULT_SNAPSHOTTER, Snapshots
from supervisor.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, Unavailable
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.model.mount import Mount
from supervisor.model.platform import Platform
from supervisor.oci import image as documents
from supervisor.oci import platform as platforms
from supervisor.oci.image import ImageConfig, Index, Manifest

_REF_LABEL = "containerd.io/snapshot.ref"
_DIFF_LABEL = "containerd.io/snapshot/diff-id"
_PARENT_LABEL = "containerd.io/snapshot/parent-chain-id"
UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
_ATTEMPTS = 3
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Resolved:
    """An image for one platform: its manifest and its configuration."""

    manifest: Manifest
    config: ImageConfig
    config_digest: Digest

    @property
    def chain(self) -> tuple[str, ...]:
        """The chain ids of the layers, the lowest first."""
        return documents.chain_ids(self.config.diff_ids)


async def resolve(client: Client, image: Image, platform: Platform | None = None) -> Resolved:
    """Read the manifest and configuration of `image` that suit `platform`, the host's by default."""
    target = image.target
    for _ in range(_MAX_DEPTH):
        parsed = documents.parse(await client.content.document(target.digest), target.media_type)
        if isinstance(parsed, Index):
            target = documents.choose(parsed, platform or platforms.host()).descriptor
            continue
        config = documents.parse_config(await client.content.document(parsed.config.digest))
        if len(config.diff_ids) != len(parsed.layers):
            raise InvalidArgument(
                f"image {image.name}: {len(parsed.layers)} layers, {len(config.diff_ids)} diff ids"
            )
        return Resolved(parsed, config, parsed.config.digest)
    raise InvalidArgument(f"image {image.name}: indexes nested more than {_MAX_DEPTH} deep")


async def unpack(
    client: Client,
    image: Image,
    *,
    snapshotter: str = DEFAULT_SNAPSHOTTER,
    platform: Platform | None = None,
    report: Report = silent,
) -> str:
    """Unpack the layers that are not there yet; returns the snapshot that a container of it starts from."""
    resolved = await resolve(client, image, platform)
    async with client.leased() as leased:
        snapshots = leased.snapshots(snapshotter)
        parent = ""
        pairs = zip(resolved.manifest.layers, resolved.config.diff_ids, resolved.chain, strict=True)
        for layer, diff_id, chain_id in pairs:
            new = await _unpack_layer(leased, snapshots, layer, diff_id, parent, chain_id)
            report(Step("unpacked" if new else "have", layer.digest, layer.size))
            parent = chain_id
        if parent:
            label = f"containerd.io/gc.ref.snapshot.{snapshotter}"
            await leased.content.label(resolved.config_digest, {label: parent})
    return parent


async def is_unpacked(client: Client, image: Image, snapshotter: str = DEFAULT_SNAPSHOTTER) -> bool:
    """Whether the snapshot that a container of the image starts from is there."""
    chain = (await resolve(client, image)).chain
    if not chain:
        return True
    try:
        await client.snapshots(snapshotter).stat(chain[-1])
    except NotFound:
        return False
    return True


async def _unpack_layer(
    client: Client, snapshots: Snapshots, layer: Descriptor, diff_id: str, parent: str, chain_id: str
) -> bool:
    labels = {_REF_LABEL: chain_id, _DIFF_LABEL: diff_id}
    if parent:
        labels[_PARENT_LABEL] = parent
    for _ in range(_ATTEMPTS):
        # The name of what is being extracted carries time and chance: several clients may be at it.
        key = f"extract-{time.time_ns() % 1_000_000_000}-{secrets.token_urlsafe(3)} {chain_id}"
        try:
            mounts = await snapshots.prepare(key, parent, labels)
        except AlreadyExists:
            with suppress(NotFound):
                await snapshots.stat(chain_id)
                return False
            continue
        try:
            await _apply(client, layer, diff_id, mounts)
            return await _commit(snapshots, chain_id, key, labels)
        except BaseException:
            with suppress(NotFound):
                await snapshots.remove(key)
            raise
    raise Unavailable(f"unpack layer {layer.digest}: snapshot {chain_id} comes and goes; try again")


async def _apply(client: Client, layer: Descriptor, diff_id: str, mounts: tuple[Mount, ...]) -> None:
    applied = await client.diffs.apply(layer, mounts)
    if applied.digest != diff_id:
        raise DataLoss(f"layer {layer.digest} unpacks to {applied.digest}, the image promises {diff_id}")
    await client.content.label(layer.digest, {UNCOMPRESSED_LABEL: applied.digest})


async def _commit(snapshots: Snapshots, chain_id: str, key: str, labels: dict[str, str]) -> bool:
    try:
        await snapshots.commit(chain_id, key, labels)
    except AlreadyExists:  # another client was faster; its snapshot is as good
        await snapshots.remove(key)
        return False
    return True
