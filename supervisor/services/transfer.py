"""containerd.services.transfer.v1.Transfer (containerd: plugins/services/transfer, core/transfer)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from supervisor.api.services.transfer.v1 import transfer_pb2 as pb
from supervisor.api.types import platform_pb2
from supervisor.api.types.transfer import imagestore_pb2, importexport_pb2, registry_pb2
from supervisor.blocking import in_thread
from supervisor.errors import InvalidArgument, Unimplemented
from supervisor.model.descriptor import Descriptor
from supervisor.model.identifiers import Namespace
from supervisor.model.platform import Platform
from supervisor.oci import platform as platforms
from supervisor.registry.bandwidth import Bandwidth
from supervisor.registry.credentials import Credentials
from supervisor.registry.deadline import Deadline
from supervisor.registry.hosts import Hosts
from supervisor.registry.settings import RegistrySettings
from supervisor.services.context import Context, lease_of, namespace_of
from supervisor.services.pipes import Asking, Incoming, Outgoing, Pipe, Telling
from supervisor.services.streams import Streams, is_a
from supervisor.transfer import exporting, importing, retag
from supervisor.transfer.naming import NameRule, Naming
from supervisor.transfer.progress import Report, silent
from supervisor.transfer.stores import Scope, Stores, leased
from supervisor.transfer.unpacking import Unpack
from supervisor.transfer.verifiers import Verify
from supervisor.transfer.walking import Wanted

if TYPE_CHECKING:
    from supervisor.registry.session import Session

Work = Callable[[Scope, Report], object]

ECHO_BYTES = 1 << 20

P = TypeVar("P", bound=Pipe)

_TYPES: tuple[type[Message], ...] = (
    registry_pb2.OCIRegistry,
    imagestore_pb2.ImageStore,
    importexport_pb2.ImageImportStream,
    importexport_pb2.ImageExportStream,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says of transfers."""

    registry: RegistrySettings = field(default_factory=RegistrySettings)
    hosts: Path | None = None
    """The folder of registries' `hosts.toml`, where a client names none."""
    concurrent: int = 8
    """Transfers at a time; more of them wait."""
    snapshotter: str = "overlayfs"
    """Where to unpack to, where a client does not say."""


def _trust(name: str, target: Descriptor) -> None:
    """No verifier is configured."""


