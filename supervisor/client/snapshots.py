"""Snapshots: layered file systems, answered as mounts to perform (containerd: core/snapshots)."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.snapshots.v1 import snapshots_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.instant import Nanoseconds
from supervisor.model.mount import Mount

_SERVICE = "containerd.services.snapshots.v1.Snapshots"

DEFAULT_SNAPSHOTTER = "overlayfs"


class SnapshotKind(enum.Enum):
    """What may be done with a snapshot."""

    UNKNOWN = 0
    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot's record; `parent` is empty for one that starts from nothing."""

    name: str
    parent: str
    kind: SnapshotKind
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Nanoseconds | None = None
    updated_at: Nanoseconds | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What one snapshot takes by itself, without its parents."""

    size: int
    inodes: int


class Snapshots:
    """The snapshots of a namespace in one snapshotter."""

    def __init__(self, channel: Channel, snapshotter: str) -> None:
        self._channel = channel
        self.snapshotter = snapshotter

    async def stat(self, key: str) -> Snapshot:
        """The record of a snapshot; raises NotFound."""
        request = pb.StatSnapshotRequest(snapshotter=self.snapshotter, key=key)
        answer = await self._channel.call(f"{_SERVICE}/Stat", request, pb.StatSnapshotResponse)
        return _snapshot(answer.info)

    async def list(self, filters: Sequence[str] = ()) -> list[Snapshot]:
        """The snapshots that at least one of `filters` selects, by key; all without filters."""
        request = pb.ListSnapshotsRequest(snapshotter=self.snapshotter, filters=filters)
        answers = await self._channel.collect(f"{_SERVICE}/List", request, pb.ListSnapshotsResponse)
        return [_snapshot(message) for answer in answers for message in answer.info]

    async def prepare(
        self, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> tuple[Mount, ...]:
        """Make a writable snapshot; raises AlreadyExists, and NotFound without the parent."""
        request = pb.PrepareSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels or {}
        )
        answer = await self._channel.call(f"{_SERVICE}/Prepare", request, pb.PrepareSnapshotResponse)
        return convert.mounts(answer.mounts)

    async def view(
        self, key: str, parent: str = "", labels: Mapping[str, str] | None = None
    ) -> tuple[Mount, ...]:
        """Make a read-only snapshot; raises AlreadyExists, and NotFound without the parent."""
        request = pb.ViewSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels or {}
        )
        answer = await self._channel.call(f"{_SERVICE}/View", request, pb.ViewSnapshotResponse)
        return convert.mounts(answer.mounts)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """How to mount an active snapshot or a view."""
        request = pb.MountsRequest(snapshotter=self.snapshotter, key=key)
        answer = await self._channel.call(f"{_SERVICE}/Mounts", request, pb.MountsResponse)
        return convert.mounts(answer.mounts)

    async def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Freeze the active snapshot `key` under `name`; raises AlreadyExists."""
        request = pb.CommitSnapshotRequest(
            snapshotter=self.snapshotter, name=name, key=key, labels=labels or {}
        )
        await self._channel.call(f"{_SERVICE}/Commit", request, Empty)

    async def remove(self, key: str) -> None:
        """Remove a snapshot without children; raises NotFound and FailedPrecondition."""
        request = pb.RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key)
        await self._channel.call(f"{_SERVICE}/Remove", request, Empty)

    async def label(self, name: str, labels: Mapping[str, str]) -> Snapshot:
        """Set labels of a snapshot; an empty value removes one."""
        request = pb.UpdateSnapshotRequest(
            snapshotter=self.snapshotter,
            info=pb.Info(name=name, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
        )
        answer = await self._channel.call(f"{_SERVICE}/Update", request, pb.UpdateSnapshotResponse)
        return _snapshot(answer.info)

    async def usage(self, key: str) -> Usage:
        """Bytes and inodes that a snapshot takes."""
        request = pb.UsageRequest(snapshotter=self.snapshotter, key=key)
        answer = await self._channel.call(f"{_SERVICE}/Usage", request, pb.UsageResponse)
        return Usage(answer.size, answer.inodes)


def _snapshot(message: pb.Info) -> Snapshot:
    return Snapshot(
        name=message.name,
        parent=message.parent,
        kind=SnapshotKind(message.kind),
        labels=dict(message.labels),
        created_at=convert.instant(message.created_at),
        updated_at=convert.instant(message.updated_at),
    )
