"""The whole schema of the store (containerd: core/metadata/buckets.go).

    namespaces (name)                       labels
    containers (namespace, id)              what a task is made of; the spec is an opaque payload
    images     (namespace, name)            a name for a descriptor
    blobs      (namespace, digest)          which namespace sees which blob of the content store
    ingests    (namespace, ref)             blobs on their way in
    snapshots  id                           one row per snapshot folder, unique by namespace, snapshotter, key
    leases     (namespace, id)              what keeps unreferenced objects alive; their resources are edges
    sandboxes  (namespace, id)              what a pod is to be
    mounts     (namespace, name)            mounts that the mount manager holds
    edges      (namespace, source, target)  all that garbage collection follows
    labels     (namespace, type, name, value, key)  the labels of all objects, for filters
    tasks      (namespace, id)              one row per task and its shim
    exits      id                           how processes ended, also those of former tasks
    exec_starts (namespace, container, exec)  since when execs run
    events     sequence                     the journal

Rows never leave `supervisor.metadata`: each module there converts them to values of `supervisor.model`.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import ForeignKey, Index, MetaData, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from supervisor.metadata.columns import (
    ActiveMounts,
    AnyMap,
    Instant,
    Key,
    Labels,
    Mounts,
    OptionalInstant,
    Payload,
    RowId,
    StringMap,
)
from supervisor.model.activation import ActiveMount
from supervisor.model.any import Any
from supervisor.model.mount import Mount

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of all rows."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {str: Text}


class NamespaceRow(Base):
    """A namespace; made by the first write into it."""

    __tablename__ = "namespaces"

    name: Mapped[Key]
    labels: Mapped[Labels]


class ContainerRow(Base):
    """A container's record; it says nothing about whether anything runs."""

    __tablename__ = "containers"
    __table_args__ = (Index(None, "namespace", "image", "id"),)

    namespace: Mapped[Key]
    id: Mapped[Key]
    image: Mapped[str]
    runtime_name: Mapped[str]
    runtime_options: Mapped[Payload]
    spec: Mapped[Payload]
    snapshotter: Mapped[str]
    snapshot_key: Mapped[str]
    sandbox: Mapped[str]
    labels: Mapped[Labels]
    extensions: Mapped[dict[str, Any]] = mapped_column(AnyMap)
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class ImageRow(Base):
    """A name for content; `expires_at` is its label `containerd.io/gc.expire`, parsed."""

    __tablename__ = "images"
    __table_args__ = (Index(None, "namespace", "digest", "name"),)

    namespace: Mapped[Key]
    name: Mapped[Key]
    media_type: Mapped[str]
    digest: Mapped[str]
    size: Mapped[int]
    annotations: Mapped[dict[str, str]] = mapped_column(StringMap)
    labels: Mapped[Labels]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]
    expires_at: Mapped[OptionalInstant]


class BlobRow(Base):
    """A blob as one namespace sees it; the file is shared by all."""

    __tablename__ = "blobs"
    __table_args__ = (Index(None, "digest"),)

    namespace: Mapped[Key]
    digest: Mapped[Key]
    size: Mapped[int]
    labels: Mapped[Labels]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class IngestRow(Base):
    """A blob on its way in; `shared` when its bytes are those of a blob of another namespace."""

    __tablename__ = "ingests"

    namespace: Mapped[Key]
    ref: Mapped[Key]
    expected: Mapped[str]
    total: Mapped[int]
    shared: Mapped[bool]
    started_at: Mapped[Instant]
    updated_at: Mapped[Instant]
    expires_at: Mapped[OptionalInstant]


