"""Rules of contract section 7 that are seen only over gRPC: conversions, chunks, order of first checks."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from supervisor.api.services.snapshots.v1 import snapshots_pb2 as pb
from supervisor.api.services.snapshots.v1 import snapshots_pb2_grpc as rpc
from supervisor.metadata import events
from supervisor.metadata.snapshots import Snapshots as Core
from supervisor.metadata.store import Store
from supervisor.services.snapshots import Snapshots
from supervisor.snapshots.overlay import OverlaySnapshotter
from tests.services.conftest import Serve

Metadata = tuple[tuple[str, str], ...]
OVERLAY = "overlayfs"


@pytest_asyncio.fixture
async def stub(store: Store, serve: Serve, tmp_path: Path) -> AsyncIterator[rpc.SnapshotsStub]:
    service = Snapshots(Core(store.database, [OverlaySnapshotter(tmp_path / "overlayfs")]))
    yield rpc.SnapshotsStub(await serve(lambda server: server.add(service)))


async def refusal(call: grpc.aio.UnaryUnaryCall) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code()


async def test_the_life_of_a_snapshot(stub: rpc.SnapshotsStub, blue: Metadata) -> None:
    request = pb.PrepareSnapshotRequest(snapshotter=OVERLAY, key="k", labels={"a": "1"})
    prepared = await stub.Prepare(request, metadata=blue)
    (mount,) = prepared.mounts
    assert (mount.type, list(mount.options), mount.target) == ("bind", ["rw", "rbind"], "")
    assert (await stub.Mounts(pb.MountsRequest(snapshotter=OVERLAY, key="k"), metadata=blue)).mounts == [
        mount
    ]
    (Path(mount.source) / "file").write_bytes(b"x" * 4096)
    usage = await stub.Usage(pb.UsageRequest(snapshotter=OVERLAY, key="k"), metadata=blue)
    assert usage.inodes == 2
    assert usage.size >= 4096
    await stub.Commit(pb.CommitSnapshotRequest(snapshotter=OVERLAY, key="k", name="n"), metadata=blue)
    stat = await stub.Stat(pb.StatSnapshotRequest(snapshotter=OVERLAY, key="n"), metadata=blue)
    assert (stat.info.kind, stat.info.parent, dict(stat.info.labels)) == (pb.COMMITTED, "", {})
    assert stat.info.created_at == stat.info.updated_at
    view = await stub.View(pb.ViewSnapshotRequest(snapshotter=OVERLAY, key="v", parent="n"), metadata=blue)
    assert list(view.mounts[0].options) == ["ro", "rbind"]
    change = pb.UpdateSnapshotRequest(snapshotter=OVERLAY, info=pb.Info(name="v", labels={"b": "2"}))
    updated = await stub.Update(change, metadata=blue)
    assert (updated.info.kind, updated.info.parent, dict(updated.info.labels)) == (pb.VIEW, "n", {"b": "2"})
    for key in ("v", "n"):
        await stub.Remove(pb.RemoveSnapshotRequest(snapshotter=OVERLAY, key=key), metadata=blue)
    assert not os.path.exists(mount.source)  # noqa: ASYNC240
    await stub.Cleanup(pb.CleanupRequest(snapshotter=OVERLAY), metadata=blue)


async def test_the_snapshotter_is_checked_before_the_namespace(
    stub: rpc.SnapshotsStub, blue: Metadata
) -> None:
    """7, 1.2: InvalidArgument for it, FailedPrecondition for a missing namespace."""
    for name, code in (("", grpc.StatusCode.INVALID_ARGUMENT), ("zfs", grpc.StatusCode.INVALID_ARGUMENT)):
        assert await refusal(stub.Stat(pb.StatSnapshotRequest(snapshotter=name, key="k"))) is code
    missing = await refusal(stub.Stat(pb.StatSnapshotRequest(snapshotter=OVERLAY, key="k")))
    assert missing is grpc.StatusCode.FAILED_PRECONDITION
    absent = await refusal(stub.Stat(pb.StatSnapshotRequest(snapshotter=OVERLAY, key="k"), metadata=blue))
    assert absent is grpc.StatusCode.NOT_FOUND


async def test_the_lease_of_the_call_counts(stub: rpc.SnapshotsStub, blue: Metadata) -> None:
    """1.3: unknown and empty leases."""
    request = pb.PrepareSnapshotRequest(snapshotter=OVERLAY, key="k")
    for lease in ("unknown", ""):
        call = stub.Prepare(request, metadata=(*blue, ("containerd-lease", lease)))
        assert await refusal(call) is grpc.StatusCode.NOT_FOUND


async def test_update_without_info_is_refused(stub: rpc.SnapshotsStub, blue: Metadata) -> None:
    """16: containerd crashes on it."""
    call = stub.Update(pb.UpdateSnapshotRequest(snapshotter=OVERLAY), metadata=blue)
    assert await refusal(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_empty_keys_are_unknown_errors(stub: rpc.SnapshotsStub, blue: Metadata) -> None:
    """1.4: UNKNOWN, not InvalidArgument."""
    call = stub.Prepare(pb.PrepareSnapshotRequest(snapshotter=OVERLAY), metadata=blue)
    assert await refusal(call) is grpc.StatusCode.UNKNOWN


async def test_list_comes_in_hundreds(stub: rpc.SnapshotsStub, blue: Metadata) -> None:
    """1.7: 100 entries per message, no message when there are none."""
    request = pb.ListSnapshotsRequest(snapshotter=OVERLAY)
    assert [m async for m in stub.List(request, metadata=blue)] == []
    for number in range(201):
        await stub.Prepare(pb.PrepareSnapshotRequest(snapshotter=OVERLAY, key=f"{number:03}"), metadata=blue)
    messages = [m async for m in stub.List(request, metadata=blue)]
    assert [len(m.info) for m in messages] == [100, 100, 1]
    names = [info.name for message in messages for info in message.info]
    assert names == sorted(names)
    request.filters.append("name==007")
    assert [[i.name for i in m.info] async for m in stub.List(request, metadata=blue)] == [["007"]]


async def test_cleanup_deletes_what_was_removed(
    stub: rpc.SnapshotsStub, blue: Metadata, tmp_path: Path
) -> None:
    """7.1: containerd's answer is UNIMPLEMENTED; here it waits until the space is free again."""
    trash = tmp_path / "overlayfs" / "trash"
    left = trash / "17" / "fs"
    left.mkdir(parents=True)
    await stub.Cleanup(pb.CleanupRequest(snapshotter=OVERLAY), metadata=blue)
    assert not left.exists()
    assert (
        await refusal(stub.Cleanup(pb.CleanupRequest(snapshotter="zfs"))) is grpc.StatusCode.INVALID_ARGUMENT
    )