class Transfer:
    """Moves images from one place to another; each transfer is work of a thread."""

    SERVICE = pb.DESCRIPTOR.services_by_name["Transfer"]

    def __init__(self, stores: Stores, streams: Streams, settings: Settings, verify: Verify = _trust) -> None:
        """`verify` is asked before anything is pulled."""
        self._stores = stores
        self._streams = streams
        self._settings = settings
        self._verify = verify
        self._turns = asyncio.Semaphore(settings.concurrent)
        self._bandwidth = Bandwidth(settings.registry.bandwidth)

    async def Transfer(self, request: pb.TransferRequest, context: Context) -> Empty:
        """Answers when all is done; a client that gives up ends the transfer."""
        namespace, lease, deadline = namespace_of(context), lease_of(context), Deadline()
        source, destination = _opened(request.source), _opened(request.destination)
        with ExitStack() as ends:
            ends.callback(deadline.cancel)
            telling = None
            if name := request.options.progress_stream:
                telling = Telling(self._streams.get(namespace, name))
                ends.callback(telling.close)
            work = self._work(namespace, source, destination, ends)
            report = telling.report if telling else silent
            async with self._turns:
                try:
                    await in_thread(self._run, work, namespace, lease, deadline, report)
                except asyncio.CancelledError:
                    ends.close()
                    raise
                finally:
                    if telling and not deadline.cancelled:
                        await telling.told()
        return Empty()

    def _run(
        self, work: Work, namespace: Namespace, lease: str | None, deadline: Deadline, report: Report
    ) -> None:
        with leased(self._stores, namespace, lease, deadline) as scope:
            work(scope, report)

    def _work(self, namespace: Namespace, source: Message, destination: Message, ends: ExitStack) -> Work:
        """What to do, by the kinds of both ends; `ends` has what stops it."""
        match source, destination:
            case registry_pb2.OCIRegistry(), imagestore_pb2.ImageStore():
                return self._pull(namespace, source, destination, ends)
            case imagestore_pb2.ImageStore(), registry_pb2.OCIRegistry():
                return self._push(namespace, source, destination, ends)
            case importexport_pb2.ImageImportStream(), imagestore_pb2.ImageStore():
                incoming = self._pipe(namespace, source.stream, Incoming, ends)
                asked = importing.Import(
                    _naming(destination), _wanted(destination), self._unpacks(destination)
                )
                return lambda scope, report: importing.import_stream(scope, incoming, asked, report)
            case imagestore_pb2.ImageStore(), importexport_pb2.ImageExportStream():
                outgoing = self._pipe(namespace, destination.stream, Outgoing, ends)
                exported = _export(source, destination)
                return lambda scope, report: exporting.export(scope, exported, outgoing, report)
            case imagestore_pb2.ImageStore(), imagestore_pb2.ImageStore():
                return self._tag(source, destination)
            case importexport_pb2.ImageImportStream(), importexport_pb2.ImageExportStream():
                incoming = self._pipe(namespace, source.stream, Incoming, ends)
                outgoing = self._pipe(namespace, destination.stream, Outgoing, ends)
                return lambda scope, report: _echo(scope, incoming, outgoing)
        names = f"{source.DESCRIPTOR.full_name} to {destination.DESCRIPTOR.full_name}"
        raise Unimplemented(f"method Transfer not implemented for {names}")

    def _pull(
        self,
        namespace: Namespace,
        source: registry_pb2.OCIRegistry,
        destination: imagestore_pb2.ImageStore,
        ends: ExitStack,
    ) -> Work:
        from supervisor.transfer import pull  # here: it loads requests, for which a start need not wait

        asked = pull.Pull(
            source.reference,
            _naming(destination),
            _wanted(destination),
            self._unpacks(destination),
            destination.all_metadata,
        )
        session = self._session(namespace, source, ends)

        def work(scope: Scope, report: Report) -> None:
            with session:
                pull.pull(scope, session, asked, report, self._verify)

        return work

    def _push(
        self,
        namespace: Namespace,
        source: imagestore_pb2.ImageStore,
        destination: registry_pb2.OCIRegistry,
        ends: ExitStack,
    ) -> Work:
        from supervisor.transfer import push

        name, wanted = _naming(source).required(), _wanted(source)
        session = self._session(namespace, destination, ends)

        def work(scope: Scope, report: Report) -> None:
            with session:
                push.push(scope, session, name, destination.reference, wanted, report)

        return work

    def _tag(self, source: imagestore_pb2.ImageStore, destination: imagestore_pb2.ImageStore) -> Work:
        """Another name, or, for the same name, only unpacked."""
        name = _naming(source).required()
        unpacks, naming = self._unpacks(destination), _naming(destination)
        return lambda scope, report: retag.retag(scope, name, naming, unpacks, report)

    def _session(self, namespace: Namespace, registry: registry_pb2.OCIRegistry, ends: ExitStack) -> Session:
        from supervisor.registry.session import Session

        resolver = registry.resolver
        folder = Path(resolver.host_dir) if resolver.host_dir else self._settings.hosts
        credentials: Credentials | None = None
        if resolver.auth_stream:
            asking = Asking(self._streams.get(namespace, resolver.auth_stream), registry.reference)
            ends.callback(asking.close)
            credentials = asking
        session = Session(
            Hosts(folder, resolver.default_scheme),
            credentials,
            self._settings.registry,
            header=dict(resolver.headers),
            bandwidth=self._bandwidth,
        )
        ends.callback(session.cancel)
        return session

    def _pipe(self, namespace: Namespace, name: str, kind: type[P], ends: ExitStack) -> P:
        pipe = kind(self._streams.get(namespace, name))
        ends.callback(pipe.close)
        return pipe

    def _unpacks(self, store: imagestore_pb2.ImageStore) -> list[Unpack]:
        return [
            Unpack(
                one.snapshotter or self._settings.snapshotter,
                _platform(one.platform) if one.HasField("platform") else platforms.host(),
            )
            for one in store.unpacks
        ]


def _opened(payload: AnyMessage) -> Message:
    """The message in a payload; raises InvalidArgument, and Unimplemented for a kind that is not known."""
    for kind in _TYPES:
        if is_a(payload, kind):
            try:
                return kind.FromString(payload.value)
            except DecodeError as error:
                raise InvalidArgument(f"{payload.type_url} cannot be decoded: {error}") from error
    if not payload.type_url:
        raise InvalidArgument("a transfer needs a source and a destination")
    raise Unimplemented(f"transfers from or to {payload.type_url[:200]!r} are not known")


def _echo(scope: Scope, incoming: Incoming, outgoing: Outgoing) -> None:
    """Bytes as they are, by which clients try their streams."""
    while data := incoming.read(ECHO_BYTES):
        scope.check()
        outgoing.write(data)


def _naming(store: imagestore_pb2.ImageStore) -> Naming:
    rules = [
        NameRule(one.name, one.is_prefix, one.allow_overwrite, one.add_digest, one.skip_named_digest)
        for one in store.extra_references
    ]
    return Naming(store.name, dict(store.labels), rules)


def _wanted(store: imagestore_pb2.ImageStore) -> Wanted:
    return Wanted(tuple(map(_platform, store.platforms)), store.manifest_limit)


def _platform(message: platform_pb2.Platform) -> Platform:
    host = platforms.host()
    return Platform(message.os or host.os, message.architecture or host.architecture, message.variant)


def _export(
    source: imagestore_pb2.ImageStore, destination: importexport_pb2.ImageExportStream
) -> exporting.Export:
    names: Sequence[str] = [source.name] if source.name else []
    return exporting.Export(
        [*names, *(one.name for one in source.extra_references)],
        tuple(map(_platform, destination.platforms)),
        destination.all_platforms,
        not destination.skip_compatibility_manifest,
        not destination.skip_non_distributable,
    )