class SnapshotRow(Base):
    """A snapshot: the namespaced record and the driver's folder `id` in one.

    `state` is `making` from before the folder exists until it does, then `ready`.
    """

    __tablename__ = "snapshots"
    __table_args__ = (
        UniqueConstraint("namespace", "snapshotter", "key"),
        Index(None, "parent_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    namespace: Mapped[str]
    snapshotter: Mapped[str]
    key: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("snapshots.id"))
    kind: Mapped[str]
    state: Mapped[str]
    labels: Mapped[Labels]
    size: Mapped[int]
    inodes: Mapped[int]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class LeaseRow(Base):
    """A lease; `expires_at` is its label `containerd.io/gc.expire`, parsed."""

    __tablename__ = "leases"

    namespace: Mapped[Key]
    id: Mapped[Key]
    labels: Mapped[Labels]
    created_at: Mapped[Instant]
    expires_at: Mapped[OptionalInstant]


class SandboxRow(Base):
    """A sandbox's record; it says nothing about whether anything runs."""

    __tablename__ = "sandboxes"

    namespace: Mapped[Key]
    id: Mapped[Key]
    runtime_name: Mapped[str]
    runtime_options: Mapped[Payload]
    spec: Mapped[Payload]
    labels: Mapped[Labels]
    extensions: Mapped[dict[str, Any]] = mapped_column(AnyMap)
    sandboxer: Mapped[str]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class MountRow(Base):
    """An activation of the mount manager; its mounts are in the folder `id`.

    States: `making` until all is mounted, `active`, and `ending` from the first unmount on. `leased` when
    a lease was to hold it from the beginning.
    """

    __tablename__ = "mounts"
    __table_args__ = (UniqueConstraint("namespace", "name"), {"sqlite_autoincrement": True})

    id: Mapped[RowId]
    namespace: Mapped[str]
    name: Mapped[str]
    state: Mapped[str]
    leased: Mapped[bool]
    active: Mapped[tuple[ActiveMount, ...]] = mapped_column(ActiveMounts)
    system: Mapped[tuple[Mount, ...]] = mapped_column(Mounts)
    labels: Mapped[Labels]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class EdgeRow(Base):
    """What keeps what: source and target are nodes of one namespace.

    Node types: `lease`, `image`, `container`, `content`, `ingest`, `sandbox`, `mount`,
    `snapshot/<snapshotter>`.
    Kinds: `lease` (a lease's resource), `target` (an image's blob, a container's snapshot, an ingest's
    expected blob), `parent`, `ref` and `bref` and `cond` (labels `containerd.io/gc.*`; for `bref` the
    source is the object that lives as long as the target does), `root` (label `containerd.io/gc.root`, or
    an activation that nothing else is to keep: kept for itself, so without a target).
    """

    __tablename__ = "edges"
    __table_args__ = (
        Index(None, "namespace", "target_type", "target_key"),
        Index("ix_edges_roots", "namespace", sqlite_where=text("kind = 'root'")),
        Index(
            "ix_edges_back_references",
            "namespace",
            "target_type",
            "target_key",
            sqlite_where=text("kind = 'bref'"),
        ),
        {"sqlite_with_rowid": False},
    )

    namespace: Mapped[Key]
    source_type: Mapped[Key]
    source_key: Mapped[Key]
    kind: Mapped[Key]
    target_type: Mapped[Key]
    target_key: Mapped[Key]
    condition: Mapped[str]


class LabelRow(Base):
    """One label of one object, written by triggers only (`supervisor.metadata.labels`).

    Types are those of edges' nodes, and `annotation` for the annotations of an image's target.
    """

    __tablename__ = "labels"
    __table_args__ = ({"sqlite_with_rowid": False},)

    namespace: Mapped[Key]
    type: Mapped[Key]
    name: Mapped[Key]
    value: Mapped[Key]
    key: Mapped[Key]


class TaskRow(Base):
    """A task and the shim that holds it. States: creating, created, running, stopped, deleting."""

    __tablename__ = "tasks"

    namespace: Mapped[Key]
    id: Mapped[Key]
    state: Mapped[str]
    bundle: Mapped[str]
    runtime: Mapped[str]
    shim_binary: Mapped[str]
    shim_address: Mapped[str]
    shim_version: Mapped[int]
    shim_protocol: Mapped[str]
    pid: Mapped[int]
    stdin: Mapped[str]
    stdout: Mapped[str]
    stderr: Mapped[str]
    terminal: Mapped[bool]
    created_at: Mapped[Instant]
    started_at: Mapped[OptionalInstant]
    oom_at: Mapped[OptionalInstant]


class ExitRow(Base):
    """How one process ended; `exec_id` is empty for the task's first process.

    `past` once the task, or the exec, has been deleted: a later one of that name is not meant.
    """

    __tablename__ = "exits"
    __table_args__ = (
        Index(None, "namespace", "container_id"),
        Index("ix_exits_past", "past", "exited_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    namespace: Mapped[str]
    container_id: Mapped[str]
    exec_id: Mapped[str]
    pid: Mapped[int]
    exit_status: Mapped[int]
    exited_at: Mapped[Instant]
    signal: Mapped[int] = mapped_column(server_default="0")
    oom_killed: Mapped[bool] = mapped_column(server_default="0")
    error: Mapped[str] = mapped_column(server_default="")
    started_at: Mapped[OptionalInstant]
    past: Mapped[bool] = mapped_column(server_default="0")


class ExecStartRow(Base):
    """Since when an exec runs; gone with its exit."""

    __tablename__ = "exec_starts"

    namespace: Mapped[Key]
    container_id: Mapped[Key]
    exec_id: Mapped[Key]
    started_at: Mapped[Instant]


class RestartRow(Base):
    """The attempts in a row to have a container run again, and when the last one was made."""

    __tablename__ = "restarts"

    namespace: Mapped[Key]
    container_id: Mapped[Key]
    count: Mapped[int]
    last_at: Mapped[OptionalInstant]


class EventRow(Base):
    """One event of the journal; written with the change that it tells of.

    `timestamp` is its sender's, `recorded_at` ours.
    """

    __tablename__ = "events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    sequence: Mapped[RowId]
    timestamp: Mapped[Instant]
    namespace: Mapped[str]
    topic: Mapped[str]
    event: Mapped[Payload]
    recorded_at: Mapped[Instant] = mapped_column(server_default="0")
