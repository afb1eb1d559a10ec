"""Images compressed in another way: the same files, and other programs read them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.client.client import Client
from supervisor.client.transfers import Compression
from supervisor.client.unpacking import resolve, unpack
from supervisor.errors import InvalidArgument, NotFound
from supervisor.oci import image as documents
from tests.images import TAG

pytestmark = [pytest.mark.compat, pytest.mark.root]

Sdk = Callable[[Callable[[Client], Awaitable[Any]]], Any]
TYPES = {
    Compression.NONE: documents.OCI_LAYER,
    Compression.GZIP: documents.OCI_LAYER_GZIP,
    Compression.ZSTD: documents.OCI_LAYER_ZSTD,
}


async def imported(client: Client, tar: Path) -> None:
    with tar.open("rb") as file:
        await client.transfers.import_stream(file)


def test_each_compression_has_the_same_files(sdk: Sdk, image_tar: Path) -> None:
    """The configuration stays, so the chain of snapshots is one; and back again."""

    async def scenario(client: Client) -> None:
        await imported(client, image_tar)
        first = await resolve(client, await client.images.get(TAG))
        chain = await unpack(client, await client.images.get(TAG))
        name = TAG
        for compression in (Compression.ZSTD, Compression.NONE, Compression.GZIP):
            new = f"example.com/{compression.value}:1"
            target = await client.transfers.convert(name, new, compression)
            image = await client.images.get(new)
            assert image.target.digest == target.digest
            made = await resolve(client, image)
            assert {layer.media_type for layer in made.manifest.layers} == {TYPES[compression]}
            assert (made.config, made.config_digest) == (first.config, first.config_digest)
            assert await unpack(client, image) == chain
            name = new
        await client.images.delete(TAG, sync=True)
        await client.images.delete("example.com/none:1", sync=True)
        for layer in (await resolve(client, await client.images.get(name))).manifest.layers:
            await client.content.info(layer.digest)  # kept by the image that is left
        assert not await client.leases.list()

    sdk(scenario)


def test_other_programs_read_it(sdk: Sdk, image_tar: Path, tmp_path: Path) -> None:
    out = tmp_path / "zstd.tar"

    async def scenario(client: Client) -> None:
        await imported(client, image_tar)
        await client.transfers.convert(TAG, "example.com/zstd:1", Compression.ZSTD)
        with out.open("wb") as file:
            await client.transfers.export(["example.com/zstd:1"], file)

    sdk(scenario)
    target = f"oci:{tmp_path}/layout:1"
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{out}", target], check=True)
    said = subprocess.run(["skopeo", "inspect", "--raw", target], check=True, capture_output=True).stdout
    assert {layer["mediaType"] for layer in json.loads(said)["layers"]} == {documents.OCI_LAYER_ZSTD}


def test_what_cannot_be_converted(sdk: Sdk, image_tar: Path) -> None:
    async def scenario(client: Client) -> None:
        await imported(client, image_tar)
        with pytest.raises(NotFound, match='image "nothing"'):
            await client.transfers.convert("nothing", "example.com/x:1", Compression.ZSTD)
        with pytest.raises(InvalidArgument, match="what to call"):
            await client.transfers.convert(TAG, "", Compression.ZSTD)
        layer = (await resolve(client, await client.images.get(TAG))).manifest.layers[0]
        await client.content.delete(layer.digest)
        with pytest.raises(NotFound, match=layer.digest):
            await client.transfers.convert(TAG, "example.com/x:1", Compression.ZSTD)
        assert [image.name for image in await client.images.list()] == [TAG]
        assert not await client.content.ingests()

    sdk(scenario)
