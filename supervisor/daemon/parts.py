"""Loaders of the daemon's inner parts: each makes one and says what introspection tells of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from supervisor.blocking import in_background, in_thread
from supervisor.content.local import LocalStore
from supervisor.daemon.backing_up import BackupKeeper
from supervisor.daemon.config import Diff as DiffConfig
from supervisor.daemon.config import Events as EventsConfig
from supervisor.daemon.plugins import Context, Part
from supervisor.daemon.repeating import repeating
from supervisor.diff.apply import Applied, Processing, apply, whole
from supervisor.diff.compression import Readable
from supervisor.diff.processors import Processor
from supervisor.errors import NotFound
from supervisor.events.exchange import Exchange
from supervisor.gc.collector import Collector
from supervisor.gc.schedule import Settings
from supervisor.metadata import content_reconcile, events, leases
from supervisor.metadata.blobs import Sharing
from supervisor.metadata.content_store import ContentStore
from supervisor.metadata.database import Database
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.snapshots import Snapshots
from supervisor.metadata.store import Store
from supervisor.model.identifiers import Namespace
from supervisor.model.instant import SECOND, Nanoseconds, now
from supervisor.model.mount import Mount
from supervisor.model.restart import POLICIES
from supervisor.oci.platform import host
from supervisor.recovery import opening, taking_up
from supervisor.recovery.layout import Layout
from supervisor.services import ttrpc_events
from supervisor.services.restarts import RestartMonitor
from supervisor.services.scheduler import Scheduler
from supervisor.services.streams import Streams
from supervisor.shimv2.manager import Manager
from supervisor.shimv2.settings import BUNDLES, ShimSettings
from supervisor.snapshots.native import NativeSnapshotter
from supervisor.snapshots.overlay import OverlaySnapshotter
from supervisor.snapshots.snapshotter import Snapshotter
from supervisor.transfer.stores import Stores, reclaim
from supervisor.ttrpc.aio import Server

CONTENT = "io.containerd.content.v1"
SNAPSHOTTER = "io.containerd.snapshotter.v1"
MOUNT_MANAGER = "io.containerd.mount-manager.v1"

TRIM_SECONDS = 10.0
LEASE_CHECK_SECONDS = 10.0
"""How often the journal forgets; a storm may exceed its bounds for so long."""

DISTRIBUTION = "container-supervisor"
"""Its metadata holds the version that this daemon reports."""


def own_version() -> str:
    """The version of this daemon."""
    return version(DISTRIBUTION)


async def exchange(context: Context) -> Part:
    """Tells events to subscribers."""
    made = Exchange(asyncio.get_running_loop(), queue_bound=context.config.events.subscriber_bound)
    return Part(made)


async def opt(context: Context) -> Part:
    """A folder that clients install runtimes' binaries in (`ctr install`); what they put there is found.

    (containerd: plugins/services/opt.)
    """
    folder = context.root / "opt"
    for part, variable in (("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")):
        (folder / part).mkdir(mode=0o711, parents=True, exist_ok=True)
        found = os.environ.get(variable)
        os.environ[variable] = f"{folder / part}:{found}" if found else str(folder / part)
    return Part(None, exports={"path": str(folder)})


async def content_files(context: Context) -> Part:
    """The files of the content store."""
    root = context.root / "io.containerd.content.v1.content"
    return Part(await in_thread(LocalStore, root), exports={"root": str(root)})


async def overlayfs(context: Context) -> Part:
    """Snapshots as overlay mounts."""
    options = context.config.snapshots.overlay_mount_options
    root = context.root / f"{SNAPSHOTTER}.overlayfs"
    driver = await in_thread(OverlaySnapshotter, root, mount_options=options)
    await in_thread(driver.check_supported)
    return _snapshotter(driver)


async def native(context: Context) -> Part:
    """Snapshots as copies."""
    return _snapshotter(await in_thread(NativeSnapshotter, context.root / f"{SNAPSHOTTER}.native"))


def _snapshotter(driver: Snapshotter) -> Part:
    return Part(driver, platforms=(host(),), capabilities=driver.capabilities, exports={"root": driver.root})


async def metadata(context: Context) -> Part:
    """The store: opened, migrated, and agreed with the files."""
    layout = Layout(context.root)
    database = await in_thread(opening.open_store, layout)
    context.stack.push_async_callback(in_thread, opening.close_store, layout, database)
    files = context.of_type(CONTENT).get("content")
    known = files if isinstance(files, LocalStore) else None
    await in_thread(taking_up.reconcile, layout, database, known, context.state / BUNDLES)
    database.tell(context.get(Exchange).tell)
    store = Store(database)
    trim = partial(_trim, store, context.config.events)
    await context.stack.enter_async_context(repeating(trim, TRIM_SECONDS))
    policy = context.config.content.sharing_policy
    return Part(store, exports={"policy": policy, "path": str(layout.store)})


async def _trim(store: Store, settings: EventsConfig) -> None:
    """Let the journal forget what it need not keep, in transactions so short that others fit between."""
    before = Nanoseconds(now() - int(settings.keep_age * SECOND)) if settings.keep_age else None
    while await store.write(events.trim, settings.keep, before):
        pass


async def content(context: Context) -> Part:
    """Blobs as namespaces see them."""
    sharing = Sharing(context.config.content.sharing_policy)
    store = ContentStore(context.get(Store).database, context.get(LocalStore), sharing)
    if not taking_up.is_due(Layout(context.root)):
        await in_thread(content_reconcile.reconcile, store)
    return Part(store)


async def snapshots(context: Context) -> Part:
    """Snapshots as namespaces see them."""
    drivers = [d for d in context.of_type(SNAPSHOTTER).values() if isinstance(d, Snapshotter)]
    made = Snapshots(context.get(Store).database, drivers, later=in_background)
    if not taking_up.is_due(Layout(context.root)):
        await in_thread(made.reconcile)
    return Part(made)


async def backup(context: Context) -> Part:
    """Copies the store now and then."""
    keeper = BackupKeeper(context.get(Store).database, Layout(context.root).backups, context.config.backup)
    return Part(await context.stack.enter_async_context(keeper))


async def scheduler(context: Context) -> Part:
    """Collects garbage."""
    store = context.get(ContentStore)
    mounts = context.of_type(MOUNT_MANAGER).get("bolt")
    collector = Collector(store, context.get(Snapshots), mounts if isinstance(mounts, MountManager) else None)
    settings = Settings(**asdict(context.config.gc))
    made = await context.stack.enter_async_context(Scheduler(collector, store.database, settings))
    exports = {
        "PauseThreshold": f"{settings.pause_threshold:g}",
        "DeletionThreshold": str(settings.deletion_threshold),
        "MutationThreshold": str(settings.mutation_threshold),
        "ScheduleDelay": f"{settings.schedule_delay:g}s",
    }
    return Part(made, exports=exports)


async def differ(context: Context) -> Part:
    """Unpacks layers; the diff service does it, clients look for this name."""
    return Part(None, platforms=(host(),))


async def streams(context: Context) -> Part:
    """Streams that clients open for their transfers; those under a lease end with it."""
    made = Streams()
    ending = partial(_end_streams, made, context.get(Store).database)
    await context.stack.enter_async_context(repeating(ending, LEASE_CHECK_SECONDS))
    return Part(made)


async def _end_streams(streams: Streams, database: Database) -> None:
    for namespace, lease in streams.leases():
        try:
            await in_thread(database.read, partial(leases.check, namespace=namespace, lease_id=lease))
        except NotFound:
            streams.end_leased(namespace, lease)


def processing_of(settings: DiffConfig) -> Processing:
    """What layers go through, and how large they may be."""
    processors = [Processor(name, **asdict(one)) for name, one in settings.stream_processors.items()]
    return Processing(processors, limits=settings.limits)


async def transfer_stores(context: Context) -> Part:
    """What transfers work on."""
    spool, mount_points = context.root / "spool", context.root / "tmpmounts"
    await in_thread(spool.mkdir, mode=0o700, exist_ok=True)
    settings, manager = context.config.diff, context.get(MountManager)
    processing = processing_of(settings)

    def unpacked(
        namespace: Namespace, blob: Readable, media_type: str, mounts: Sequence[Mount], apart: bool
    ) -> Applied:
        with manager.ready(namespace, mounts) as plain, whole(blob, media_type, processing, spool) as file:
            return apply(
                file,
                media_type,
                plain,
                tmp_root=mount_points,
                sync=settings.sync_fs,
                processing=processing,
                apart=apart,
            )

    unpacks = context.config.transfer.unpacks or os.cpu_count() or 1
    stores = Stores(
        context.get(ContentStore), context.get(Snapshots), unpacked, spool, unpacks, settings.limits
    )
    await in_thread(reclaim, stores)
    return Part(stores)


async def mount_manager(context: Context) -> Part:
    """Mounts held under names; what a crash left of them is undone."""
    targets = context.state / f"{MOUNT_MANAGER}.bolt" / "t"
    made = await in_thread(MountManager, context.get(Store).database, targets, (context.root,))
    await in_thread(made.reconcile)
    return Part(made)


async def sandbox_store(context: Context) -> Part:
    """Sandboxes' records; the store holds them, clients look for this name."""
    return Part(None)


