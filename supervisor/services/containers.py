"""containerd.services.containers.v1.Containers (containerd: plugins/services/containers)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.containers.v1 import containers_pb2 as pb
from supervisor.errors import InvalidArgument
from supervisor.metadata import containers
from supervisor.metadata.store import Store
from supervisor.model.container import MASK_FIELDS, MASK_MAPS, Container, Runtime
from supervisor.model.fieldmask import parse_mask
from supervisor.model.filters import parse_all
from supervisor.services import convert
from supervisor.services.context import Context, namespace_of


class Containers:
    """Serves the containers' records of the store."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Containers"]

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Get(self, request: pb.GetContainerRequest, context: Context) -> pb.GetContainerResponse:
        """One record."""
        found = self._store.look_up(containers.get, namespace_of(context), request.id)
        return pb.GetContainerResponse(container=_message(found))

    async def List(self, request: pb.ListContainersRequest, context: Context) -> pb.ListContainersResponse:
        """All records that pass the filters, in one answer."""
        found = await self._find(request, context)
        return pb.ListContainersResponse(containers=map(_message, found))

    async def ListStream(
        self, request: pb.ListContainersRequest, context: Context
    ) -> AsyncIterator[pb.ListContainerMessage]:
        """All records that pass the filters, one a message."""
        for container in await self._find(request, context):
            yield pb.ListContainerMessage(container=_message(container))

    async def Create(
        self, request: pb.CreateContainerRequest, context: Context
    ) -> pb.CreateContainerResponse:
        """Store a new record."""
        convert.require(request, "container")
        stored = await self._store.write(containers.create, namespace_of(context), _value(request.container))
        return pb.CreateContainerResponse(container=_message(stored))

    async def Update(
        self, request: pb.UpdateContainerRequest, context: Context
    ) -> pb.UpdateContainerResponse:
        """Change a record, or the fields of it that the mask names."""
        convert.require(request, "container")
        if not request.container.id:
            raise InvalidArgument("container id must not be empty")
        namespace = namespace_of(context)
        mask = parse_mask(request.update_mask.paths, "container", fields=MASK_FIELDS, maps=MASK_MAPS)
        stored = await self._store.write(containers.change, namespace, _value(request.container), mask)
        return pb.UpdateContainerResponse(container=_message(stored))

    async def Delete(self, request: pb.DeleteContainerRequest, context: Context) -> Empty:
        """Delete a record; a task of it goes on."""
        await self._store.write(containers.remove, namespace_of(context), request.id)
        return Empty()

    async def _find(self, request: pb.ListContainersRequest, context: Context) -> list[Container]:
        namespace = namespace_of(context)
        return await self._store.read(containers.find, namespace, parse_all(request.filters))


def _value(message: pb.Container) -> Container:
    return Container(
        id=message.id,
        runtime=Runtime(message.runtime.name, convert.optional_any(message.runtime, "options")),
        image=message.image,
        spec=convert.optional_any(message, "spec"),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        sandbox=message.sandbox,
        labels=dict(message.labels),
        extensions={key: convert.to_any(value) for key, value in message.extensions.items()},
    )


def _message(container: Container) -> pb.Container:
    runtime = container.runtime
    message = pb.Container(
        id=container.id,
        labels=container.labels,
        image=container.image,
        runtime=pb.Container.Runtime(name=runtime.name, options=convert.from_any(runtime.options)),
        spec=convert.from_any(container.spec),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        created_at=convert.from_instant(container.created_at),
        updated_at=convert.from_instant(container.updated_at),
        sandbox=container.sandbox,
    )
    for key, value in container.extensions.items():
        message.extensions[key].type_url = value.type_url
        message.extensions[key].value = value.value
    return message
