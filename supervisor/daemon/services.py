"""Loaders of the gRPC services: each is a servicer on the parts it needs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from grpc_health.v1 import health_pb2_grpc

from supervisor.api.services.containers.v1 import containers_pb2_grpc
from supervisor.api.services.content.v1 import content_pb2_grpc
from supervisor.api.services.diff.v1 import diff_pb2_grpc
from supervisor.api.services.events.v1 import events_pb2_grpc
from supervisor.api.services.images.v1 import images_pb2_grpc
from supervisor.api.services.introspection.v1 import introspection_pb2_grpc
from supervisor.api.services.leases.v1 import leases_pb2_grpc
from supervisor.api.services.mounts.v1 import mounts_pb2_grpc
from supervisor.api.services.namespaces.v1 import namespace_pb2_grpc
from supervisor.api.services.sandbox.v1 import sandbox_pb2_grpc
from supervisor.api.services.snapshots.v1 import snapshots_pb2_grpc
from supervisor.api.services.supervisor import events_pb2_grpc as journal_pb2_grpc
from supervisor.api.services.supervisor import exits_pb2_grpc, gc_pb2_grpc
from supervisor.api.services.tasks.v1 import tasks_pb2_grpc
from supervisor.api.services.version.v1 import version_pb2_grpc
from supervisor.blocking import in_thread
from supervisor.daemon.parts import own_version
from supervisor.daemon.plugins import Context, Part
from supervisor.daemon.repeating import repeating
from supervisor.diff.processors import Processor
from supervisor.events.exchange import Exchange
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.exits import Retention, trim
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshots import Snapshots as SnapshotStore
from supervisor.metadata.store import Store
from supervisor.services.containers import Containers
from supervisor.services.content import Content
from supervisor.services.diff import Diff
from supervisor.services.events import Events
from supervisor.services.exits import Exits
from supervisor.services.gc import Collector
from supervisor.services.health import Health
from supervisor.services.images import Images
from supervisor.services.introspection import Introspection
from supervisor.services.journal import Journal
from supervisor.services.leases import Leases
from supervisor.services.mounts import Mounts
from supervisor.services.namespaces import Namespaces
from supervisor.services.runtime_info import runtime_info
from supervisor.services.sandbox_store import SandboxStore
from supervisor.services.scheduler import Scheduler
from supervisor.services.snapshots import Snapshots
from supervisor.services.tasks import Tasks
from supervisor.services.version import Version
from supervisor.shimv2.manager import Manager

DAY_SECONDS = 86_400
TRIM_SECONDS = 600.0
"""Between two looks for exit records that are too old or too many."""


async def namespaces(context: Context) -> Part:
    """Namespaces."""
    servicer = Namespaces(context.get(Store))
    return Part(servicer, partial(namespace_pb2_grpc.add_NamespacesServicer_to_server, servicer))


async def containers(context: Context) -> Part:
    """Containers' records."""
    servicer = Containers(context.get(Store))
    return Part(servicer, partial(containers_pb2_grpc.add_ContainersServicer_to_server, servicer))


async def images(context: Context) -> Part:
    """Images."""
    servicer = Images(context.get(Store), context.get(Scheduler))
    return Part(servicer, partial(images_pb2_grpc.add_ImagesServicer_to_server, servicer))


async def leases(context: Context) -> Part:
    """Leases."""
    servicer = Leases(context.get(Store), context.get(Scheduler))
    return Part(servicer, partial(leases_pb2_grpc.add_LeasesServicer_to_server, servicer))


async def gc(context: Context) -> Part:
    """Collection explained, planned and run."""
    servicer = Collector(context.get(Scheduler))
    return Part(servicer, partial(gc_pb2_grpc.add_CollectorServicer_to_server, servicer))


async def content(context: Context) -> Part:
    """Blobs."""
    servicer = Content(context.get(ContentStore))
    return Part(servicer, partial(content_pb2_grpc.add_ContentServicer_to_server, servicer))


async def snapshots(context: Context) -> Part:
    """Snapshots."""
    servicer = Snapshots(context.get(SnapshotStore))
    return Part(servicer, partial(snapshots_pb2_grpc.add_SnapshotsServicer_to_server, servicer))


async def mounts(context: Context) -> Part:
    """The mount manager."""
    servicer = Mounts(context.get(MountManager))
    return Part(servicer, partial(mounts_pb2_grpc.add_MountsServicer_to_server, servicer))


async def sandboxes(context: Context) -> Part:
    """Sandboxes' records."""
    servicer = SandboxStore(context.get(Store))
    return Part(servicer, partial(sandbox_pb2_grpc.add_StoreServicer_to_server, servicer))


async def diff(context: Context) -> Part:
    """Layers applied to snapshots."""
    folder = context.root / "tmpmounts"
    await in_thread(_remove_empty_folders, folder)
    settings = context.config.diff
    processors = [Processor(name, **asdict(one)) for name, one in settings.stream_processors.items()]
    servicer = Diff(
        context.get(ContentStore),
        folder,
        mounts=context.get(MountManager),
        sync_fs=settings.sync_fs,
        processors=processors,
    )
    return Part(servicer, partial(diff_pb2_grpc.add_DiffServicer_to_server, servicer))


def _remove_empty_folders(folder: Path) -> None:
    """Mount points of workers that were killed; what was mounted went with their mount namespaces."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.iterdir():
        left.rmdir()


async def events(context: Context) -> Part:
    """Events."""
    servicer = Events(context.get(Store), context.get(Exchange))
    return Part(servicer, partial(events_pb2_grpc.add_EventsServicer_to_server, servicer))


async def journal(context: Context) -> Part:
    """The journal of events."""
    servicer = Journal(context.get(Store), context.get(Exchange))
    return Part(servicer, partial(journal_pb2_grpc.add_JournalServicer_to_server, servicer))


async def tasks(context: Context) -> Part:
    """Tasks."""
    servicer = Tasks(context.get(Store), context.get(Manager), context.get(ContentStore))
    return Part(servicer, partial(tasks_pb2_grpc.add_TasksServicer_to_server, servicer))


async def exits(context: Context) -> Part:
    """How processes ended."""
    store, limits = context.get(Store), context.config.tasks
    retention = Retention(limits.keep_exits, limits.keep_exits_days * DAY_SECONDS)
    await context.stack.enter_async_context(repeating(partial(store.write, trim, retention), TRIM_SECONDS))
    servicer = Exits(store)
    return Part(servicer, partial(exits_pb2_grpc.add_ExitsServicer_to_server, servicer))


async def version(context: Context) -> Part:
    """The version."""
    servicer = Version(own_version())
    return Part(servicer, partial(version_pb2_grpc.add_VersionServicer_to_server, servicer))


async def health(context: Context) -> Part:
    """gRPC's health protocol."""
    servicer = Health()
    return Part(servicer, partial(health_pb2_grpc.add_HealthServicer_to_server, servicer))


async def introspection(context: Context) -> Part:
    """What the daemon is made of."""
    details = {("io.containerd.runtime.v2", "task"): partial(runtime_info, context.config.runtime.shims)}
    servicer = Introspection(context.root, context.records, details)
    return Part(servicer, partial(introspection_pb2_grpc.add_IntrospectionServicer_to_server, servicer))
