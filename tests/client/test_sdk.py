"""The SDK against a real daemon: import, unpack, run, and everything left clean."""

import asyncio
import hashlib
import io
import signal

import pytest

from supervisor.client import running, stdio, unpacking
from supervisor.client.events import describe
from supervisor.client.importing import import_archive
from supervisor.client.leases import Resource
from supervisor.client.running import ContainerOptions
from supervisor.client.tasks import Status, Streams
from supervisor.errors import AlreadyExists, FailedPrecondition, NotFound
from tests.images import HOST, TAG, busybox_docker_tar, busybox_oci_tar

pytestmark = [pytest.mark.root, pytest.mark.compat]


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def empty(client):
    """Remove what a scenario stored, so that the namespace leaves no trace."""
    for container in await client.containers.list():
        await running.remove(client, container.id, force=True)
    for image in await client.images.list():
        await client.images.delete(image.name, sync=True)
    assert await client.leases.list() == []


def test_namespaces_have_labels_and_go_away(sdk):
    async def scenario(client):
        name = f"{client.namespace}-x"
        await client.namespaces.create(name, {"a": "b"})
        await client.namespaces.label(name, {"c": "d", "a": ""})
        assert (await client.namespaces.get(name)).labels == {"c": "d"}
        with pytest.raises(AlreadyExists):
            await client.namespaces.create(name)
        assert name in [namespace.name for namespace in await client.namespaces.list()]
        await client.namespaces.delete(name)
        with pytest.raises(NotFound):
            await client.namespaces.delete(name)

    sdk(scenario)


def test_a_write_that_broke_off_is_resumed(sdk):
    data = bytes(range(256)) * 12_000

    async def scenario(client):
        async with client.leased() as leased:
            async with leased.content.writer("ref", total=len(data)) as writer:
                await writer.write(data[:1_500_000])
            (status,) = await leased.content.ingests()
            assert (status.ref, status.offset, status.total) == ("ref", 1_500_000, len(data))
            new = await leased.content.put(
                "ref", io.BytesIO(data), size=len(data), digest=digest_of(data), labels={"a": "b"}
            )
            assert new
            pieces = [piece async for piece in leased.content.read(digest_of(data), offset=100)]
            assert b"".join(pieces) == data[100:]
            assert (await leased.content.info(digest_of(data))).labels == {"a": "b"}
            await leased.content.delete(digest_of(data))

    sdk(scenario)


def test_a_lease_keeps_what_is_made_under_it(sdk):
    async def scenario(client):
        async with client.leased() as leased:
            await leased.content.put("r", io.BytesIO(b"x"), size=1, digest=digest_of(b"x"))
            (lease,) = await client.leases.list()
            assert await client.leases.resources(lease.id) == [Resource(digest_of(b"x"), "content")]
            await client.content.delete(digest_of(b"x"))
        assert await client.leases.list() == []

    sdk(scenario)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "padding": False},
        {"multi_member": True, "padding": False},
        {"platforms": (HOST, "linux/s390x"), "compression": "none"},
    ],
)
def test_archives_are_imported_and_unpacked(sdk, tmp_path, options):
    path = busybox_oci_tar(tmp_path / "i.tar", **options)

    async def scenario(client):
        (image,) = await import_archive(client, path)
        assert image.name == TAG
        assert not await unpacking.is_unpacked(client, image)
        top = await unpacking.unpack(client, image)
        assert await unpacking.is_unpacked(client, image)
        labels = (await client.content.info(image.target.digest)).labels
        key = "containerd.io/gc.ref.content."
        assert {name.removeprefix(key) for name in labels if name.startswith(key)} == (
            {"m.0", "m.1"} if "platforms" in options else {"config", "l.0", "l.1"}
        )
        resolved = await unpacking.resolve(client, image)
        config = await client.content.info(resolved.config_digest)
        assert config.labels["containerd.io/gc.ref.snapshot.overlayfs"] == top
        snapshot = await client.snapshots().stat(top)
        assert snapshot.labels["containerd.io/snapshot/parent-chain-id"] == snapshot.parent
        again = []
        await import_archive(client, path, report=again.append)
        await unpacking.unpack(client, image, report=again.append)
        assert {step.what for step in again} == {"have"}
        await empty(client)

    sdk(scenario)


