"""What a call says beside its request: contract sections 1.1 to 1.3, over the services of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.containers.v1 import containers_pb2, containers_pb2_grpc
from supervisor.api.services.content.v1 import content_pb2, content_pb2_grpc
from supervisor.api.services.diff.v1 import diff_pb2, diff_pb2_grpc
from supervisor.api.services.events.v1 import events_pb2, events_pb2_grpc
from supervisor.api.services.images.v1 import images_pb2, images_pb2_grpc
from supervisor.api.services.introspection.v1 import introspection_pb2, introspection_pb2_grpc
from supervisor.api.services.leases.v1 import leases_pb2, leases_pb2_grpc
from supervisor.api.services.namespaces.v1 import namespace_pb2, namespace_pb2_grpc
from supervisor.api.services.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from supervisor.api.services.snapshots.v1 import snapshots_pb2, snapshots_pb2_grpc
from supervisor.api.services.version.v1 import version_pb2_grpc
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.api.types.event_pb2 import Envelope
from supervisor.content.local import LocalStore
from supervisor.events.exchange import Exchange
from supervisor.http2.server import Server
from supervisor.metadata import namespaces
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshots import Snapshots as SnapshotRecords
from supervisor.metadata.store import Store
from supervisor.model.identifiers import namespace
from supervisor.services.containers import Containers
from supervisor.services.content import Content
from supervisor.services.diff import Diff
from supervisor.services.events import Events
from supervisor.services.images import Images
from supervisor.services.introspection import Introspection
from supervisor.services.leases import Leases
from supervisor.services.namespaces import Namespaces
from supervisor.services.sandbox_store import SandboxStore
from supervisor.services.snapshots import Snapshots
from supervisor.services.version import Version
from supervisor.snapshots.native import NativeSnapshotter
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]
Made = Callable[[grpc.aio.Channel, Metadata], Awaitable[object]]

DIGEST = "sha256:" + "1" * 64
NAMESPACE = "containerd-namespace"
MALFORMED: Metadata = ((NAMESPACE, "a..b"),)
RUNTIME = containers_pb2.Container.Runtime(name="r")
CONTAINER = containers_pb2.Container(id="c", runtime=RUNTIME)
IMAGE = images_pb2.Image(name="i", target=Descriptor(media_type="m", digest=DIGEST, size=1))


@pytest_asyncio.fixture
async def channel(store: Store, serve: Serve, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A server with all services that need no shim."""
    content = ContentStore(store.database, LocalStore(tmp_path / "content"))
    snapshots = SnapshotRecords(store.database, [NativeSnapshotter(tmp_path / "native")])
    diff = Diff(content, tmp_path / "tmp", mounts=MountManager(store.database, tmp_path / "t", ()))
    exchange = Exchange(asyncio.get_running_loop())
    store.database.tell(exchange.tell)

    def register(server: Server) -> None:
        server.add(Containers(store))
        server.add(Content(content))
        server.add(diff)
        server.add(Events(store, exchange))
        server.add(Images(store))
        server.add(Introspection(tmp_path, []))
        server.add(Leases(store))
        server.add(Namespaces(store))
        server.add(SandboxStore(store))
        server.add(Snapshots(snapshots))
        server.add(Version("1"))

    yield await serve(register)
    exchange.close()


