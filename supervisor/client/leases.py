"""Leases: what keeps content and snapshots while they are being made (containerd: core/leases)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.leases.v1 import leases_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.instant import SECOND, Nanoseconds, format_rfc3339, now

_SERVICE = "containerd.services.leases.v1.Leases"

EXPIRE_LABEL = "containerd.io/gc.expire"
# What containerd's clients use: long enough for any pull, short enough that a crash is forgotten in a day.
DEFAULT_LIFETIME = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease and its labels."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: Nanoseconds | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """Something a lease keeps: `type` is content, ingests, images or snapshots/<snapshotter>."""

    id: str
    type: str


class Leases:
    """The leases of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def create(
        self,
        lease_id: str = "",
        *,
        lifetime: float | None = DEFAULT_LIFETIME,
        labels: Mapping[str, str] | None = None,
    ) -> Lease:
        """Make a lease that expires after `lifetime` seconds, or never when None; raises AlreadyExists."""
        merged = dict(labels or {})
        if lifetime is not None:
            merged.setdefault(EXPIRE_LABEL, format_rfc3339(Nanoseconds(now() + int(lifetime * SECOND))))
        request = pb.CreateRequest(id=lease_id or f"sdk-{secrets.token_hex(8)}", labels=merged)
        answer = await self._channel.call(f"{_SERVICE}/Create", request, pb.CreateResponse)
        return _lease(answer.lease)

    async def delete(self, lease_id: str, *, sync: bool = False) -> None:
        """End a lease; with `sync`, return when what only it kept has been collected. Raises NotFound."""
        await self._channel.call(f"{_SERVICE}/Delete", pb.DeleteRequest(id=lease_id, sync=sync), Empty)

    async def add(self, lease_id: str, resource: Resource) -> None:
        """Let a lease keep `resource`."""
        request = pb.AddResourceRequest(id=lease_id, resource=_resource(resource))
        await self._channel.call(f"{_SERVICE}/AddResource", request, Empty)

    async def remove(self, lease_id: str, resource: Resource) -> None:
        """Let a lease keep `resource` no longer."""
        request = pb.DeleteResourceRequest(id=lease_id, resource=_resource(resource))
        await self._channel.call(f"{_SERVICE}/DeleteResource", request, Empty)

    async def resources(self, lease_id: str) -> list[Resource]:
        """What a lease keeps."""
        request = pb.ListResourcesRequest(id=lease_id)
        answer = await self._channel.call(f"{_SERVICE}/ListResources", request, pb.ListResourcesResponse)
        return [Resource(message.id, message.type) for message in answer.resources]

    async def list(self, filters: Sequence[str] = ()) -> list[Lease]:
        """The leases that at least one of `filters` selects, by id; all without filters."""
        answer = await self._channel.call(
            f"{_SERVICE}/List", pb.ListRequest(filters=filters), pb.ListResponse
        )
        return [_lease(message) for message in answer.leases]


def _lease(message: pb.Lease) -> Lease:
    return Lease(message.id, dict(message.labels), convert.instant(message.created_at))


def _resource(resource: Resource) -> pb.Resource:
    return pb.Resource(id=resource.id, type=resource.type)
