"""containerd.services.leases.v1.Leases (containerd: plugins/services/leases)."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.leases.v1 import leases_pb2 as pb
from supervisor.metadata import leases
from supervisor.metadata.store import Store
from supervisor.model.filters import parse_all
from supervisor.model.lease import Lease, Resource
from supervisor.services import convert
from supervisor.services.context import Context, namespace_of
from supervisor.services.scheduler import Scheduler


class Leases:
    """Serves the leases of the store."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Leases"]

    def __init__(self, store: Store, scheduler: Scheduler | None = None) -> None:
        """Without a scheduler nothing is collected, so `sync` has nothing to wait for."""
        self._store = store
        self._scheduler = scheduler

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.CreateResponse:
        """Make a lease, under an id of our own when the request names none."""
        wanted = Lease(request.id, dict(request.labels))
        stored = await self._store.write(leases.create, namespace_of(context), wanted)
        return pb.CreateResponse(lease=_message(stored))

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> Empty:
        """Delete a lease; what it alone held is collected soon, with `sync` before the answer."""
        await self._store.write(leases.remove, namespace_of(context), request.id)
        if request.sync and self._scheduler is not None:
            await self._scheduler.collect()
        return Empty()

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        """All leases that pass the filters, without their resources."""
        namespace = namespace_of(context)
        found = await self._store.read(leases.find, namespace, parse_all(request.filters))
        return pb.ListResponse(leases=map(_message, found))

    async def AddResource(self, request: pb.AddResourceRequest, context: Context) -> Empty:
        """Have the lease hold a resource, there or not yet."""
        resource = _resource(request)
        await self._store.write(leases.add_resource, namespace_of(context), request.id, resource)
        return Empty()

    async def DeleteResource(self, request: pb.DeleteResourceRequest, context: Context) -> Empty:
        """Have the lease let go of a resource."""
        resource = _resource(request)
        await self._store.write(leases.remove_resource, namespace_of(context), request.id, resource)
        return Empty()

    async def ListResources(
        self, request: pb.ListResourcesRequest, context: Context
    ) -> pb.ListResourcesResponse:
        """What the lease holds."""
        found = await self._store.read(leases.resources, namespace_of(context), request.id)
        return pb.ListResourcesResponse(resources=[pb.Resource(id=one.id, type=one.type) for one in found])


def _resource(request: pb.AddResourceRequest | pb.DeleteResourceRequest) -> Resource:
    convert.require(request, "resource")
    return Resource(request.resource.type, request.resource.id)


def _message(lease: Lease) -> pb.Lease:
    created_at = convert.from_instant(lease.created_at)
    return pb.Lease(id=lease.id, created_at=created_at, labels=lease.labels)
