"""Images moved by the daemon: pushed to and pulled from a registry, imported and exported."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.client.client import Client
from supervisor.client.transfers import Login, Progress, Registry
from supervisor.client.unpacking import is_unpacked
from supervisor.errors import (
    DataLoss,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
)
from tests.compat.conftest import a_target
from tests.registries import PASSWORD, USER, needs_registry
from tests.registries import Registry as Running
from tests.registry.images import push, reference, session, small_image

pytestmark = [pytest.mark.compat, pytest.mark.root]

Sdk = Callable[[Callable[[Client], Awaitable[Any]]], Any]


async def imported(client: Client, tar: Path, name: str = "example.com/busybox:1") -> str:
    """The ordinary image in the store, under that name; its digest."""
    with tar.open("rb") as file:
        await client.transfers.import_stream(file, name=name)
    return (await client.images.get(name)).target.digest


def test_an_archive_is_imported_and_unpacked_under_the_names_that_it_has(sdk: Sdk, image_tar: Path) -> None:
    async def scenario(client: Client) -> None:
        told: list[Progress] = []
        with image_tar.open("rb") as file:
            await client.transfers.import_stream(file, unpack="overlayfs", report=told.append)
        (image,) = await client.images.list()
        assert image.name == "docker.io/library/busybox-test:latest"
        assert await is_unpacked(client, image)
        events = [one.event for one in told]
        assert (events[0], events[-1]) == ("Importing", "Completed import")
        assert {"waiting", "complete", "extracting", "extracted", "saved"} <= set(events)

    sdk(scenario)


def test_what_is_exported_is_imported_again_and_other_programs_agree(
    sdk: Sdk, image_tar: Path, tmp_path: Path
) -> None:
    """skopeo reads both forms that one archive has: the OCI layout and Docker's."""
    out = tmp_path / "out.tar"

    async def scenario(client: Client) -> str:
        digest = await imported(client, image_tar)
        with out.open("wb") as file:
            await client.transfers.export(["example.com/busybox:1"], file)
        return digest

    digest = sdk(scenario)
    with tarfile.open(out) as tar:
        names = tar.getnames()
        assert names[0] == "oci-layout"
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert [one["digest"] for one in index["manifests"]] == [digest]
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "example.com/busybox:1"
    for transport in ("oci-archive", "docker-archive"):
        said = subprocess.run(
            ["skopeo", "inspect", "--config", f"{transport}:{out}"],
            capture_output=True,
            check=True,
            text=True,
        )
        assert json.loads(said.stdout)["os"] == "linux"

    async def again(client: Client) -> None:
        with out.open("rb") as file:
            await client.transfers.import_stream(file)
        assert (await client.images.get("example.com/busybox:1")).target.digest == digest

    sdk(again)


@needs_registry
def test_pushed_and_pulled(sdk: Sdk, image_tar: Path, registry: Running) -> None:
    """What was pushed is what is pulled; what the registry has is not sent twice."""
    place = f"{registry.host}/tests/busybox:1"

    async def pushed(client: Client) -> str:
        digest = await imported(client, image_tar)
        told: list[Progress] = []
        await client.transfers.push("example.com/busybox:1", place, report=told.append)
        assert "complete" in {one.event for one in told if one.name.startswith("layer-")}
        again: list[Progress] = []
        await client.transfers.push("example.com/busybox:1", place, report=again.append)
        assert {one.event for one in again if one.name.startswith(("layer-", "config-"))} == {
            "waiting",
            "already exists",
        }
        return digest

    digest = sdk(pushed)
    said = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{place}"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(said.stdout)["Digest"] == digest

    async def pull(client: Client) -> None:
        told: list[Progress] = []
        await client.transfers.pull(place, report=told.append)
        image = await client.images.get(place)
        assert image.target.digest == digest
        assert await is_unpacked(client, image)
        config = next(one.name.removeprefix("config-") for one in told if one.name.startswith("config-"))
        labels = (await client.content.info(config)).labels
        assert "containerd.io/gc.ref.snapshot.overlayfs" in labels
        assert labels["containerd.io/distribution.source.127.0.0.1"] == "tests/busybox"
        again: list[Progress] = []
        await client.transfers.pull(place, report=again.append)
        assert "downloading" not in {one.event for one in again}
        assert not await client.leases.list()

    sdk(pull)


