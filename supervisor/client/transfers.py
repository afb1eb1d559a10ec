"""Images moved by the daemon itself: pulled, pushed, imported, exported (containerd: client/transfer.go)."""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any as Anything
from typing import BinaryIO

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from supervisor.api.services.streaming.v1 import streaming_pb2
from supervisor.api.services.supervisor import conversions_pb2
from supervisor.api.services.transfer.v1 import transfer_pb2 as pb
from supervisor.api.types import platform_pb2
from supervisor.api.types.transfer import (
    imagestore_pb2,
    importexport_pb2,
    progress_pb2,
    registry_pb2,
)
from supervisor.api.types.transfer import (
    streaming_pb2 as bytes_pb2,
)
from supervisor.client import convert
from supervisor.client.channel import Channel, Duplex
from supervisor.client.snapshots import DEFAULT_SNAPSHOTTER
from supervisor.errors import Unavailable
from supervisor.model.descriptor import Descriptor
from supervisor.model.platform import Platform
from supervisor.oci import platform as platforms

_WINDOW = 1 << 20
_PIECE = 32 << 10

Stream = Duplex[AnyMessage, AnyMessage]


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry is shown: a user's name and secret, a refresh token, or a whole header."""

    username: str = ""
    secret: str = field(default="", repr=False)
    header: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Registry:
    """How a registry is reached: who asks, and where its host is described (a folder of hosts.toml)."""

    login: Callable[[str], Awaitable[Login | None]] | None = None
    """Is asked for each host that wants to know."""
    hosts: str = ""
    scheme: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that the daemon tells of a transfer; sizes in bytes."""

    event: str
    name: str
    parents: tuple[str, ...]
    progress: int
    total: int


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A report that tells nobody."""


class Compression(enum.Enum):
    """How layers are compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class Transfers:
    """The transfer service of a daemon."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def pull(
        self,
        reference: str,
        *,
        name: str = "",
        registry: Registry | None = None,
        wanted: Sequence[Platform] = (),
        unpack: str | None = DEFAULT_SNAPSHOTTER,
        labels: Mapping[str, str] | None = None,
        report: Report = silent,
    ) -> None:
        """Pull an image, and unpack that of this machine into the snapshotter `unpack`, or of none."""
        store = imagestore_pb2.ImageStore(
            name=name or reference, labels=labels or {}, platforms=_platforms(wanted or (platforms.host(),))
        )
        if unpack is not None:
            own = _platforms((wanted[0] if wanted else platforms.host(),))[0]
            store.unpacks.add(platform=own, snapshotter=unpack)
        async with self._registry(reference, registry or Registry()) as source:
            await self._transfer(source, store, report)

    async def push(
        self,
        name: str,
        reference: str = "",
        *,
        registry: Registry | None = None,
        wanted: Sequence[Platform] = (),
        report: Report = silent,
    ) -> None:
        """Push an image that is here, under its own name or another reference."""
        store = imagestore_pb2.ImageStore(name=name, platforms=_platforms(wanted))
        async with self._registry(reference or name, registry or Registry()) as destination:
            await self._transfer(store, destination, report)

    async def export(
        self,
        names: Sequence[str],
        file: BinaryIO,
        *,
        wanted: Sequence[Platform] = (),
        all_platforms: bool = False,
        report: Report = silent,
    ) -> None:
        """Write images as one archive, which containerd and Docker load."""
        rest = [imagestore_pb2.ImageReference(name=name) for name in names[1:]]
        store = imagestore_pb2.ImageStore(name=names[0] if names else "", extra_references=rest)
        async with self._stream("export") as (id_, stream), _running(_receive(stream, file)) as writing:
            destination = importexport_pb2.ImageExportStream(
                stream=id_, platforms=_platforms(wanted), all_platforms=all_platforms
            )
            await self._transfer(store, destination, report)
            await writing

    async def import_stream(
        self,
        file: BinaryIO,
        *,
        prefix: str = "",
        name: str = "",
        unpack: str | None = None,
        report: Report = silent,
    ) -> None:
        """Import an archive, read to its end; images take its names, or `prefix` with its tags.

        `name` is for the archive's index, which stands for all of its images.
        """
        store = imagestore_pb2.ImageStore(name=name)
        if not name or prefix:
            store.extra_references.add(
                name=prefix or "import", is_prefix=True, allow_overwrite=True, add_digest=not name
            )
            store.extra_references[0].skip_named_digest = True
        if unpack is not None:
            store.unpacks.add(platform=_platforms((platforms.host(),))[0], snapshotter=unpack)
        async with self._stream("import") as (id_, stream), _running(_send(stream, file)):
            await self._transfer(importexport_pb2.ImageImportStream(stream=id_), store, report)

    async def tag(self, name: str, new: str) -> None:
        """Give an image another name; one that has it loses it."""
        await self._transfer(
            imagestore_pb2.ImageStore(name=name), imagestore_pb2.ImageStore(name=new), silent
        )

    async def convert(
        self, name: str, new: str, compression: Compression, *, wanted: Sequence[Platform] = ()
    ) -> Descriptor:
        """Have an image with the same files whose layers are compressed in another way; what it is."""
        request = conversions_pb2.ConvertRequest(
            name=name,
            new_name=new,
            compression=compression.name,
            platforms=_platforms(wanted),
        )
        method = "supervisor.services.conversions.v1.Conversions/Convert"
        answer = await self._channel.call(method, request, conversions_pb2.ConvertResponse)
        return convert.descriptor(answer.target)

    async def _transfer(self, source: Message, destination: Message, report: Report) -> None:
        async with AsyncExitStack() as stack:
            options = pb.TransferOptions()
            if report is not silent:
                options.progress_stream, stream = await stack.enter_async_context(self._stream("progress"))
                telling = await stack.enter_async_context(_running(_tell(stream, report)))
            request = pb.TransferRequest(
                source=_packed(source), destination=_packed(destination), options=options
            )
            await self._channel.call("containerd.services.transfer.v1.Transfer/Transfer", request, Empty)
            if report is not silent:
                await telling  # the daemon ends the stream behind its last word

    @asynccontextmanager
    async def _registry(self, reference: str, registry: Registry) -> AsyncIterator[registry_pb2.OCIRegistry]:
        resolver = registry_pb2.RegistryResolver(
            headers=dict(registry.headers), host_dir=registry.hosts, default_scheme=registry.scheme
        )
        async with AsyncExitStack() as stack:
            if registry.login is not None:
                resolver.auth_stream, stream = await stack.enter_async_context(self._stream("login"))
                await stack.enter_async_context(_running(_answer(stream, registry.login)))
            yield registry_pb2.OCIRegistry(reference=reference, resolver=resolver)

    @asynccontextmanager
    async def _stream(self, kind: str) -> AsyncIterator[tuple[str, Stream]]:
        """A stream for the daemon to use under the name that is answered."""
        name = f"{kind}-{secrets.token_hex(8)}"
        stream = self._channel.duplex(
            "containerd.services.streaming.v1.Streaming/Stream", AnyMessage, AnyMessage
        )
        try:
            if await stream.exchange(_packed(streaming_pb2.StreamInit(id=name))) is None:
                raise Unavailable("the daemon has closed a stream before it began")
            yield name, stream
        finally:
            stream.cancel()


