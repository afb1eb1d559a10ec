"""A plugin as introspection tells of it (containerd: plugins, api/services/introspection). Contract 12."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supervisor.errors import SupervisorError
from supervisor.model.platform import Platform
from supervisor.model.predicate import Path, present


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """One part of the daemon. `error` tells why it cannot be used; `skip plugin` in it, that it need not.

    `capabilities` and `exports` are what clients choose by (contract 12.2).
    """

    type: str
    id: str
    requires: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    capabilities: tuple[str, ...] = ()
    exports: Mapping[str, str] = field(default_factory=dict)
    error: SupervisorError | None = None

    def field(self, path: Path) -> str | None:
        """The field that a filter's path names."""
        match path:
            case ("type", *_):
                return present(self.type)
            case ("id", *_):
                return present(self.id)
        return None