async def test_a_view_is_not_told_of_and_cannot_be_committed(
    stub: rpc.SnapshotsStub, blue: Metadata, store: Store
) -> None:
    """7.1, 10: events of Prepare, Commit and Remove only."""
    await stub.View(pb.ViewSnapshotRequest(snapshotter=OVERLAY, key="v"), metadata=blue)
    await stub.Update(
        pb.UpdateSnapshotRequest(snapshotter=OVERLAY, info=pb.Info(name="v", labels={"a": "1"})),
        metadata=blue,
    )
    commit = pb.CommitSnapshotRequest(snapshotter=OVERLAY, key="v", name="n")
    assert await refusal(stub.Commit(commit, metadata=blue)) is grpc.StatusCode.FAILED_PRECONDITION
    assert await store.read(events.since, 0, 10) == []
    await stub.Remove(pb.RemoveSnapshotRequest(snapshotter=OVERLAY, key="v"), metadata=blue)
    (told,) = await store.read(events.since, 0, 10)
    assert told.topic == "/snapshot/remove"


async def test_filters_of_a_list(stub: rpc.SnapshotsStub, blue: Metadata) -> None:
    """2, 7.1: a malformed one is told of; kinds are matched in lower case."""
    await stub.Prepare(pb.PrepareSnapshotRequest(snapshotter=OVERLAY, key="a"), metadata=blue)
    await stub.View(pb.ViewSnapshotRequest(snapshotter=OVERLAY, key="v"), metadata=blue)
    request = pb.ListSnapshotsRequest(snapshotter=OVERLAY, filters=["kind==view"])
    assert [[i.name for i in m.info] async for m in stub.List(request, metadata=blue)] == [["v"]]
    request.filters[:] = ["kind="]
    with pytest.raises(grpc.aio.AioRpcError, match="parse error"):
        await stub.List(request, metadata=blue).read()
