"""What a snapshot is, and what a driver of snapshots does (containerd: core/snapshots/snapshotter.go).

A snapshot is a state of a file tree. It is ACTIVE (writable) or VIEW (read-only), on a committed parent
or on nothing; committing an active one makes it COMMITTED, which others can have for their parent.

The rules of names, parents and namespaces are in `supervisor.metadata.snapshots`, with the rows. A
driver is what differs from one storage to another: it knows snapshots by number only, keeps their
files, and says how they are mounted. It never mounts anything itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from supervisor.model.instant import Nanoseconds
from supervisor.model.mount import Mount

LABEL_PREFIX = "containerd.io/snapshot"
LABEL_REF = "containerd.io/snapshot.ref"
"""The name that an unpacker will commit under; if it is there already the work is done (contract 7.4)."""

REBASE = "rebase"
"""Capability: a snapshot without a parent can be given one when it is committed."""


class Kind(Enum):
    """The three lives of a snapshot."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Usage:
    """Allocated bytes and inodes of one snapshot, without its parents."""

    size: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class Info:
    """A snapshot as its namespace sees it; `parent` is empty at the root of a chain."""

    name: str
    parent: str
    kind: Kind
    labels: Mapping[str, str]
    created_at: Nanoseconds
    updated_at: Nanoseconds

    def field(self, path: tuple[str, ...]) -> str | None:
        """The text of a field for filters (contract 2)."""
        match path:
            case ("name", *_):
                return self.name
            case ("parent", *_):
                return self.parent
            case ("kind", *_):
                return self.kind.value
            case ("labels", *key):
                return self.labels.get(".".join(key))
        return None


@dataclass(frozen=True, slots=True)
class Layer:
    """A snapshot as a driver sees it: its number, those of its ancestors from the nearest on, and the
    labels that are meant for drivers.
    """

    id: int
    kind: Kind
    parents: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Snapshotter(Protocol):
    """A driver. Its methods block, may be called from many threads, and are never called for one
    snapshot at the same time, but for `mounts`, `usage` and `cleanup`.
    """

    @property
    def name(self) -> str:
        """The name that clients choose it by."""
        ...

    @property
    def root(self) -> str:
        """The folder of the driver's files, as introspection tells it."""
        ...

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it can beyond the common, in the words of introspection."""
        ...

    def check(self, labels: Mapping[str, str]) -> None:
        """Raise SupervisorError when labels that are meant for this driver cannot be understood."""
        ...

    def create(self, layer: Layer) -> None:
        """Make the files of a new ACTIVE or VIEW snapshot. After a failure `remove` is called."""
        ...

    def mounts(self, layer: Layer) -> tuple[Mount, ...]:
        """How to reach its files; the same answer for as long as it lives. Touches nothing."""
        ...

    def usage(self, layer: Layer) -> Usage:
        """Measure an ACTIVE snapshot as it is now."""
        ...

    def commit(self, layer: Layer) -> Usage:
        """Make the files of an ACTIVE snapshot durable and measure it; once this returns, no power
        failure may take any of them away. Called again if the commit was not written down.
        """
        ...

    def remove(self, number: int) -> None:
        """Put the files of a snapshot out of sight, quickly; if there are none, all is well."""
        ...

    def cleanup(self) -> None:
        """Delete what was put out of sight, now or before a crash. May take long."""
        ...

    def numbers(self) -> set[int]:
        """The numbers of all snapshots that have files here."""
        ...
