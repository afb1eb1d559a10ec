"""containerd.services.introspection.v1.Introspection (containerd: plugins/services/introspection)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status

from supervisor.api.services.introspection.v1 import introspection_pb2 as pb
from supervisor.blocking import in_thread
from supervisor.errors import FailedPrecondition, NotFound, SupervisorError, Unimplemented
from supervisor.kernel.files import write_durably
from supervisor.model.filters import parse_all
from supervisor.model.plugin import PluginRecord
from supervisor.model.predicate import predicate
from supervisor.services import convert
from supervisor.services.context import Context

UUID_FOLDER = "io.containerd.grpc.v1.introspection"

Details = Callable[[AnyMessage], Awaitable[AnyMessage]]
"""What a plugin has to tell about options that a client sends."""

_NO_DETAILS: Mapping[tuple[str, str], Details] = {}


class Introspection:
    """Tells what this daemon is made of; needs no namespace."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Introspection"]

    def __init__(
        self,
        root: Path,
        plugins: Sequence[PluginRecord],
        details: Mapping[tuple[str, str], Details] = _NO_DETAILS,
    ) -> None:
        """`plugins` is read at each call, so that it may still grow; `details` is by type and id."""
        self._root = root
        self._plugins = plugins
        self._details = details

    async def Plugins(self, request: pb.PluginsRequest, context: Context) -> pb.PluginsResponse:
        """The plugins that pass the filters, in the order in which they were made."""
        wanted = predicate(parse_all(request.filters))
        found = [plugin for plugin in self._plugins if wanted(plugin.field)]
        return pb.PluginsResponse(plugins=map(_message, found))

    async def Server(self, request: Empty, context: Context) -> pb.ServerResponse:
        """Who this daemon is, and in which pid namespace."""
        identity = await in_thread(server_uuid, self._root)
        pidns = os.stat("/proc/self/ns/pid").st_ino
        return pb.ServerResponse(uuid=identity, pid=os.getpid(), pidns=pidns)

    async def PluginInfo(self, request: pb.PluginInfoRequest, context: Context) -> pb.PluginInfoResponse:
        """One plugin, and what it tells about the options if the request brings any."""
        plugin = self._plugin(request)
        extra = await self._extra(plugin, request.options) if request.HasField("options") else None
        return pb.PluginInfoResponse(plugin=_message(plugin), extra=extra)

    async def _extra(self, plugin: PluginRecord, options: AnyMessage) -> AnyMessage:
        name = f"{plugin.type}.{plugin.id}"
        if plugin.error is not None:
            raise FailedPrecondition(f"plugin {name} did not load: {plugin.error}")
        details = self._details.get((plugin.type, plugin.id))
        if details is None:
            raise Unimplemented(f"plugin {name} has no information about options")
        return await details(options)

    def _plugin(self, request: pb.PluginInfoRequest) -> PluginRecord:
        for plugin in self._plugins:
            if (plugin.type, plugin.id) == (request.type, request.id):
                return plugin
        raise NotFound(f"plugin {request.type}.{request.id}")


def server_uuid(root: Path) -> str:
    """The identity of the daemon at this root: made once, kept in a file there."""
    path = root / UUID_FOLDER / "uuid"
    try:
        return str(uuid.UUID(path.read_text()))
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = str(uuid.uuid4())
        write_durably(path, made.encode())
        return made
    except ValueError as error:
        raise SupervisorError(f"{path} holds no UUID: {error}; remove it to have a new one made") from None


def _message(plugin: PluginRecord) -> pb.Plugin:
    message = pb.Plugin(
        type=plugin.type,
        id=plugin.id,
        requires=plugin.requires,
        platforms=map(convert.from_platform, plugin.platforms),
        exports=plugin.exports,
        capabilities=plugin.capabilities,
    )
    if plugin.error is not None:
        message.init_err.CopyFrom(Status(code=plugin.error.code, message=plugin.error.wire_text()))
    return message
