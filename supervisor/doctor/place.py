"""The installation that is looked at: its folders, sockets and programs, as the configuration says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.doctor.processes import environment_of, lock_holder
from supervisor.shimv2.settings import ShimSettings


@dataclass(frozen=True, slots=True)
class ScopedSocket:
    """A further socket; owner -1 is the daemon's own."""

    name: str
    path: Path
    mode: int
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True, slots=True)
class Place:
    """What the checks go by. Nothing of it need exist."""

    root: Path
    state: Path
    address: Path
    version: str = ""
    """Of what is installed."""
    modules: tuple[str, ...] = ()
    """What daemon, shims and clients load."""
    sockets: tuple[ScopedSocket, ...] = ()
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """By name: another name, or the path of a shim binary."""
    drivers: tuple[str, ...] = ("overlayfs", "native")
    hosts: Path = Path("/etc/container-supervisor/certs.d")
    """Folder of the descriptions of registries."""

    @property
    def settings(self) -> ShimSettings:
        """Where everything of a task lies."""
        address = str(self.address)
        return ShimSettings(
            root=self.root,
            state=self.state,
            grpc_address=address,
            ttrpc_address=f"{address}.ttrpc",
            daemon_binary="",
            runtimes=self.runtimes,
        )

    @property
    def store(self) -> Path:
        """The file of the store."""
        return self.root / "metadata.db"

    def daemon(self) -> int | None:
        """The process that holds the root, None when there is none."""
        return lock_holder(self.root / "lock")

    def search_path(self) -> str:
        """The PATH by which the daemon finds programs: its own where it runs and can be read."""
        pid = self.daemon()
        found = environment_of(pid).get("PATH") if pid else None
        return found or f"{self.root / 'opt/bin'}:{os.environ.get('PATH', os.defpath)}"
