"""Mounts that the mount manager holds under a name (containerd: core/mount, `ActivationInfo`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supervisor.model.instant import Nanoseconds
from supervisor.model.mount import Mount
from supervisor.model.predicate import Path, entry


@dataclass(frozen=True, slots=True)
class ActiveMount:
    """A mount that was performed: on `mount_point`, or, of a loop device, named by the link there."""

    mount: Mount
    mounted_at: Nanoseconds
    mount_point: str
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Activation:
    """What was performed, in order, and what is left for whoever asked."""

    name: str
    active: tuple[ActiveMount, ...] = ()
    system: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names."""
        match path:
            case ("name", *_):
                return self.name
            case ("labels", *_):
                return entry(self.labels, path[1:])
        return None
