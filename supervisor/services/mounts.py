"""containerd.services.mounts.v1.Mounts (containerd: plugins/services/mounts, since 2.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.mounts.v1 import mounts_pb2 as pb
from supervisor.api.types import mount_pb2
from supervisor.blocking import in_thread
from supervisor.metadata.mount_manager import MountManager
from supervisor.model.activation import Activation, ActiveMount
from supervisor.model.filters import parse_all
from supervisor.services import convert
from supervisor.services.context import Context, lease_of, namespace_of


class Mounts:
    """Serves the mount manager."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Mounts"]

    def __init__(self, manager: MountManager) -> None:
        self._manager = manager

    async def Activate(self, request: pb.ActivateRequest, context: Context) -> pb.ActivateResponse:
        """Prepare mounts, and perform those that the caller cannot."""
        activation = await in_thread(
            self._manager.activate,
            namespace_of(context),
            request.name,
            [convert.to_mount(mount) for mount in request.mounts],
            dict(request.labels),
            temporary=request.temporary,
            lease_id=lease_of(context),
        )
        return pb.ActivateResponse(info=_message(activation))

    async def Deactivate(self, request: pb.DeactivateRequest, context: Context) -> Empty:
        """Undo an activation."""
        await in_thread(self._manager.deactivate, namespace_of(context), request.name)
        return Empty()

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        """One activation."""
        found = await in_thread(self._manager.info, namespace_of(context), request.name)
        return pb.InfoResponse(info=_message(found))

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.UpdateResponse:
        """Change labels."""
        convert.require(request, "info")
        given = Activation(request.info.name, labels=dict(request.info.labels))
        namespace = namespace_of(context)
        changed = await in_thread(self._manager.update, namespace, given, list(request.update_mask.paths))
        return pb.UpdateResponse(info=_message(changed))

    async def List(self, request: pb.ListRequest, context: Context) -> AsyncIterator[pb.ListMessage]:
        """The activations that pass the filters, one a message."""
        namespace = namespace_of(context)
        for found in await in_thread(self._manager.find, namespace, parse_all(request.filters)):
            yield pb.ListMessage(info=_message(found))


def _message(activation: Activation) -> mount_pb2.ActivationInfo:
    return mount_pb2.ActivationInfo(
        name=activation.name,
        active=map(_active, activation.active),
        system=map(convert.from_mount, activation.system),
        labels=activation.labels,
    )


def _active(active: ActiveMount) -> mount_pb2.ActiveMount:
    return mount_pb2.ActiveMount(
        mount=convert.from_mount(active.mount),
        mounted_at=convert.from_instant(active.mounted_at),
        mount_point=active.mount_point,
        data=active.data,
    )
