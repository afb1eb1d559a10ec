"""Diffs: layers applied to mounts, and made from them (containerd: core/diff)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supervisor.api.services.diff.v1 import diff_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.descriptor import Descriptor
from supervisor.model.mount import Mount

_SERVICE = "containerd.services.diff.v1.Diff"


class Diffs:
    """The diff service of a daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def apply(self, layer: Descriptor, mounts: Sequence[Mount], *, sync: bool = False) -> Descriptor:
        """Unpack a layer onto mounts; answers the uncompressed layer, for the caller to compare."""
        request = pb.ApplyRequest(
            diff=convert.descriptor_message(layer), mounts=convert.mount_messages(mounts), sync_fs=sync
        )
        answer = await self._channel.call(f"{_SERVICE}/Apply", request, pb.ApplyResponse)
        return convert.descriptor(answer.applied)

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Store the difference between two mounted trees as a layer."""
        request = pb.DiffRequest(
            left=convert.mount_messages(lower),
            right=convert.mount_messages(upper),
            media_type=media_type,
            ref=ref,
            labels=labels or {},
        )
        answer = await self._channel.call(f"{_SERVICE}/Diff", request, pb.DiffResponse)
        return convert.descriptor(answer.diff)
