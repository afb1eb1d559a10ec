"""The shim's command line: Go-style flags, then an action word (containerd: pkg/shim, `parseFlags`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from supervisor.errors import InvalidArgument

_SWITCHES = {"debug": "debug", "v": "version", "info": "info"}
_VALUES = {
    "namespace": "namespace",
    "id": "id",
    "address": "address",
    "publish-binary": "publish_binary",
    "bundle": "bundle",
    "socket": "socket",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What the caller asked for; `action` is `start`, `delete` or empty."""

    namespace: str = ""
    id: str = ""
    address: str = ""
    publish_binary: str = ""
    bundle: str = ""
    socket: str = ""
    debug: bool = False
    version: bool = False
    info: bool = False
    action: str = ""


def parse(arguments: Sequence[str]) -> Flags:
    """Read `-flag value`, `-flag=value` with one or two dashes, and the action; raises InvalidArgument."""
    flags = Flags()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        name, separator, value = rest.pop(0).removeprefix("-").removeprefix("-").partition("=")
        if name in _SWITCHES:
            flags = replace(flags, **{_SWITCHES[name]: value not in ("false", "0") if separator else True})
        elif name in _VALUES:
            flags = replace(flags, **{_VALUES[name]: value if separator else _take(rest, name)})
        else:
            raise InvalidArgument(f"flag provided but not defined: -{name}")
    return replace(flags, action=rest[0] if rest else "")


def _take(rest: list[str], name: str) -> str:
    if not rest:
        raise InvalidArgument(f"flag needs an argument: -{name}")
    return rest.pop(0)
