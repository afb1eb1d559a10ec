"""Collection over gRPC: `sync` (contract 5, 8, 11.4), the schedule at work, and our own Collector service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from supervisor.api.services.images.v1 import images_pb2, images_pb2_grpc
from supervisor.api.services.leases.v1 import leases_pb2, leases_pb2_grpc
from supervisor.api.services.supervisor import gc_pb2 as pb
from supervisor.api.services.supervisor import gc_pb2_grpc as rpc
from supervisor.errors import SupervisorError
from supervisor.gc.schedule import Settings
from supervisor.http2.server import Server
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.store import Store
from supervisor.model.identifiers import Namespace
from supervisor.services.gc import Collector
from supervisor.services.images import Images
from supervisor.services.leases import Leases
from supervisor.services.scheduler import Scheduler
from tests.gc.world import World, digest
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    return World(store.database, tmp_path)


@pytest_asyncio.fixture
async def scheduler(world: World) -> AsyncIterator[Scheduler]:
    """It collects only when something was deleted, or when asked."""
    settings = Settings(startup_delay=0, mutation_threshold=0)
    async with Scheduler(world.collector, world.database, settings) as made:
        yield made


@pytest_asyncio.fixture
async def channel(store: Store, scheduler: Scheduler, serve: Serve) -> grpc.aio.Channel:
    def register(server: Server) -> None:
        server.add(Collector(scheduler))
        server.add(Images(store, scheduler))
        server.add(Leases(store, scheduler))

    return await serve(register)


def an_image(world: World, name: str = "i") -> None:
    world.blob("layer")
    world.snapshot("s", committed=True)
    world.blob("manifest", {"ref.content.l.0": digest("layer"), "ref.snapshot.native": "s"})
    world.image(name, "manifest")


async def test_sync_delete_of_an_image_waits_for_the_files(
    world: World, channel: grpc.aio.Channel, blue: Metadata
) -> None:
    an_image(world)
    stub = images_pb2_grpc.ImagesStub(channel)
    await stub.Delete(images_pb2.DeleteImageRequest(name="i", sync=True), metadata=blue)
    assert world.names() == set()
    assert list(world.files.blobs()) == []
    assert world.driver.numbers() == set()
    assert not list((Path(world.driver.root) / "trash").glob("*"))


async def test_sync_delete_of_a_lease_waits_for_the_files(
    world: World, channel: grpc.aio.Channel, blue: Metadata
) -> None:
    world.lease("l")
    world.blob("b", lease="l")
    world.ingest("w", lease="l")
    stub = leases_pb2_grpc.LeasesStub(channel)
    await stub.Delete(leases_pb2.DeleteRequest(id="l", sync=True), metadata=blue)
    assert world.names() == set()
    assert list(world.files.blobs()) == list(world.files.ingests()) == []


async def test_a_failed_run_fails_the_call_and_not_the_deletion(
    world: World, channel: grpc.aio.Channel, blue: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_image(world)

    def fail() -> None:
        raise SupervisorError("no")

    monkeypatch.setattr(world.collector, "run", fail)
    stub = images_pb2_grpc.ImagesStub(channel)
    call = stub.Delete(images_pb2.DeleteImageRequest(name="i", sync=True), metadata=blue)
    assert await refusal(call) == ("UNKNOWN", "gc failed")
    assert "i" not in world.names()
    monkeypatch.undo()
    await rpc.CollectorStub(channel).Run(pb.RunRequest(), metadata=blue)
    assert world.names() == set()


async def test_a_client_that_gives_up_does_not_end_the_run(
    world: World, channel: grpc.aio.Channel, blue: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_image(world)
    real, held = world.collector.run, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow() -> object:
        asyncio.run_coroutine_threadsafe(held.wait(), loop).result()
        return real()

    monkeypatch.setattr(world.collector, "run", slow)
    stub = images_pb2_grpc.ImagesStub(channel)
    request = images_pb2.DeleteImageRequest(name="i", sync=True)
    assert (await refusal(stub.Delete(request, metadata=blue, timeout=0.2)))[0] == "DEADLINE_EXCEEDED"
    held.set()
    await rpc.CollectorStub(channel).Run(pb.RunRequest(), metadata=blue)
    assert world.names() == set()


async def gone(world: World, *names: str) -> None:
    async with asyncio.timeout(20):
        while world.names() & set(names):  # noqa: ASYNC110 (another thread ends it)
            await asyncio.sleep(0.02)


async def test_an_unreferenced_blob_survives_until_something_is_deleted(
    world: World, channel: grpc.aio.Channel, blue: Metadata
) -> None:
    """Contract 11.4, consequence: both halves."""
    world.blob("b")
    world.lease("l")
    await asyncio.sleep(0.6)
    assert digest("b") in world.names()
    stub = leases_pb2_grpc.LeasesStub(channel)
    await stub.Delete(leases_pb2.DeleteRequest(id="l"), metadata=blue)
    await gone(world, digest("b"))


async def test_enough_changes_collect_too(world: World) -> None:
    settings = Settings(startup_delay=0, mutation_threshold=20)
    async with Scheduler(world.collector, world.database, settings):
        world.blob("b")
        for number in range(20):
            world.lease(str(number))
        await gone(world, digest("b"))


async def test_the_first_run_needs_no_reason(world: World) -> None:
    world.blob("b")
    async with Scheduler(world.collector, world.database, Settings(startup_delay=0.01, mutation_threshold=0)):
        await gone(world, digest("b"))


async def test_ended_schedulers_let_nobody_wait(world: World) -> None:
    async with Scheduler(world.collector, world.database, Settings(schedule_delay=600)) as scheduler:
        waiting = asyncio.ensure_future(scheduler.collect())
        await asyncio.sleep(0)
    with pytest.raises(SupervisorError, match="gc failed"):
        await waiting


async def test_explain(world: World, channel: grpc.aio.Channel, blue: Metadata) -> None:
    an_image(world)
    stub = rpc.CollectorStub(channel)
    answer = await stub.Explain(pb.ExplainRequest(type="content", key=digest("layer")), metadata=blue)
    assert answer.reachable
    assert [(hop.type, hop.key, hop.reason) for hop in answer.hops] == [
        ("image", "i", "an image that does not expire, or not yet"),
        ("content", digest("manifest"), "what the image stands for"),
        ("content", digest("layer"), "label containerd.io/gc.ref.content.l.0"),
    ]
    snapshot = await stub.Explain(pb.ExplainRequest(type="snapshots/native", key="s"), metadata=blue)
    assert snapshot.hops[-1].reason == "label containerd.io/gc.ref.snapshot.native"
    world.blob("lonely")
    lonely = await stub.Explain(pb.ExplainRequest(type="content", key=digest("lonely")), metadata=blue)
    assert lonely == pb.ExplainResponse()


async def test_explain_each_reason(world: World, channel: grpc.aio.Channel, blue: Metadata) -> None:
    world.lease("l")
    world.blob("held", {"bref.content": digest("none")}, lease="l")
    world.blob("subject", {"root": "x"})
    world.blob("referrer", {"bref.content.subject": digest("subject")})
    world.snapshot("p", committed=True)
    world.snapshot("s", "p")
    world.container("c", "s")
    world.snapshot("mine", labels={"root": "x"})
    world.ingest("w")
    stub = rpc.CollectorStub(channel)

    async def reasons(type_: str, key: str) -> list[str]:
        answer = await stub.Explain(pb.ExplainRequest(type=type_, key=key), metadata=blue)
        return [hop.reason for hop in answer.hops]

    assert await reasons("content", digest("held")) == ["a lease that has not expired", "held by the lease"]
    own = "its own label containerd.io/gc.bref.content.subject"
    assert await reasons("content", digest("referrer")) == ["has a label containerd.io/gc.root", own]
    assert (await reasons("snapshot/native", "p"))[1:] == [
        "the container's root file system",
        "parent of the snapshot",
    ]
    assert await reasons("snapshot/native", "mine") == ["has a label containerd.io/gc.root"]
    assert await reasons("containers", "c") == ["a container: kept until it is deleted"]
    assert await reasons("ingest", "w") == ["a write that was opened less than a day ago"]


async def test_explain_refuses(channel: grpc.aio.Channel, blue: Metadata) -> None:
    stub = rpc.CollectorStub(channel)
    unknown = pb.ExplainRequest(type="content", key="x")
    assert (await refusal(stub.Explain(unknown, metadata=blue)))[0] == "NOT_FOUND"
    assert (await refusal(stub.Explain(unknown)))[0] == "FAILED_PRECONDITION"
    odd = pb.ExplainRequest(type="odd", key="x")
    assert (await refusal(stub.Explain(odd, metadata=blue)))[0] == "INVALID_ARGUMENT"


async def planned(stub: rpc.CollectorStub) -> tuple[str, int, dict[str, int]]:
    parts = [part async for part in stub.Plan(pb.PlanRequest())]
    assert parts[0].count == sum(len(part.objects) for part in parts)
    return parts[0].plan_id, parts[0].size, {o.key: o.size for part in parts for o in part.objects}


async def test_a_plan_removes_nothing_and_then_exactly_its_set(
    world: World, channel: grpc.aio.Channel, blue: Metadata
) -> None:
    for name in ("a", "b", "c"):
        world.blob(name)
    world.ingest("w")
    world.age_ingest("w")
    stub = rpc.CollectorStub(channel)
    plan_id, size, objects = await planned(stub)
    assert objects == {digest(name): len(f"the bytes of {name}") for name in "abc"} | {"w": len(b"half")}
    assert size == sum(objects.values())
    assert world.names() == set(objects)
    world.blob("later")
    world.image("i", "a")
    done = await stub.Run(pb.RunRequest(plan_id=plan_id))
    assert dict(done.removed) == {"content": 2, "ingest": 1}
    assert done.size == objects[digest("b")] + objects[digest("c")] + len(b"half")
    assert world.names() == {"i", digest("a"), digest("later")}
    assert (await refusal(stub.Run(pb.RunRequest(plan_id=plan_id))))[0] == "NOT_FOUND"


async def test_an_empty_plan_is_one_message(channel: grpc.aio.Channel) -> None:
    stub = rpc.CollectorStub(channel)
    plan_id, size, objects = await planned(stub)
    assert (bool(plan_id), size, objects) == (True, 0, {})


async def test_a_plan_counts_the_bytes_of_a_shared_blob_once_and_only_if_all_let_go(
    world: World, channel: grpc.aio.Channel
) -> None:
    for namespace in ("blue", "red"):
        world.blob("both", namespace=Namespace(namespace))
        world.blob("one", {"root": "x"} if namespace == "red" else {}, namespace=Namespace(namespace))
    _, size, objects = await planned(rpc.CollectorStub(channel))
    assert size == len(b"the bytes of both")
    assert objects[digest("one")] == 0


async def test_a_plan_weighs_what_is_active(world: World, channel: grpc.aio.Channel) -> None:
    world.snapshot("s")
    mounts = world.snapshots.mounts(Place(Namespace("blue"), "native"), "s")
    (Path(mounts[0].source) / "file").write_bytes(b"x" * 100_000)
    _, _, objects = await planned(rpc.CollectorStub(channel))
    assert objects["s"] >= 100_000


async def test_the_oldest_of_many_plans_makes_room(channel: grpc.aio.Channel) -> None:
    stub = rpc.CollectorStub(channel)
    plans = [(await planned(stub))[0] for _ in range(9)]
    assert (await refusal(stub.Run(pb.RunRequest(plan_id=plans[0]))))[0] == "NOT_FOUND"
    await stub.Run(pb.RunRequest(plan_id=plans[1]))