@needs_registry
def test_a_registry_behind_a_login(sdk: Sdk, image_tar: Path, login_registry: Running) -> None:
    """The daemon asks the client, for the host that wants to know."""
    place, asked = f"{login_registry.host}/tests/secret:1", []

    async def login(host: str) -> Login:
        asked.append(host)
        return Login(USER, PASSWORD)

    async def scenario(client: Client) -> None:
        await imported(client, image_tar)
        with pytest.raises(Unauthenticated, match=login_registry.host):
            await client.transfers.push("example.com/busybox:1", place)
        await client.transfers.push("example.com/busybox:1", place, registry=Registry(login))
        with pytest.raises(Unauthenticated):
            await client.transfers.pull(place)
        await client.transfers.pull(place, registry=Registry(login))

    sdk(scenario)
    assert set(asked) == {login_registry.host}


@needs_registry
def test_errors_say_what_and_where(sdk: Sdk, registry: Running) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(NotFound, match=f"{registry.host}/tests/none:1"):
            await client.transfers.pull(f"{registry.host}/tests/none:1")
        with pytest.raises(NotFound, match=r'image "nothing"'):
            await client.transfers.push("nothing", f"{registry.host}/tests/none:1")
        assert not await client.images.list()
        assert not await client.leases.list()

    sdk(scenario)


@needs_registry
def test_a_bad_byte_becomes_no_blob(sdk: Sdk, registry: Running) -> None:
    """The registry's own file is damaged: the pull fails, and what is left of it is not resumed."""
    place, image = reference(registry.host, "damaged"), small_image((300_000,), seed=77)
    with session() as opened:
        push(opened, place, image)
    layer = image.layers[0].descriptor.digest
    file, good = registry.blob_file(layer), image.layers[0].data
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

    async def pull(client: Client) -> None:
        with pytest.raises(DataLoss, match=layer):
            await client.transfers.pull(str(place), unpack=None)
        assert layer not in [info.digest for info in await client.content.list()]
        assert not await client.images.list()
        file.write_bytes(good)
        await client.transfers.pull(str(place), unpack=None)
        assert (await client.content.info(layer)).size == len(good)

    sdk(pull)


def test_another_name(sdk: Sdk, image_tar: Path) -> None:
    async def scenario(client: Client) -> None:
        digest = await imported(client, image_tar)
        await client.transfers.tag("example.com/busybox:1", "example.com/other:2")
        assert (await client.images.get("example.com/other:2")).target.digest == digest

    sdk(scenario)


def test_streams_must_be_open(sdk: Sdk) -> None:
    """A transfer names streams of its namespace that somebody holds open."""
    from google.protobuf.empty_pb2 import Empty

    from supervisor.api.services.transfer.v1 import transfer_pb2
    from supervisor.api.types.transfer import imagestore_pb2, importexport_pb2
    from supervisor.client.transfers import _packed

    async def scenario(client: Client) -> None:
        async def transfer(source: Any, destination: Any) -> None:
            request = transfer_pb2.TransferRequest(source=_packed(source), destination=_packed(destination))
            await client._channel.call("containerd.services.transfer.v1.Transfer/Transfer", request, Empty)

        store = imagestore_pb2.ImageStore(name="x")
        with pytest.raises(NotFound, match='stream "nobody"'):
            await transfer(importexport_pb2.ImageImportStream(stream="nobody"), store)
        with pytest.raises(
            Unimplemented, match=r"ImageExportStream to containerd\.types\.transfer\.ImageStore"
        ):
            await transfer(importexport_pb2.ImageExportStream(stream="s"), store)
        with pytest.raises(Unimplemented, match=r"google\.protobuf\.Empty"):
            await transfer(Empty(), store)

    sdk(scenario)


@needs_registry
def test_a_verifier_blocks_a_pull(registry: Running, tmp_path: Path) -> None:
    """Its reason is in the error, and nothing was fetched."""
    verifier = tmp_path / "no"
    verifier.write_text("#!/bin/sh\necho not signed; exit 1\n")
    verifier.chmod(0o755)
    place = reference(registry.host, "unsigned")
    with session() as opened:
        push(opened, place, small_image(seed=5))

    async def pull(address: Path) -> None:
        async with Client(str(address)) as client:
            with pytest.raises(PermissionDenied, match="not signed"):
                await client.transfers.pull(str(place), unpack=None)
            assert not await client.content.list()

    with a_target(containerd=False, config=f'\n[transfer]\nverifiers = "{tmp_path}"\n') as target:
        asyncio.run(pull(target.address))
