"""What the daemon's configuration says about shims: places, names of runtimes, time limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LIMITED = frozenset(("Create", "Start", "Delete", "Kill", "Pause", "Resume", "Update", "Pids", "Checkpoint"))

BUNDLES = "io.containerd.runtime.v2.task"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds (containerd: `io.containerd.timeout.*`), first of the daemon's own calls.

    Then of clients' calls, by method; containerd has none for these, and 0 is none. They are there for
    runtimes that hang, and so ample that no other is hit.
    """

    task_state: float = 2.0
    shim_cleanup: float = 5.0
    shim_load: float = 5.0
    shim_shutdown: float = 3.0
    shim_stats: float = 2.0
    task_unstarted: float = 0.0
    """What a task that was made, and never started, is given after the daemon was replaced; 0 is for ever."""
    create: float = 300.0
    start: float = 300.0
    delete: float = 120.0
    kill: float = 60.0
    pause: float = 60.0
    resume: float = 60.0
    update: float = 60.0
    pids: float = 30.0
    checkpoint: float = 0.0

    def of(self, method: str) -> float | None:
        """The limit of a client's call of a shim's method, None for none; Wait has none in any case."""
        return getattr(self, method.lower()) or None if method in _LIMITED else None


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
