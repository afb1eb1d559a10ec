"""Reading a `hosts.toml`, or Docker's certificate files in its place (containerd: docs/hosts.md).

A file that cannot be read is an error, where containerd goes on without it: a mirror or a CA that is
silently ignored is a trap, and what was to stay inside would be asked of the registry itself.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from supervisor.errors import InvalidArgument

log = logging.getLogger(__name__)

FILE = "hosts.toml"
CAPABILITIES = ("pull", "resolve", "push", "referrers")
_KNOWN = ("capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout")
_ROOT_ONLY = ("server", "host")

Table = Mapping[str, object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostEntry:
    """What a file says of one host. `server` is empty where it means the registry itself."""

    server: str = ""
    scheme: str = ""
    host: str = ""
    path: str = ""
    capabilities: tuple[str, ...] = ()
    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()
    skip_verify: bool | None = None
    header: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dial_timeout: float | None = None


def read(folder: Path) -> tuple[HostEntry, ...]:
    """The hosts that `folder` configures, the last being the registry itself or its `server`.

    Raises InvalidArgument that names the file and the setting.
    """
    path = folder / FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        return (_certificates(folder),)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"read {path}: {error}") from error
    if not text.strip():
        return (_certificates(folder),)
    try:
        return parse(text, folder)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error}") from None


def parse(text: str, folder: Path) -> tuple[HostEntry, ...]:
    """The hosts in the text of a file; relative paths in it begin at `folder`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidArgument(str(error)) from None
    _warn_of_unknown(document, (*_KNOWN, *_ROOT_ONLY), folder, "")
    hosts = _of(document, "host", dict, "") or {}
    entries = [_entry(str(name), _table(value, f"host.{name}"), folder) for name, value in hosts.items()]
    return (*entries, _entry(_of(document, "server", str, "") or "", document, folder, root=True))


def _entry(server: str, table: Table, folder: Path, *, root: bool = False) -> HostEntry:
    where = "" if root else f'host."{server}".'
    if not root:
        if not server:
            raise InvalidArgument('host."" has no URL')
        _warn_of_unknown(table, _KNOWN, folder, where)
    scheme, host, path = _url(server, bool(_of(table, "override_path", bool, where))) if server else ("",) * 3
    return HostEntry(
        server=server,
        scheme=scheme,
        host=host,
        path=path,
        capabilities=_capabilities(table, where),
        ca=_paths(table, "ca", folder, where),
        client=_pairs(table, folder, where),
        skip_verify=_of(table, "skip_verify", bool, where),
        header=_header(table, where),
        dial_timeout=_duration(_of(table, "dial_timeout", str, where), f"{where}dial_timeout"),
    )


def _url(server: str, override_path: bool) -> tuple[str, str, str]:
    """Scheme, host and path of a server; the path gets its /v2 unless it is to stay as it is."""
    try:
        parts = urlsplit(server if "://" in server else f"https://{server}")
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or "@" in parts.netloc:
        raise InvalidArgument(f"server {server!r} must have the form https://host[:port][/path]")
    path = posixpath.normpath(parts.path) if parts.path.strip("/") else ""
    if not override_path and not path.endswith("/v2"):
        path += "/v2"
    return parts.scheme, parts.netloc, path


def _capabilities(table: Table, where: str) -> tuple[str, ...]:
    found = tuple(str(name).lower() for name in _of(table, "capabilities", list, where) or ())
    for name in found:
        if name not in CAPABILITIES:
            raise InvalidArgument(f"{where}capabilities has {name!r}; known are {', '.join(CAPABILITIES)}")
    return found


def _paths(table: Table, key: str, folder: Path, where: str) -> tuple[Path, ...]:
    value = table.get(key)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise InvalidArgument(f"{where}{key} must be a path or an array of paths")
    return tuple(folder / one for one in values)


def _pairs(table: Table, folder: Path, where: str) -> tuple[tuple[Path, Path | None], ...]:
    """Client certificates: a file with both parts, several of these, or pairs of certificate and key."""
    value = table.get("client")
    if value is None:
        return ()
    found: list[tuple[Path, Path | None]] = []
    for one in value if isinstance(value, list) else [value]:
        match one:
            case str():
                found.append((folder / one, None))
            case [str() as certificate, str() as key]:
                found.append((folder / certificate, folder / key if key else None))
            case _:
                raise InvalidArgument(f"{where}client must be a path, paths, or pairs of paths")
    return tuple(found)


def _header(table: Table, where: str) -> tuple[tuple[str, str], ...]:
    """Fields and their values; several values of one are joined as RFC 9110 has it, section 5.3."""
    found = []
    for name, value in _table(table.get("header") or {}, f"{where}header").items():
        lines = [
            _line(one, f"{where}header.{name}") for one in (value if isinstance(value, list) else [value])
        ]
        found.append((name, ", ".join(lines)))
    return tuple(found)


def _line(value: object, setting: str) -> str:
    if not isinstance(value, str) or "\n" in value or "\r" in value:
        raise InvalidArgument(f"{setting} must be a line of text or an array of these")
    return value


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_STEP = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")


def _duration(text: str | None, setting: str) -> float | None:
    """Seconds of a Go duration, like "1m30s"."""
    if not text:
        return None
    steps = list(_STEP.finditer(text))
    if "".join(step[0] for step in steps) != text:
        raise InvalidArgument(f'{setting} is {text!r}, but must be a duration like "5s" or "1m30s"')
    return sum(float(step[1]) * _UNITS[step[2]] for step in steps)


def _of(table: Table, key: str, kind: type[T], where: str) -> T | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, kind):
        raise InvalidArgument(f"{where}{key} must be of type {kind.__name__}, not {value!r}")
    return value


def _table(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where} must be a table")
    return value


def _warn_of_unknown(table: Table, known: tuple[str, ...], folder: Path, where: str) -> None:
    for name in table:
        if name not in known:
            log.warning("%s: %s%s is not known here, and ignored", folder / FILE, where, name)


def _certificates(folder: Path) -> HostEntry:
    """Docker's layout: `*.crt` are CAs, `*.cert` with `*.key` client certificates."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InvalidArgument(f"read the certificates in {folder}: {error}") from error
    pairs = tuple(_docker_pairs(folder, names))
    return HostEntry(ca=tuple(folder / name for name in names if name.endswith(".crt")), client=pairs)


def _docker_pairs(folder: Path, names: list[str]) -> Iterator[tuple[Path, Path | None]]:
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            yield folder / name, folder / key if key in names else None
