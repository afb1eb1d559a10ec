"""The list of what this daemon is made of, in the order of loading (containerd: cmd/containerd/builtins).

Types and ids are containerd's where it has the like, because clients look parts up by them.
"""

from __future__ import annotations

from collections.abc import Collection

from supervisor.daemon.plugins import Plugin

_PARTS = "supervisor.daemon.parts"
_SERVICES = "supervisor.daemon.services"

METADATA = "io.containerd.metadata.v1"
CONTENT = "io.containerd.content.v1"
SNAPSHOTTER = "io.containerd.snapshotter.v1"
EVENT = "io.containerd.event.v1"
GC = "io.containerd.gc.v1"
SERVICE = "io.containerd.service.v1"
DIFFER = "io.containerd.differ.v1"
MOUNT_MANAGER = "io.containerd.mount-manager.v1"
INTERNAL = "io.containerd.internal.v1"
SANDBOX_STORE = "io.containerd.sandbox.store.v1"
RUNTIME = "io.containerd.runtime.v2"
STREAMING = "io.containerd.streaming.v1"
TRANSFER = "io.containerd.transfer.v1"
GRPC = "io.containerd.grpc.v1"
TTRPC = "io.containerd.ttrpc.v1"

BUILTINS = (
    Plugin(EVENT, "exchange", f"{_PARTS}:exchange"),
    Plugin(INTERNAL, "opt", f"{_PARTS}:opt"),
    Plugin(CONTENT, "content", f"{_PARTS}:content_files"),
    Plugin(SNAPSHOTTER, "overlayfs", f"{_PARTS}:overlayfs"),
    Plugin(SNAPSHOTTER, "native", f"{_PARTS}:native"),
    Plugin(METADATA, "bolt", f"{_PARTS}:metadata", (EVENT,), essential=True),
    Plugin(INTERNAL, "backup", f"{_PARTS}:backup", (METADATA,)),
    Plugin(SERVICE, "content-service", f"{_PARTS}:content", (METADATA, CONTENT)),
    Plugin(SERVICE, "snapshots-service", f"{_PARTS}:snapshots", (METADATA, SNAPSHOTTER)),
    Plugin(DIFFER, "walking", f"{_PARTS}:differ", (METADATA,)),
    Plugin(MOUNT_MANAGER, "bolt", f"{_PARTS}:mount_manager", (METADATA,)),
    Plugin(GC, "scheduler", f"{_PARTS}:scheduler", (METADATA, SERVICE)),
    Plugin(SANDBOX_STORE, "local", f"{_PARTS}:sandbox_store", (METADATA,)),
    # In front of the tasks: shims that are taken over tell what happened meanwhile, and know best.
    Plugin(TTRPC, "events", f"{_PARTS}:shim_events", (METADATA,)),
    Plugin(RUNTIME, "task", f"{_PARTS}:tasks", (METADATA,)),
    Plugin(INTERNAL, "restart", f"{_PARTS}:restart", (EVENT, SERVICE, RUNTIME)),
    Plugin(GRPC, "namespaces", f"{_SERVICES}:namespaces", (METADATA,)),
    Plugin(GRPC, "containers", f"{_SERVICES}:containers", (METADATA,)),
    Plugin(GRPC, "images", f"{_SERVICES}:images", (METADATA, GC)),
    Plugin(GRPC, "leases", f"{_SERVICES}:leases", (METADATA, GC)),
    Plugin(GRPC, "gc", f"{_SERVICES}:gc", (GC,)),
    Plugin(GRPC, "content", f"{_SERVICES}:content", (SERVICE,)),
    Plugin(GRPC, "snapshots", f"{_SERVICES}:snapshots", (SERVICE,)),
    Plugin(GRPC, "mounts", f"{_SERVICES}:mounts", (MOUNT_MANAGER,)),
    Plugin(GRPC, "sandboxes", f"{_SERVICES}:sandboxes", (SANDBOX_STORE,)),
    Plugin(GRPC, "diff", f"{_SERVICES}:diff", (SERVICE, MOUNT_MANAGER)),
    Plugin(STREAMING, "manager", f"{_PARTS}:streams", (METADATA,)),
    Plugin(TRANSFER, "local", f"{_PARTS}:transfer_stores", (SERVICE, MOUNT_MANAGER)),
    Plugin(GRPC, "streaming", f"{_SERVICES}:streaming", (STREAMING,)),
    Plugin(GRPC, "transfer", f"{_SERVICES}:transfer", (TRANSFER, STREAMING)),
    Plugin(GRPC, "conversions", f"{_SERVICES}:conversions", (TRANSFER,)),
    Plugin(GRPC, "events", f"{_SERVICES}:events", (METADATA, EVENT)),
    Plugin(GRPC, "journal", f"{_SERVICES}:journal", (METADATA, EVENT)),
    Plugin(GRPC, "tasks", f"{_SERVICES}:tasks", (RUNTIME, SERVICE)),
    Plugin(GRPC, "exits", f"{_SERVICES}:exits", (METADATA,)),
    Plugin(GRPC, "restarts", f"{_SERVICES}:restarts", (METADATA, INTERNAL)),
    Plugin(GRPC, "version", f"{_SERVICES}:version"),
    Plugin(GRPC, "healthcheck", f"{_SERVICES}:health"),
    Plugin(GRPC, "introspection", f"{_SERVICES}:introspection"),
)


def enabled(drivers: Collection[str]) -> list[Plugin]:
    """The plugins to load when only these snapshot drivers are wanted; others are not even listed."""
    return [plugin for plugin in BUILTINS if plugin.type != SNAPSHOTTER or plugin.id in drivers]
