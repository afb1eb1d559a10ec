"""Plugins: what the daemon is made of, as data (containerd: plugins, cmd/containerd/builtins).

A plugin is a record in one list; its loader is imported when it is loaded, and importing a module
registers nothing. One that fails to load is recorded with its error and the daemon goes on: what
depends on it fails in turn, and its gRPC service is simply absent.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from supervisor.daemon.config import Config
from supervisor.errors import FailedPrecondition
from supervisor.http2.methods import Servicer
from supervisor.model.platform import Platform
from supervisor.model.plugin import PluginRecord
from supervisor.ttrpc.status import classify

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A part that can be loaded; `loader` is `module:function` of a Loader.

    Without an `essential` one there is nothing to serve: its failure is the daemon's.
    """

    type: str
    id: str
    loader: str
    requires: tuple[str, ...] = ()
    essential: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A loaded plugin: what others get of it, its gRPC service, and what introspection tells of it."""

    instance: object
    servicer: Servicer | None = None
    platforms: tuple[Platform, ...] = ()
    capabilities: tuple[str, ...] = ()
    exports: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Context:
    """What a loader is given: settings, folders, the parts before it, and a stack for what must be closed."""

    config: Config
    stack: AsyncExitStack
    parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    records: list[PluginRecord] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The folder of what must survive a reboot."""
        return Path(self.config.root)

    @property
    def state(self) -> Path:
        """The folder of what need not."""
        return Path(self.config.state)

    def get(self, kind: type[T]) -> T:
        """The one loaded instance of a class; raises FailedPrecondition when there is none."""
        for part in self.parts.values():
            if isinstance(part.instance, kind):
                return part.instance
        raise FailedPrecondition(f"a part that this one needs did not load: {kind.__name__}")

    def of_type(self, plugin_type: str) -> Mapping[str, object]:
        """The loaded instances of a plugin type, by id."""
        return {id_: part.instance for (type_, id_), part in self.parts.items() if type_ == plugin_type}


Loader = Callable[[Context], Awaitable[Part]]


async def load_all(plugins: Sequence[Plugin], context: Context) -> None:
    """Load plugins in the order of the list; only the failure of an essential one is raised."""
    for plugin in plugins:
        context.records.append(await _load(plugin, context))


async def _load(plugin: Plugin, context: Context) -> PluginRecord:
    module, _, function = plugin.loader.partition(":")
    try:
        loader: Loader = getattr(importlib.import_module(module), function)
        part = await loader(context)
    except Exception as error:  # the border to every part there is: one that fails must not stop the rest
        if plugin.essential:
            raise
        log.error("plugin %s %s did not load: %s", plugin.type, plugin.id, error, exc_info=error)
        return PluginRecord(plugin.type, plugin.id, plugin.requires, error=classify(error))
    context.parts[plugin.type, plugin.id] = part
    log.debug("plugin %s %s loaded", plugin.type, plugin.id)
    return PluginRecord(
        plugin.type, plugin.id, plugin.requires, part.platforms, part.capabilities, part.exports
    )
