"""What a daemon says about itself: version, identity, plugins (containerd: core/introspection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.introspection.v1 import introspection_pb2 as pb
from supervisor.api.services.version.v1 import version_pb2
from supervisor.client.channel import Channel

_SERVICE = "containerd.services.introspection.v1.Introspection"


@dataclass(frozen=True, slots=True)
class Version:
    """The daemon's version and the revision it was built from."""

    version: str
    revision: str


@dataclass(frozen=True, slots=True)
class Server:
    """The daemon's lasting identity and its process."""

    uuid: str
    pid: int


@dataclass(frozen=True, slots=True)
class Plugin:
    """A part of the daemon; `trouble` says why it does not work, and is empty when it does."""

    type: str
    id: str
    exports: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    trouble: str = ""


class Introspection:
    """Questions about the daemon itself."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def version(self) -> Version:
        """The daemon's version."""
        method = "containerd.services.version.v1.Version/Version"
        answer = await self._channel.call(method, Empty(), version_pb2.VersionResponse)
        return Version(answer.version, answer.revision)

    async def server(self) -> Server:
        """The daemon's identity."""
        answer = await self._channel.call(f"{_SERVICE}/Server", Empty(), pb.ServerResponse)
        return Server(answer.uuid, answer.pid)

    async def plugins(self, filters: Sequence[str] = ()) -> list[Plugin]:
        """The parts of the daemon that at least one of `filters` selects."""
        request = pb.PluginsRequest(filters=filters)
        answer = await self._channel.call(f"{_SERVICE}/Plugins", request, pb.PluginsResponse)
        return [_plugin(message) for message in answer.plugins]

    async def root(self) -> str:
        """The daemon's root folder, or empty when it does not tell."""
        content = await self.plugins(["type==io.containerd.content.v1,id==content"])
        exported = content[0].exports.get("root", "") if content else ""
        return exported.rpartition("/")[0]


def _plugin(message: pb.Plugin) -> Plugin:
    trouble = message.init_err.message if message.HasField("init_err") else ""
    return Plugin(message.type, message.id, dict(message.exports), tuple(message.capabilities), trouble)
