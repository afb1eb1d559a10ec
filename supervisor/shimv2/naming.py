"""From a runtime's name to a shim binary (containerd: core/runtime/v2/shim_manager.go, contract 2.1)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from supervisor.errors import InvalidArgument, SupervisorError

OWN_BINARY = "containerd-shim-oci-v2"
OWN_RUNTIME = "io.containerd.oci.v2"

# What clients ask for by default is served by our own shim, unless the configuration says otherwise.
DEFAULT_RUNTIMES: Mapping[str, str] = {"io.containerd.runc.v2": OWN_RUNTIME}


def shim_path(runtime: str, configured: Mapping[str, str]) -> Path:
    """The binary that serves `runtime`, a name or an absolute path.

    Raises InvalidArgument for a name that cannot be one, SupervisorError when its binary is not installed.
    """
    if not runtime:
        raise InvalidArgument("no runtime name")
    wanted = configured.get(runtime) or DEFAULT_RUNTIMES.get(runtime, runtime)
    if wanted.startswith("/"):
        return _existing(Path(wanted))
    binary = binary_name(wanted)
    found = _beside_python(binary) or shutil.which(binary)
    if found is None:
        raise SupervisorError(f'runtime "{runtime}" binary not installed "{binary}": file does not exist')
    return Path(found)


def binary_name(runtime: str) -> str:
    """`io.containerd.runc.v2` is served by `containerd-shim-runc-v2`; raises InvalidArgument."""
    parts = runtime.split(".")
    if "/" in runtime or len(parts) < 2 or not all(parts):
        raise InvalidArgument(
            f'invalid runtime name "{runtime}", correct runtime name should be either'
            " format like `io.containerd.runc.v2` or a full path to the binary"
        )
    return f"containerd-shim-{parts[-2]}-{parts[-1]}"


def own_binary() -> Path | None:
    """The binary of our own shim, if it is installed."""
    found = _beside_python(OWN_BINARY) or shutil.which(OWN_BINARY)
    return None if found is None else Path(found)


def is_own(binary: Path) -> bool:
    """Whether a binary is the shim of this project, whose ways we know."""
    return binary.name == OWN_BINARY


def speaks_runc_options(binary: Path) -> bool:
    """Whether a shim takes `containerd.runc.v1.Options`."""
    return is_own(binary) or binary.name.startswith("containerd-shim-runc-")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SupervisorError(f"invalid custom binary path: stat {path}: no such file or directory")
    return path


def _beside_python(binary: str) -> str | None:
    # The scripts of a virtual environment are there, whether or not it is on the daemon's PATH.
    return shutil.which(binary, path=str(Path(sys.executable).parent))
