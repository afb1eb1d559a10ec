"""The shim's command line: Go-style flags, then an action word (containerd: pkg/shim, `parseFlags`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from supervisor.errors import InvalidArgument

_SWITCHES = ("debug", "v", "info")
_VALUES = ("namespace", "id", "address", "publish-binary", "bundle", "socket")
_TRUE = ("true", "1", "t", "T", "TRUE", "True")


@dataclass(frozen=True, slots=True)
class Flags:
    """What the caller asked for; `action` is `start`, `delete` or empty."""

    namespace: str = ""
    id: str = ""
    address: str = ""
    bundle: str = ""
    debug: bool = False
    version: bool = False
    info: bool = False
    action: str = ""


def parse(arguments: Sequence[str]) -> Flags:
    """Read `-flag value`, `-flag=value` with one or two dashes, and the action; raises InvalidArgument."""
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        name, separator, value = rest.pop(0).removeprefix("-").removeprefix("-").partition("=")
        if name not in _SWITCHES + _VALUES:
            raise InvalidArgument(f"flag provided but not defined: -{name}")
        values[name] = value if separator else _implied(name, rest)
    return _flags(values, action=rest[0] if rest else "")


def _implied(name: str, rest: list[str]) -> str:
    """The value of a flag that came without `=`: that of a switch is its presence."""
    if name in _SWITCHES:
        return "true"
    if not rest:
        raise InvalidArgument(f"flag needs an argument: -{name}")
    return rest.pop(0)


def _flags(values: Mapping[str, str], action: str) -> Flags:
    return Flags(
        namespace=values.get("namespace", ""),
        id=values.get("id", ""),
        address=values.get("address", ""),
        bundle=values.get("bundle", ""),
        debug=values.get("debug") in _TRUE,
        version=values.get("v") in _TRUE,
        info=values.get("info") in _TRUE,
        action=action,
    )
