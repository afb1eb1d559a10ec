"""Loaders of the gRPC services: each is a servicer on the parts it needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from supervisor.blocking import in_thread
from supervisor.daemon.parts import own_version, processing_of
from supervisor.daemon.plugins import Context, Part
from supervisor.daemon.repeating import repeating
from supervisor.events.exchange import Exchange
from supervisor.events.places import Places
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.exits import Retention, trim
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshots import Snapshots as SnapshotStore
from supervisor.metadata.store import Store
from supervisor.services.containers import Containers
from supervisor.services.content import Content
from supervisor.services.conversions import Conversions
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
from supervisor.services.restart_list import Restarts
from supervisor.services.restarts import RestartMonitor
from supervisor.services.runtime_info import runtime_info
from supervisor.services.sandbox_store import SandboxStore
from supervisor.services.scheduler import Scheduler
from supervisor.services.snapshots import Snapshots
from supervisor.services.streaming import Streaming
from supervisor.services.streams import Streams
from supervisor.services.tasks import Tasks
from supervisor.services.transfer import Settings, Transfer
from supervisor.services.version import Version
from supervisor.shimv2.manager import Manager
from supervisor.transfer.stores import Stores
from supervisor.transfer.verifiers import Verifiers

DAY_SECONDS = 86_400
TRIM_SECONDS = 600.0
"""Between two looks for exit records that are too old or too many."""


async def namespaces(context: Context) -> Part:
    """Namespaces."""
    servicer = Namespaces(context.get(Store))
    return Part(servicer, servicer)


async def containers(context: Context) -> Part:
    """Containers' records."""
    servicer = Containers(context.get(Store))
    return Part(servicer, servicer)


async def images(context: Context) -> Part:
    """Images."""
    servicer = Images(context.get(Store), context.get(Scheduler))
    return Part(servicer, servicer)


async def leases(context: Context) -> Part:
    """Leases."""
    servicer = Leases(context.get(Store), context.get(Scheduler))
    return Part(servicer, servicer)


async def gc(context: Context) -> Part:
    """Collection explained, planned and run."""
    servicer = Collector(context.get(Scheduler))
    return Part(servicer, servicer)


async def content(context: Context) -> Part:
    """Blobs."""
    servicer = Content(context.get(ContentStore))
    return Part(servicer, servicer)


async def snapshots(context: Context) -> Part:
    """Snapshots."""
    servicer = Snapshots(context.get(SnapshotStore))
    return Part(servicer, servicer)


async def mounts(context: Context) -> Part:
    """The mount manager."""
    servicer = Mounts(context.get(MountManager))
    return Part(servicer, servicer)


async def sandboxes(context: Context) -> Part:
    """Sandboxes' records."""
    servicer = SandboxStore(context.get(Store))
    return Part(servicer, servicer)


async def diff(context: Context) -> Part:
    """Layers applied to snapshots."""
    folder = context.root / "tmpmounts"
    await in_thread(_remove_empty_folders, folder)
    settings = context.config.diff
    servicer = Diff(
        context.get(ContentStore),
        folder,
        mounts=context.get(MountManager),
        sync_fs=settings.sync_fs,
        processing=processing_of(settings),
    )
    return Part(servicer, servicer)


def _remove_empty_folders(folder: Path) -> None:
    """Mount points of workers that were killed; what was mounted went with their mount namespaces."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.iterdir():
        left.rmdir()


async def streaming(context: Context) -> Part:
    """Streams."""
    servicer = Streaming(context.get(Streams))
    return Part(servicer, servicer)


async def transfer(context: Context) -> Part:
    """Images moved."""
    config = context.config.transfer
    hosts = Path(config.hosts) if config.hosts else None
    settings = Settings(context.config.registry, hosts, config.concurrent, config.snapshotter)
    verifiers = Verifiers(Path(config.verifiers), config.max_verifiers, config.verifier_seconds)
    servicer = Transfer(context.get(Stores), context.get(Streams), settings, verifiers.check)
    return Part(servicer, servicer)


async def conversions(context: Context) -> Part:
    """Images converted."""
    servicer = Conversions(context.get(Stores))
    return Part(servicer, servicer)


async def events(context: Context) -> Part:
    """Events."""
    places = await in_thread(Places, context.state / "subscribers")
    servicer = Events(context.get(Store), context.get(Exchange), places)
    return Part(servicer, servicer)


async def journal(context: Context) -> Part:
    """The journal of events."""
    servicer = Journal(context.get(Store), context.get(Exchange))
    return Part(servicer, servicer)


async def tasks(context: Context) -> Part:
    """Tasks."""
    servicer = Tasks(context.get(Store), context.get(Manager), context.get(ContentStore))
    return Part(servicer, servicer)


async def exits(context: Context) -> Part:
    """How processes ended."""
    store, limits = context.get(Store), context.config.tasks
    retention = Retention(limits.keep_exits, limits.keep_exits_days * DAY_SECONDS)
    await context.stack.enter_async_context(repeating(partial(store.write, trim, retention), TRIM_SECONDS))
    servicer = Exits(store)
    return Part(servicer, servicer)


async def restarts(context: Context) -> Part:
    """What the restart monitor knows."""
    servicer = Restarts(context.get(Store), context.get(RestartMonitor))
    return Part(servicer, servicer)


async def version(context: Context) -> Part:
    """The version."""
    servicer = Version(own_version())
    return Part(servicer, servicer)


async def health(context: Context) -> Part:
    """gRPC's health protocol."""
    servicer = Health()
    return Part(servicer, servicer)


async def introspection(context: Context) -> Part:
    """What the daemon is made of."""
    details = {("io.containerd.runtime.v2", "task"): partial(runtime_info, context.config.runtime.shims)}
    servicer = Introspection(context.root, context.records, details)
    return Part(servicer, servicer)