async def _tell(stream: Stream, report: Report) -> None:
    while (message := await stream.receive()) is not None:
        told = progress_pb2.Progress.FromString(message.value)
        report(Progress(told.event, told.name, tuple(told.parents), told.progress, told.total))


async def _answer(stream: Stream, login: Callable[[str], Awaitable[Login | None]]) -> None:
    while (message := await stream.receive()) is not None:
        asked = registry_pb2.AuthRequest.FromString(message.value)
        await stream.send(_packed(_response(await login(asked.host))))


def _response(found: Login | None) -> registry_pb2.AuthResponse:
    if found is None:
        return registry_pb2.AuthResponse(authType=registry_pb2.NONE)
    if found.header:
        return registry_pb2.AuthResponse(authType=registry_pb2.HEADER, secret=found.header)
    if found.username:
        return registry_pb2.AuthResponse(
            authType=registry_pb2.CREDENTIALS, username=found.username, secret=found.secret
        )
    return registry_pb2.AuthResponse(authType=registry_pb2.REFRESH, secret=found.secret)


async def _receive(stream: Stream, file: BinaryIO) -> None:
    """Write what comes, and let more come."""
    room = 0
    while True:
        if room < _WINDOW // 2:
            await stream.send(_packed(bytes_pb2.WindowUpdate(update=_WINDOW)))
            room += _WINDOW
        message = await stream.receive()
        if message is None:
            return
        data = bytes_pb2.Data.FromString(message.value).data
        room -= len(data)
        file.write(data)


async def _send(stream: Stream, file: BinaryIO) -> None:
    """Send the file as the daemon has room for it."""
    room = 0
    while piece := await asyncio.to_thread(file.read, _PIECE):
        while room <= 0:
            message = await stream.receive()
            if message is None:
                return
            room += bytes_pb2.WindowUpdate.FromString(message.value).update
        await stream.send(_packed(bytes_pb2.Data(data=piece)))
        room -= len(piece)
    await stream.finish()


@asynccontextmanager
async def _running(work: Coroutine[Anything, Anything, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Work beside the block; it ends with it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _packed(message: Message) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def _platforms(found: Sequence[Platform]) -> list[platform_pb2.Platform]:
    return [
        platform_pb2.Platform(os=one.os, architecture=one.architecture, variant=one.variant) for one in found
    ]
