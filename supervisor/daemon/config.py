"""The daemon's configuration: a TOML file of typed sections, overridden by the command line.

Every setting has a default, so the file may be absent. A name that is not known, or a value of the
wrong type, is an error that says where it stands: a setting that is silently ignored is a trap.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any as Anything

from supervisor.diff.limits import DEFAULT_LIMITS, Limits
from supervisor.errors import InvalidArgument
from supervisor.model.restart import RestartSettings
from supervisor.registry.settings import RegistrySettings
from supervisor.shimv2.settings import Timeouts

DEFAULT_ROOT = "/var/lib/container-supervisor"
DEFAULT_STATE = "/run/container-supervisor"
_OCTAL = re.compile("0?[0-7]{3}")
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Grpc:
    """The socket that clients connect to; the shims' socket is its path with `.ttrpc` behind."""

    address: str = f"{DEFAULT_STATE}/supervisor.sock"
    uid: int = -1  # owner of the socket; -1 is the daemon's own
    gid: int = -1
    max_message_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Socket:
    """A further socket, for some of what the daemon offers; `mode` is octal, -1 leaves owner and group.

    `namespaces` and `methods` are patterns of the shell; `read` stands for all methods that change nothing.
    Without patterns everything is allowed.
    """

    path: str = ""
    mode: str = "0660"
    uid: int = -1
    gid: int = -1
    namespaces: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged on standard error, and how."""

    level: str = "info"
    format: str = "text"  # or json


@dataclass(frozen=True, slots=True)
class Content:
    """Blobs: whether a namespace may use another's without sending the bytes ('shared', 'isolated')."""

    sharing_policy: str = "shared"


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Snapshotters: which are offered, and the mount options added to every overlay."""

    drivers: tuple[str, ...] = ("overlayfs", "native")
    overlay_mount_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a runtime name stands for: another runtime name, or the path of a shim binary."""

    shims: Mapping[str, str] = field(
        default_factory=lambda: {"io.containerd.runc.v2": "io.containerd.oci.v2"}
    )


@dataclass(frozen=True, slots=True)
class StreamProcessor:
    """A program that layers of the media types in `accepts` go through before they are unpacked.

    It turns standard input into standard output of the type `returns`; a name in `path` is looked up on PATH.
    """

    accepts: tuple[str, ...] = ()
    returns: str = ""
    path: str = ""
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


def _decoders() -> Mapping[str, StreamProcessor]:
    """The decoders of encrypted layers that containerd's own default configuration names."""
    layer = "application/vnd.oci.image.layer.v1.tar"
    return {
        f"io.containerd.ocicrypt.decoder.v1.{name}": StreamProcessor(
            accepts=(f"{layer}{suffix}+encrypted",),
            returns=f"{layer}{suffix}",
            path="ctd-decoder",
            args=("--decryption-keys-path", "/etc/containerd/ocicrypt/keys"),
            env=("OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf",),
        )
        for name, suffix in (("tar", ""), ("tar.gzip", "+gzip"))
    }


@dataclass(frozen=True, slots=True)
class Diff:
    """Layers: whether each is on disk before the answer, what one may become at most, and programs.

    `stream_processors` make layers of other things.
    """

    sync_fs: bool = False
    limits: Limits = DEFAULT_LIMITS
    stream_processors: Mapping[str, StreamProcessor] = field(default_factory=_decoders)


@dataclass(frozen=True, slots=True)
class Tasks:
    """Exit records of tasks that were deleted: how many are kept, and for how many days."""

    keep_exits: int = 10_000
    keep_exits_days: float = 7.0


@dataclass(frozen=True, slots=True)
class Events:
    """The journal: how many events are kept, and for how long; how many a subscriber may lag behind."""

    keep: int = 100_000
    keep_age: float = 7 * 24 * 3600.0  # seconds; 0 keeps them whatever their age
    subscriber_bound: int = 10_000


@dataclass(frozen=True, slots=True)
class Gc:
    """When garbage is collected, with containerd's settings; delays in seconds.

    Runs take `pause_threshold` of the time at most. One follows `deletion_threshold` deletions after
    `schedule_delay` (0: at the end of the pause), or `mutation_threshold` changes (0: never).
    """

    pause_threshold: float = 0.02
    deletion_threshold: int = 0
    mutation_threshold: int = 100
    schedule_delay: float = 0.0
    startup_delay: float = 0.1


@dataclass(frozen=True, slots=True)
class Backup:
    """Copies of the store in ROOT/backups: seconds from one to the next (0: none), and how many are kept.

    None is made while nothing changes.
    """

    interval: float = 3600.0
    keep: int = 8


@dataclass(frozen=True, slots=True)
class Transfer:
    """Pulls and pushes that the daemon itself does: how many at a time, and where registries are described.

    `hosts` is a folder of hosts.toml files; `snapshotter` is where images are unpacked if nothing else is
    said, `unpacks` layers of one at a time (0: as many as there are processors). `verifiers` is a folder of
    programs that are asked about each image, `max_verifiers` of them (-1: all), for `verifier_seconds` each.
    """

    concurrent: int = 8
    hosts: str = "/etc/container-supervisor/certs.d"
    snapshotter: str = "overlayfs"
    unpacks: int = 0
    verifiers: str = "/etc/container-supervisor/verifiers"
    max_verifiers: int = 10
    verifier_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Config:
    """All settings."""

    root: str = DEFAULT_ROOT
    state: str = DEFAULT_STATE
    grpc: Grpc = Grpc()
    sockets: Mapping[str, Socket] = field(default_factory=dict)
    log: Log = Log()
    content: Content = Content()
    snapshots: Snapshots = Snapshots()
    diff: Diff = field(default_factory=Diff)
    runtime: Runtime = Runtime()
    timeouts: Timeouts = field(default_factory=Timeouts)
    tasks: Tasks = Tasks()
    events: Events = Events()
    gc: Gc = Gc()
    backup: Backup = Backup()
    transfer: Transfer = Transfer()
    restart: RestartSettings = field(default_factory=RestartSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)