def test_a_docker_archive_is_imported_under_another_name(sdk, tmp_path):
    path = busybox_docker_tar(tmp_path / "d.tar")

    async def scenario(client):
        (image,) = await import_archive(client, path, name="mine")
        assert image.name == "docker.io/library/mine:latest"
        await unpacking.unpack(client, image)
        await empty(client)

    sdk(scenario)


def test_a_container_from_beginning_to_end(sdk, image_tar, tmp_path):
    async def scenario(client):
        topics = []

        async def listen(filters):
            async for envelope in client.events.subscribe(filters):
                topics.append((envelope.topic, describe(envelope.event).get("container_id")))

        listening = asyncio.create_task(listen([f"namespace=={client.namespace},topic~=^/tasks/"]))
        await import_archive(client, image_tar)
        script = "cat; echo err >&2; exit 3"
        container = await running.create_container(
            client, ContainerOptions("c1", TAG, command=["sh", "-c", script], env=["A=b"])
        )
        async with stdio.fifos(tmp_path / "fifo", stdin=True) as ends:
            mounts = await running.container_mounts(client, container)
            task = await client.tasks.create("c1", rootfs=mounts, streams=ends.streams)
            assert task.pid > 0
            assert (await task.state()).status is Status.CREATED
            waiting = asyncio.create_task(task.wait())
            assert await task.start() == task.pid
            assert task.pid in await task.pids()
            with pytest.raises(FailedPrecondition, match="running"):
                await running.remove(client, "c1")
            await ends.stdin.write(b"through")
            await ends.stdin.drained()
            ends.stdin.close()
            await task.close_stdin()
            assert (await waiting).code == 3
            assert await ends.stdout.read() == b"through"
            assert await ends.stderr.read() == b"err\n"
        assert (await task.wait()).code == 3
        (listed,) = await client.tasks.list()
        assert (listed.container_id, listed.exit.code) == ("c1", 3)
        assert (await task.delete()).code == 3
        await empty(client)
        listening.cancel()
        assert [topic for topic, name in topics if name == "c1"] == [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete",
        ]

    sdk(scenario)


def test_exec_kill_pause_and_force(sdk, image_tar, tmp_path):
    async def scenario(client):
        await import_archive(client, image_tar)
        container = await running.create_container(
            client, ContainerOptions("c2", TAG, command=["sleep", "1000"])
        )
        mounts = await running.container_mounts(client, container)
        task = await client.tasks.create("c2", rootfs=mounts, streams=Streams())
        await task.start()
        async with stdio.fifos(tmp_path / "fifo") as ends:
            spec = running.exec_process(container, ["sh", "-c", "echo $A; exit 9"], env=["A=seen"])
            added = await task.exec("e1", spec, ends.streams)
            await added.start()
            assert (await added.wait()).code == 9
            assert await ends.stdout.read() == b"seen\n"
            assert (await added.delete()).code == 9
        await task.pause()
        assert (await task.state()).status is Status.PAUSED
        await task.resume()
        stopped = await running.stop(client, "c2", timeout=0.2)
        assert stopped.code == 128 + signal.SIGKILL
        with pytest.raises(NotFound):
            await task.kill(signal.SIGTERM)
        await running.remove(client, "c2")
        with pytest.raises(NotFound):
            await client.containers.get("c2")
        await empty(client)

    sdk(scenario)


def test_a_container_that_cannot_be_made_leaves_nothing(sdk, image_tar):
    async def scenario(client):
        await import_archive(client, image_tar)
        with pytest.raises(NotFound, match="bob"):
            await running.create_container(client, ContainerOptions("c3", TAG, user="bob"))
        assert await client.containers.list() == []
        assert [s.name for s in await client.snapshots().list() if s.name == "c3"] == []
        with pytest.raises(NotFound, match="did you mean docker"):
            await running.create_container(client, ContainerOptions("c3", "busybox-tast"))
        await running.create_container(client, ContainerOptions("c3", TAG))
        with pytest.raises(AlreadyExists, match="another name"):
            await running.create_container(client, ContainerOptions("c3", TAG))
        await empty(client)

    sdk(scenario)
