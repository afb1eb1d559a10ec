"""Options of one container's runtime, kept beside its bundle (containerd: types/runc/options).

Kept as JSON with the names of the protobuf fields, so that `delete`, another process, finds the
runtime and its root again without protobuf.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from supervisor.errors import SupervisorError
from supervisor.shimv2.runc.bundle import write_private

OPTIONS_FILE = "options.json"
RUNTIME_FILE = "runtime"

DEFAULT_RUNTIME = "runc"
# The root of every containerd's containers; our own daemon always names another.
DEFAULT_ROOT = "/run/containerd/runc"


@dataclass(frozen=True, slots=True)
class Options:
    """The fields of `containerd.runc.v1.Options` that a shim acts on."""

    no_pivot_root: bool = False
    no_new_keyring: bool = False
    shim_cgroup: str = ""
    io_uid: int = 0
    io_gid: int = 0
    binary_name: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    criu_work_path: str = ""

    def runtime_binary(self) -> str:
        """Name or path of the OCI runtime."""
        return self.binary_name or DEFAULT_RUNTIME

    def runtime_root(self, namespace: str) -> str:
        """The runtime's `--root` for containers of `namespace`."""
        return f"{self.root or DEFAULT_ROOT}/{namespace}"


def save(options: Options, bundle: str) -> None:
    """Write `options.json` and `runtime` into the bundle; fields that are zero are left out."""
    kept = {name: value for name, value in asdict(options).items() if value}
    write_private(f"{bundle}/{OPTIONS_FILE}", json.dumps(kept).encode())
    write_private(f"{bundle}/{RUNTIME_FILE}", options.binary_name.encode())


def load(bundle: str) -> Options:
    """The options that `save` left in the bundle; the defaults when there are none."""
    try:
        with open(f"{bundle}/{OPTIONS_FILE}", "rb") as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return Options()
    except ValueError as error:
        raise SupervisorError(f"read {bundle}/{OPTIONS_FILE}: {error}") from error
    return Options(**{field.name: found[field.name] for field in fields(Options) if field.name in found})