NEED_ONE: dict[str, Made] = {
    "containers.Get": lambda channel, metadata: containers_pb2_grpc.ContainersStub(channel).Get(
        containers_pb2.GetContainerRequest(id="c"), metadata=metadata
    ),
    "containers.Create": lambda channel, metadata: containers_pb2_grpc.ContainersStub(channel).Create(
        containers_pb2.CreateContainerRequest(container=CONTAINER), metadata=metadata
    ),
    "images.Create": lambda channel, metadata: images_pb2_grpc.ImagesStub(channel).Create(
        images_pb2.CreateImageRequest(image=IMAGE), metadata=metadata
    ),
    "images.List": lambda channel, metadata: images_pb2_grpc.ImagesStub(channel).List(
        images_pb2.ListImagesRequest(), metadata=metadata
    ),
    "content.Info": lambda channel, metadata: content_pb2_grpc.ContentStub(channel).Info(
        content_pb2.InfoRequest(digest=DIGEST), metadata=metadata
    ),
    "content.ListStatuses": lambda channel, metadata: content_pb2_grpc.ContentStub(channel).ListStatuses(
        content_pb2.ListStatusesRequest(), metadata=metadata
    ),
    "snapshots.Stat": lambda channel, metadata: snapshots_pb2_grpc.SnapshotsStub(channel).Stat(
        snapshots_pb2.StatSnapshotRequest(snapshotter="native", key="k"), metadata=metadata
    ),
    "snapshots.Prepare": lambda channel, metadata: snapshots_pb2_grpc.SnapshotsStub(channel).Prepare(
        snapshots_pb2.PrepareSnapshotRequest(snapshotter="native", key="k"), metadata=metadata
    ),
    "leases.Create": lambda channel, metadata: leases_pb2_grpc.LeasesStub(channel).Create(
        leases_pb2.CreateRequest(id="l"), metadata=metadata
    ),
    "diff.Apply": lambda channel, metadata: diff_pb2_grpc.DiffStub(channel).Apply(
        diff_pb2.ApplyRequest(diff=Descriptor(digest=DIGEST)), metadata=metadata
    ),
    "events.Publish": lambda channel, metadata: events_pb2_grpc.EventsStub(channel).Publish(
        events_pb2.PublishRequest(topic="/a"), metadata=metadata
    ),
    "sandboxes.List": lambda channel, metadata: sandbox_pb2_grpc.StoreStub(channel).List(
        sandbox_pb2.StoreListRequest(), metadata=metadata
    ),
}
IGNORE_IT: dict[str, Made] = {
    "namespaces.List": lambda channel, metadata: namespace_pb2_grpc.NamespacesStub(channel).List(
        namespace_pb2.ListNamespacesRequest(), metadata=metadata
    ),
    "version": lambda channel, metadata: version_pb2_grpc.VersionStub(channel).Version(
        Empty(), metadata=metadata
    ),
    "introspection.Plugins": lambda channel, metadata: introspection_pb2_grpc.IntrospectionStub(
        channel
    ).Plugins(introspection_pb2.PluginsRequest(), metadata=metadata),
    "introspection.Server": lambda channel, metadata: introspection_pb2_grpc.IntrospectionStub(
        channel
    ).Server(Empty(), metadata=metadata),
    "events.Forward": lambda channel, metadata: events_pb2_grpc.EventsStub(channel).Forward(
        events_pb2.ForwardRequest(envelope=Envelope(namespace="a", topic="/a")), metadata=metadata
    ),
}


@pytest.mark.parametrize("name", NEED_ONE)
async def test_a_namespace_is_needed_and_checked(channel: grpc.aio.Channel, store: Store, name: str) -> None:
    """1.2: absent or empty FAILED_PRECONDITION, malformed INVALID_ARGUMENT; nothing is written."""
    for absent in ((), ((NAMESPACE, ""),)):
        code, text = await refusal(NEED_ONE[name](channel, absent))
        assert (code, text) == ("FAILED_PRECONDITION", "namespace is required: failed precondition")
    code, text = await refusal(NEED_ONE[name](channel, MALFORMED))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("namespace validation: identifier")
    assert await store.read(namespaces.all_labels) == []


@pytest.mark.parametrize("name", IGNORE_IT)
async def test_some_do_not_read_the_header(channel: grpc.aio.Channel, name: str) -> None:
    """1.2: namespaces, version, introspection and Forward; a malformed one is no matter."""
    for metadata in ((), MALFORMED):
        await IGNORE_IT[name](channel, metadata)


async def test_subscribe_does_not_read_the_header_either(channel: grpc.aio.Channel, store: Store) -> None:
    """1.2, 10: events of all namespaces come, whatever the header says."""
    call = events_pb2_grpc.EventsStub(channel).Subscribe(events_pb2.SubscribeRequest(), metadata=MALFORMED)
    reading = asyncio.ensure_future(call.read())
    async with asyncio.timeout(10):
        while not reading.done():  # there is no message that says when the subscription stands
            await store.write(namespaces.update, namespace("green"), {})
            await asyncio.sleep(0.01)
    told = await reading
    assert (told.namespace, told.topic) == ("green", "/namespaces/update")
    call.cancel()


