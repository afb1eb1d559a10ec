"""`-info` and `-v`: what this shim and its runtime are (containerd: shim-runc-v2/manager, `Info`)."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from supervisor.api.types.introspection_pb2 import RuntimeInfo, RuntimeVersion
from supervisor.errors import InvalidArgument, SupervisorError
from supervisor.shimv2.runc.messages import options_in

NAME = "io.containerd.oci.v2"
_DISTRIBUTION = "container-supervisor"
_FEATURES_TYPE_URL = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def version() -> None:
    """Print the version for people."""
    sys.stdout.write(f"containerd-shim-oci-v2 {metadata.version(_DISTRIBUTION)}\n")


def info() -> None:
    """Print an encoded RuntimeInfo; runtime options may come on stdin."""
    sent = _read_options()
    binary = options_in(sent.SerializeToString()).runtime_binary()
    message = RuntimeInfo(name=NAME, version=RuntimeVersion(version=metadata.version(_DISTRIBUTION)))
    if sent.type_url:
        message.options.CopyFrom(sent)
    features = _features(binary)
    if features:
        message.features.type_url, message.features.value = _FEATURES_TYPE_URL, features
    sys.stdout.buffer.write(message.SerializeToString())
    sys.stdout.buffer.flush()


def _read_options() -> AnyMessage:
    try:
        return AnyMessage.FromString(b"" if sys.stdin.isatty() else sys.stdin.buffer.read())
    except DecodeError as error:
        raise InvalidArgument(f"the options on stdin cannot be read: {error}") from error


def _features(binary: str) -> bytes:
    """JSON of what the runtime can do; empty when it does not say."""
    try:
        done = subprocess.run([binary, "features"], capture_output=True, check=False)
    except OSError as error:
        raise SupervisorError(f'failed to run "{binary}": {error.strerror}') from error
    return b"" if done.returncode else done.stdout.strip()
