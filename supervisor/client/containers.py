"""Containers: records of what to run; a task is what runs (containerd: core/containers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from supervisor.api.services.containers.v1 import containers_pb2 as pb
from supervisor.client import convert
from supervisor.client.channel import Channel
from supervisor.model.any import Any
from supervisor.model.instant import Nanoseconds

_SERVICE = "containerd.services.containers.v1.Containers"

DEFAULT_RUNTIME = "io.containerd.runc.v2"


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record. `spec` is the OCI runtime spec as JSON inside a typed payload."""

    id: str
    image: str = ""
    runtime: str = DEFAULT_RUNTIME
    runtime_options: Any | None = None
    spec: Any | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    sandbox: str = ""
    created_at: Nanoseconds | None = None
    updated_at: Nanoseconds | None = None


class Containers:
    """The containers of a namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, container_id: str) -> Container:
        """The record of a container; raises NotFound."""
        request = pb.GetContainerRequest(id=container_id)
        answer = await self._channel.call(f"{_SERVICE}/Get", request, pb.GetContainerResponse)
        return _container(answer.container)

    async def list(self, filters: Sequence[str] = ()) -> list[Container]:
        """The records that at least one of `filters` selects, by id; all without filters."""
        request = pb.ListContainersRequest(filters=filters)
        messages = await self._channel.collect(f"{_SERVICE}/ListStream", request, pb.ListContainerMessage)
        return [_container(message.container) for message in messages]

    async def create(self, container: Container) -> Container:
        """Store a record; raises AlreadyExists. Times in `container` are ignored."""
        request = pb.CreateContainerRequest(container=_message(container))
        answer = await self._channel.call(f"{_SERVICE}/Create", request, pb.CreateContainerResponse)
        return _container(answer.container)

    async def update(self, container: Container, paths: Sequence[str]) -> Container:
        """Change the fields that `paths` name: labels, labels.K, spec, extensions, image, snapshotkey."""
        request = pb.UpdateContainerRequest(container=_message(container), update_mask=FieldMask(paths=paths))
        answer = await self._channel.call(f"{_SERVICE}/Update", request, pb.UpdateContainerResponse)
        return _container(answer.container)

    async def delete(self, container_id: str) -> None:
        """Delete a record; raises NotFound. A task of it must have been deleted before."""
        await self._channel.call(f"{_SERVICE}/Delete", pb.DeleteContainerRequest(id=container_id), Empty)


def _container(message: pb.Container) -> Container:
    return Container(
        id=message.id,
        image=message.image,
        runtime=message.runtime.name,
        runtime_options=convert.payload(message.runtime.options),
        spec=convert.payload(message.spec),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        labels=dict(message.labels),
        extensions={key: Any(value.type_url, value.value) for key, value in message.extensions.items()},
        sandbox=message.sandbox,
        created_at=convert.instant(message.created_at),
        updated_at=convert.instant(message.updated_at),
    )


def _message(container: Container) -> pb.Container:
    options = convert.payload_message(container.runtime_options)
    message = pb.Container(
        id=container.id,
        labels=container.labels,
        image=container.image,
        runtime=pb.Container.Runtime(name=container.runtime, options=options),
        spec=convert.payload_message(container.spec),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
        sandbox=container.sandbox,
    )
    for key, value in container.extensions.items():
        message.extensions[key].CopyFrom(convert.payload_message(value) or message.extensions[key])
    return message
