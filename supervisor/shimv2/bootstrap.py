"""What daemon and shim tell each other before there is a socket (containerd: pkg/shim, runtime/bootstrap).

The daemon writes parameters on the stdin of `start`, the shim answers on stdout where it listens.
Both forms changed over containerd's life; this module reads all of them and writes each.
Used by both sides, so it imports next to nothing.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import dataclass

from supervisor.errors import SupervisorError
from supervisor.model.any import Any
from supervisor.ttrpc.protobuf import ANY, Fields, Layout

PARAMS = Layout(
    "instance_id namespace log_level containerd_version containerd_ttrpc_address containerd_grpc_address"
    " containerd_binary extensions socket_dir",
    "instance_id namespace containerd_version containerd_ttrpc_address containerd_grpc_address"
    " containerd_binary socket_dir",
)
EXTENSION = Layout("value")
RESULT = Layout("version address protocol", "address protocol")

UNIX = "unix://"
TTRPC = "ttrpc"
VERSIONS = (2, 3)

# containerd's levels are those of Go's slog.
LOG_LEVELS = {"trace": -8, "debug": -4, "info": 0, "warn": 4, "warning": 4, "error": 8, "fatal": 10}


@dataclass(frozen=True, slots=True)
class BootstrapParams:
    """What a daemon of containerd 2.3 or later, or ours, tells a shim that it starts."""

    instance_id: str
    namespace: str
    log_level: int = 0
    daemon_version: str = ""
    ttrpc_address: str = ""
    grpc_address: str = ""
    daemon_binary: str = ""
    options: Any | None = None
    socket_dir: str = ""


@dataclass(frozen=True, slots=True)
class ShimAddress:
    """Where a shim listens, and which version of the Task service it speaks there."""

    version: int
    address: str
    protocol: str = TTRPC


def socket_path(socket_dir: str, grpc_address: str, namespace: str, group: str) -> str:
    """The socket of the shim that serves `group`: a digest, because a socket's path has 107 bytes at most."""
    name = posixpath.normpath("/".join((grpc_address, namespace, group)))
    return f"{socket_dir}/{hashlib.sha256(name.encode()).hexdigest()}"


def encode_params(params: BootstrapParams) -> bytes:
    """The stdin of `start` for shims that came after containerd 2.0."""
    options = params.options
    value = None if options is None else ANY.encode(type_url=options.type_url, value=options.value)
    return PARAMS.encode(
        instance_id=params.instance_id,
        namespace=params.namespace,
        # The enum is open: a level between the named ones is allowed.
        log_level=params.log_level,
        containerd_version=params.daemon_version,
        containerd_ttrpc_address=params.ttrpc_address,
        containerd_grpc_address=params.grpc_address,
        containerd_binary=params.daemon_binary,
        extensions=None if value is None else [EXTENSION.encode(value=value)],
        socket_dir=params.socket_dir,
    )


def parse_params(stdin: bytes, namespace: str, instance_id: str) -> BootstrapParams | None:
    """Parameters on stdin; None when it holds something else, such as the options of an older daemon.

    Options often decode as parameters by accident, so both names must agree with the flags.
    """
    try:
        message = PARAMS.FromString(stdin)
        extensions = [_extension(encoded) for encoded in message.each("extensions")]
    except ValueError:
        return None
    if (message.text("namespace"), message.text("instance_id")) != (namespace, instance_id):
        return None
    return BootstrapParams(
        instance_id=instance_id,
        namespace=namespace,
        log_level=message.signed("log_level"),
        daemon_version=message.text("containerd_version"),
        ttrpc_address=message.text("containerd_ttrpc_address"),
        grpc_address=message.text("containerd_grpc_address"),
        daemon_binary=message.text("containerd_binary"),
        options=extensions[0] if extensions else None,
        socket_dir=message.text("socket_dir"),
    )


def _extension(encoded: bytes) -> Any:
    value: Fields = ANY.FromString(EXTENSION.FromString(encoded).data("value"))
    return Any(value.text("type_url"), value.data("value"))


def encode_answer(shim: ShimAddress) -> bytes:
    """The answer to parameters."""
    return RESULT.encode(version=shim.version, address=shim.address, protocol=shim.protocol)


def encode_answer_json(shim: ShimAddress) -> bytes:
    """The answer in the form of containerd 1.7 to 2.2; also the content of `bootstrap.json`."""
    fields = {"version": shim.version, "address": shim.address, "protocol": shim.protocol}
    return json.dumps(fields).encode()


def parse_answer(answer: bytes) -> ShimAddress:
    """What a shim printed, in any of the three forms; raises SupervisorError when it is none of them."""
    shim = _from_message(answer) or _from_json(answer) or ShimAddress(2, _text(answer))
    if shim.version not in VERSIONS:
        raise SupervisorError(f"unsupported shim version ({shim.version}), this daemon speaks 2 and 3")
    if shim.protocol != TTRPC:
        raise SupervisorError(f"unsupported shim protocol {shim.protocol!r}, this daemon speaks ttrpc")
    if not shim.address.startswith(UNIX + "/"):
        raise SupervisorError(f"the shim answered {shim.address[:500]!r}, not the address of a unix socket")
    return shim


def _from_message(answer: bytes) -> ShimAddress | None:
    try:
        message = RESULT.FromString(answer)
    except ValueError:
        return None
    if not message.text("address") or not message.text("protocol"):
        return None
    return ShimAddress(message.signed("version"), message.text("address"), message.text("protocol"))


def _from_json(answer: bytes) -> ShimAddress | None:
    try:
        fields = json.loads(answer)
        shim = ShimAddress(int(fields["version"]), str(fields["address"]), str(fields["protocol"]))
    except (ValueError, TypeError, KeyError):
        return None
    return shim if shim.version >= VERSIONS[0] else None


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace").strip()
