"""What may be done by one of the daemon's sockets: file permissions become authorization.

Who may connect is what the socket's owner and mode say; what they may do then is decided here, on every
call, whichever client made it. A scope names namespaces and methods, by patterns of the shell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from supervisor.errors import InvalidArgument, PermissionDenied
from supervisor.http2.calls import Call
from supervisor.services.context import NAMESPACE_KEY

READ = "read"
"""Stands for the methods that change nothing."""

_READING = (
    "*/Get",
    "*/List",
    "*/ListStream",
    "*/ListPids",
    "*/ListStatuses",
    "*/ListResources",
    "*/Info",
    "*/Stat",
    "*/Status",
    "*/Usage",
    "*/Metrics",
    "*/Wait",
    "*/Subscribe",
    "*/Cursor",
    "*/Explain",
    "*/Plugins",
    "*/PluginInfo",
    "*/Server",
    "*/Check",
    "*/Watch",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.snapshots.v1.Snapshots/Mounts",
    "/containerd.services.version.v1.Version/Version",
)

_BEYOND = (
    "/containerd.services.namespaces.v1.Namespaces/*",
    "/containerd.services.events.v1.Events/Subscribe",
    "/containerd.services.events.v1.Events/Forward",
    "/containerd.services.snapshots.v1.Snapshots/Cleanup",
    "/supervisor.services.events.v1.Journal/*",
    "/supervisor.services.gc.v1.Collector/Plan",
    "/supervisor.services.gc.v1.Collector/Run",
)
"""Methods that reach beyond the namespace that a call names."""

_NOWHERE = (
    "/containerd.services.version.v1.Version/*",
    "/containerd.services.introspection.v1.Introspection/*",
    "/grpc.health.v1.Health/*",
)
"""Methods that are of no namespace."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a socket is for. Without patterns of a kind everything of it is allowed."""

    name: str
    namespaces: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    """`read`, or patterns of `/package.Service/Method`."""

    def admit(self, call: Call) -> None:
        """Raise PermissionDenied for a call that this socket is not for."""
        if self.methods and not _matches(call.method, self._patterns()):
            raise PermissionDenied(
                f"{call.method} by the socket {self.name}: it is none of the methods that this socket is for"
            )
        if not self.namespaces or _matches(call.method, _NOWHERE):
            return
        if _matches(call.method, _BEYOND):
            raise PermissionDenied(
                f"{call.method} by the socket {self.name}: it reaches beyond the namespaces that this socket"
                " is for"
            )
        namespace = call.metadata.get(NAMESPACE_KEY, "")
        if not _matches(namespace, self.namespaces):
            raise PermissionDenied(
                f"namespace {namespace[:100]!r} by the socket {self.name}: this socket is for"
                f" {', '.join(self.namespaces)}"
            )

    def _patterns(self) -> Iterable[str]:
        for pattern in self.methods:
            if pattern == READ:
                yield from _READING
            else:
                yield pattern


def check(scope: Scope) -> None:
    """Raise InvalidArgument for a pattern of methods that can match none."""
    for pattern in scope.methods:
        if pattern != READ and not pattern.startswith(("/", "*")):
            raise InvalidArgument(
                f"sockets.{scope.name}.methods: {pattern!r} must be {READ!r}, or a pattern like"
                " '/containerd.services.images.v1.Images/*'"
            )


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