def load(path: Path | None) -> Config:
    """Read the file at `path`, or the defaults; raises InvalidArgument that names file and setting."""
    if path is None:
        return Config()
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise InvalidArgument(f"read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"read the configuration {path}: {error}") from error
    try:
        return parse(document)
    except InvalidArgument as error:
        raise InvalidArgument(f"configuration {path}: {error}") from None


def parse(document: Mapping[str, Anything]) -> Config:
    """The configuration that a TOML document states; raises InvalidArgument."""
    config: Config = _section(Config, document, "")
    _require(config.log.level, LEVELS, "log.level")
    _require(config.log.format, ("text", "json"), "log.format")
    _require(config.content.sharing_policy, ("shared", "isolated"), "content.sharing_policy")
    for driver in config.snapshots.drivers:
        _require(driver, ("overlayfs", "native"), "snapshots.drivers")
    if config.transfer.concurrent < 1 or config.transfer.unpacks < 0:
        raise InvalidArgument("transfer.concurrent must be 1 or more, and transfer.unpacks 0 or more")
    if config.backup.interval < 0 or config.backup.keep < 1:
        raise InvalidArgument("backup.interval must be 0 (no backups) or more, and backup.keep 1 or more")
    for name, limit in dataclasses.asdict(config.diff.limits).items():
        if limit < 0:
            raise InvalidArgument(f"diff.limits.{name} is {limit}, but must be 0 (no limit) or more")
    for name, socket in config.sockets.items():
        if not socket.path.startswith("/"):
            raise InvalidArgument(f"sockets.{name}.path {socket.path!r} must be an absolute path")
        if not _OCTAL.fullmatch(socket.mode):
            raise InvalidArgument(f"sockets.{name}.mode {socket.mode!r} must be octal, like '0660'")
    for name, processor in config.diff.stream_processors.items():
        if not (processor.accepts and processor.returns and processor.path):
            raise InvalidArgument(f"diff.stream_processors.{name} needs accepts, returns and path")
    return config


def override(
    config: Config, *, root: str | None, state: str | None, address: str | None, log_level: str | None
) -> Config:
    """The configuration with the command line's values in place of its own.

    An address that nobody set lies in the state folder, wherever that is.
    """
    if address is None and config.grpc.address == Grpc().address and (state or config.state) != DEFAULT_STATE:
        address = f"{state or config.state}/supervisor.sock"
    return dataclasses.replace(
        config,
        root=root or config.root,
        state=state or config.state,
        grpc=dataclasses.replace(config.grpc, address=address or config.grpc.address),
        log=dataclasses.replace(config.log, level=log_level or config.log.level),
    )


def dump(config: Config) -> str:
    """The configuration as TOML text that `load` reads back."""
    values = dataclasses.asdict(config)
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if name not in sections]
    for name, section in sections.items():
        tables = {key: value for key, value in section.items() if isinstance(value, dict)}
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in section.items() if key not in tables]
        for key, table in tables.items():
            lines += _table(f"{name}.{key}", table)
    return "\n".join(lines) + "\n"


def _table(heading: str, table: Mapping[str, Anything]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = ["", f"[{heading}]"] + [f"{_toml(key)} = {_toml(value)}" for key, value in plain.items()]
    for key in table.keys() - plain.keys():
        lines += _table(f"{heading}.{_toml(key)}", table[key])
    return lines


def _toml(value: object) -> str:
    return json.dumps(value)  # numbers, strings, booleans and arrays are written alike in both


def _require(value: str, allowed: tuple[str, ...], setting: str) -> None:
    if value not in allowed:
        raise InvalidArgument(f"{setting} is {value!r}, but must be one of {', '.join(allowed)}")


def _section(cls: type[Anything], document: Mapping[str, Anything], where: str) -> Anything:
    kinds = typing.get_type_hints(cls)
    values = {}
    for name, value in document.items():
        setting = f"{where}{name}"
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f"; did you mean {where}{near[0]}?" if near else ""
            raise InvalidArgument(f"setting {setting} is not known{hint}")
        values[name] = _value(kinds[name], value, setting)
    return cls(**values)


def _value(kind: Anything, value: Anything, setting: str) -> Anything:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise InvalidArgument(f"{setting} must be a section, like [{setting}]")
        return _section(typing.cast(type, kind), value, f"{setting}.")
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple(_value(str, item, f"{setting}[{i}]") for i, item in enumerate(_of(list, value, setting)))
    if origin is Mapping:
        kind = typing.get_args(kind)[1]
        return {k: _value(kind, item, f"{setting}.{k}") for k, item in _of(dict, value, setting).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return _of(kind, value, setting)


def _of(kind: type[Anything], value: Anything, setting: str) -> Anything:
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
        raise InvalidArgument(f"{setting} must be of type {_TOML_NAMES[kind]}, not {value!r}")
    return value


_TOML_NAMES: Mapping[type, str] = types.MappingProxyType(
    {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "table"}
)
