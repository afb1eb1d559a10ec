"""What the daemon's configuration says about shims: places, names of runtimes, time limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BUNDLES = "io.containerd.runtime.v2.task"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds (containerd: `io.containerd.timeout.*`); client-driven calls have none."""

    task_state: float = 2.0
    shim_cleanup: float = 5.0
    shim_load: float = 5.0
    shim_shutdown: float = 3.0
    shim_stats: float = 2.0


@dataclass(frozen=True, slots=True)
class ShimSettings:
    """Where shims find the daemon and everything of a task lies.

    `runtimes` maps a runtime's name to another one or to the path of a shim binary.
    """

    root: Path
    state: Path
    grpc_address: str
    ttrpc_address: str
    daemon_binary: str
    version: str = ""
    log_level: str = "info"
    runtimes: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def bundles(self) -> Path:
        """Folder of the bundles, one folder per namespace below."""
        return self.state / BUNDLES

    @property
    def works(self) -> Path:
        """Folder of what tasks keep over a reboot, laid out like `bundles`."""
        return self.root / BUNDLES

    @property
    def socket_dir(self) -> Path:
        """Folder of the sockets of our own shims."""
        return self.state / "s"

    @property
    def runtime_root(self) -> Path:
        """The OCI runtime's root, less the namespace. Two daemons must never share one."""
        return self.state / "runtime"