async def tasks(context: Context) -> Part:
    """Tasks and their shims; those that run already are taken over."""
    address = context.config.grpc.address
    settings = ShimSettings(
        root=context.root,
        state=context.state,
        grpc_address=address,
        ttrpc_address=f"{address}.ttrpc",
        daemon_binary=str(Path(sys.executable).with_name(DISTRIBUTION)),
        version=own_version(),
        log_level=context.config.log.level,
        runtimes=context.config.runtime.shims,
        timeouts=context.config.timeouts,
    )
    manager = await context.stack.enter_async_context(Manager(settings, context.get(Store)))
    return Part(manager, platforms=(host(),), exports={"log-uri-schemes": "binary,file"})


async def restart(context: Context) -> Part:
    """Has containers run again that ended, if their labels say so."""
    monitor = RestartMonitor(
        context.get(Store),
        context.get(Manager),
        context.get(Snapshots),
        context.get(Exchange),
        context.config.restart,
    )
    return Part(await context.stack.enter_async_context(monitor), capabilities=POLICIES)


async def shim_events(context: Context) -> Part:
    """The socket on which shims tell what happened."""
    path = Path(f"{context.config.grpc.address}.ttrpc")
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    server = Server(path, ttrpc_events.services(context.get(Store)))
    return Part(await context.stack.enter_async_context(server))