async def test_reading_an_unknown_namespace_finds_it_empty(channel: grpc.aio.Channel, store: Store) -> None:
    """1.2: its existence is never checked, and reading does not make it."""
    somewhere = ((NAMESPACE, "nobody-was-here"),)
    assert not (await NEED_ONE["images.List"](channel, somewhere)).images  # type: ignore[attr-defined]
    assert await store.read(namespaces.all_labels) == []


@pytest.mark.parametrize(
    "name", ["containers.Create", "leases.Create", "images.Create", "events.Publish", "sandboxes.List"]
)
@pytest.mark.parametrize("lease", ["unknown", ""])
async def test_calls_that_attach_nothing_ignore_the_lease(
    channel: grpc.aio.Channel, blue: Metadata, name: str, lease: str
) -> None:
    """1.3: valid or not; an image is attached only if it can expire."""
    await NEED_ONE[name](channel, (*blue, ("containerd-lease", lease)))


async def test_the_first_lease_wins(channel: grpc.aio.Channel, blue: Metadata) -> None:
    """1.3: of several values."""
    await NEED_ONE["leases.Create"](channel, blue)
    twice = (("containerd-lease", "l"), ("containerd-lease", "unknown"))
    code, _ = await refusal(NEED_ONE["snapshots.Prepare"](channel, (*blue, *twice[::-1])))
    assert code == "NOT_FOUND"
    await NEED_ONE["snapshots.Prepare"](channel, (*blue, *twice))


async def test_a_failed_write_does_not_make_the_namespace(channel: grpc.aio.Channel, store: Store) -> None:
    """1.1: an error rolls back everything, also that."""
    missing = snapshots_pb2.PrepareSnapshotRequest(snapshotter="native", key="k", parent="none")
    call = snapshots_pb2_grpc.SnapshotsStub(channel).Prepare(missing, metadata=((NAMESPACE, "green"),))
    assert (await refusal(call))[0] == "NOT_FOUND"
    assert await store.read(namespaces.all_labels) == []


async def test_cheap_checks_come_before_the_namespace(channel: grpc.aio.Channel) -> None:
    """1.2: a bad digest, an unknown snapshotter, no name of an image, no id of a container to update."""
    for call in (
        content_pb2_grpc.ContentStub(channel).Info(content_pb2.InfoRequest(digest="x")),
        snapshots_pb2_grpc.SnapshotsStub(channel).Stat(snapshots_pb2.StatSnapshotRequest(key="k")),
        images_pb2_grpc.ImagesStub(channel).Create(images_pb2.CreateImageRequest(image=images_pb2.Image())),
        containers_pb2_grpc.ContainersStub(channel).Update(
            containers_pb2.UpdateContainerRequest(container=containers_pb2.Container())
        ),
    ):
        assert (await refusal(call))[0] == "INVALID_ARGUMENT"
    # All else comes after it: the id of a new container is looked at later.
    bad = containers_pb2.CreateContainerRequest(container=containers_pb2.Container(id="a..b"))
    code, _ = await refusal(containers_pb2_grpc.ContainersStub(channel).Create(bad))
    assert code == "FAILED_PRECONDITION"


async def test_methods_nobody_has(channel: grpc.aio.Channel) -> None:
    """1.1: UNIMPLEMENTED for an unknown service or method; there is no reflection."""
    for path in (
        "/containerd.services.images.v1.Images/Rename",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ):
        call = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        assert (await refusal(call(b"")))[0] == "UNIMPLEMENTED"


async def test_a_status_is_never_too_large_for_its_header(channel: grpc.aio.Channel, blue: Metadata) -> None:
    """1.5: the right code comes through, and the end of the text, whatever the request names."""
    for name in ("x" * (3 << 20), "\u00e4" * 100_000):
        request = containers_pb2.GetContainerRequest(id=name)
        code, text = await refusal(containers_pb2_grpc.ContainersStub(channel).Get(request, metadata=blue))
        assert code == "NOT_FOUND"
        assert text.startswith(f'container "{name[:300]}')
        assert text.endswith('in namespace "blue": not found')
