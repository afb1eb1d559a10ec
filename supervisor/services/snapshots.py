"""containerd.services.snapshots.v1.Snapshots (containerd: plugins/services/snapshots)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.snapshots.v1 import snapshots_pb2 as pb
from supervisor.api.types.mount_pb2 import Mount as MountMessage
from supervisor.blocking import in_thread
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.metadata.snapshots import Snapshots as Store
from supervisor.model.mount import Mount
from supervisor.services import convert
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.snapshots.snapshotter import Info, Kind

LIST_CHUNK = 100
"""Entries in one message of List (contract 1.7)."""

_KINDS = {Kind.ACTIVE: pb.ACTIVE, Kind.VIEW: pb.VIEW, Kind.COMMITTED: pb.COMMITTED}


class Snapshots:
    """Serves the snapshots of all drivers."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Snapshots"]

    def __init__(self, store: Store) -> None:
        self._store = store

    def _place(self, snapshotter: str, context: Context) -> Place:
        """Where a request points; an unknown snapshotter is told before a missing namespace."""
        self._store.driver(snapshotter)
        return Place(namespace_of(context), snapshotter)

    async def Prepare(
        self, request: pb.PrepareSnapshotRequest, context: Context
    ) -> pb.PrepareSnapshotResponse:
        """Make a writable snapshot."""
        place = self._place(request.snapshotter, context)
        new = New(request.key, request.parent, Kind.ACTIVE, dict(request.labels))
        mounts = await in_thread(self._store.prepare, place, new, lease_of(context))
        return pb.PrepareSnapshotResponse(mounts=_mounts(mounts))

    async def View(self, request: pb.ViewSnapshotRequest, context: Context) -> pb.ViewSnapshotResponse:
        """Make a read-only snapshot."""
        place = self._place(request.snapshotter, context)
        new = New(request.key, request.parent, Kind.VIEW, dict(request.labels))
        mounts = await in_thread(self._store.prepare, place, new, lease_of(context))
        return pb.ViewSnapshotResponse(mounts=_mounts(mounts))

    async def Mounts(self, request: pb.MountsRequest, context: Context) -> pb.MountsResponse:
        """How to reach the files of an active snapshot or a view."""
        place = self._place(request.snapshotter, context)
        mounts = self._store.mounts(place, request.key)
        return pb.MountsResponse(mounts=_mounts(mounts))

    async def Commit(self, request: pb.CommitSnapshotRequest, context: Context) -> Empty:
        """Turn a writable snapshot into one that others can build on."""
        place = self._place(request.snapshotter, context)
        finished = Finished(request.key, request.name, request.parent, dict(request.labels))
        await in_thread(self._store.commit, place, finished, lease_of(context))
        return Empty()

    async def Remove(self, request: pb.RemoveSnapshotRequest, context: Context) -> Empty:
        """Remove a snapshot that no other builds on."""
        place = self._place(request.snapshotter, context)
        await in_thread(self._store.remove, place, request.key, lease_of(context))
        return Empty()

    async def Stat(self, request: pb.StatSnapshotRequest, context: Context) -> pb.StatSnapshotResponse:
        """What is known of a snapshot."""
        place = self._place(request.snapshotter, context)
        info = self._store.stat(place, request.key)
        return pb.StatSnapshotResponse(info=_info(info))

    async def Update(self, request: pb.UpdateSnapshotRequest, context: Context) -> pb.UpdateSnapshotResponse:
        """Change labels."""
        place = self._place(request.snapshotter, context)
        convert.require(request, "info")
        labels, paths = dict(request.info.labels), list(request.update_mask.paths)
        info = await in_thread(self._store.update, place, request.info.name, labels, paths)
        return pb.UpdateSnapshotResponse(info=_info(info))

    async def List(
        self, request: pb.ListSnapshotsRequest, context: Context
    ) -> AsyncIterator[pb.ListSnapshotsResponse]:
        """The snapshots that pass the filters, a hundred a message; no message when there are none."""
        place = self._place(request.snapshotter, context)
        found = await in_thread(self._store.list, place, list(request.filters))
        for start in range(0, len(found), LIST_CHUNK):
            yield pb.ListSnapshotsResponse(info=map(_info, found[start : start + LIST_CHUNK]))

    async def Usage(self, request: pb.UsageRequest, context: Context) -> pb.UsageResponse:
        """Size and inodes of a snapshot's own layer."""
        place = self._place(request.snapshotter, context)
        usage = await in_thread(self._store.usage, place, request.key)
        return pb.UsageResponse(size=usage.size, inodes=usage.inodes)

    async def Cleanup(self, request: pb.CleanupRequest, context: Context) -> Empty:
        """Delete the files of removed snapshots now; containerd's own answer is UNIMPLEMENTED."""
        place = self._place(request.snapshotter, context)
        await in_thread(self._store.cleanup, place.snapshotter)
        return Empty()


def _mounts(mounts: Iterable[Mount]) -> map[MountMessage]:
    return map(convert.from_mount, mounts)


def _info(info: Info) -> pb.Info:
    return pb.Info(
        name=info.name,
        parent=info.parent,
        kind=_KINDS[info.kind],
        labels=info.labels,
        created_at=convert.from_instant(info.created_at),
        updated_at=convert.from_instant(info.updated_at),
    )
