"""The cells of the matrix: which daemon, whose shim, which OCI runtime."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from supervisor.api.types.runc.options.oci_pb2 import Options
from tests.compat.target import Target

GO_SHIM = "containerd-shim-runc-v2"
OUR_SHIM = "containerd-shim-oci-v2"
V2_CONTROLLERS = Path("/sys/fs/cgroup/unified/cgroup.controllers")
MASK = f'mount --bind /dev/null {V2_CONTROLLERS} && exec "$@"'


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination; `name` is the id of its tests."""

    name: str
    shim: str
    runtime: str = "runc"
    containerd: bool = False

    @property
    def runtime_name(self) -> str:
        """What containers name as their runtime."""
        return "io.containerd.oci.v2" if self.containerd else "io.containerd.runc.v2"

    @property
    def shim_path(self) -> str:
        """The shim's binary."""
        return f"{sys.prefix}/bin/{OUR_SHIM}" if self.shim == "ours" else shutil.which(GO_SHIM) or GO_SHIM

    @property
    def config(self) -> str:
        """The daemon's configuration file."""
        return "" if self.containerd else f'[runtime.shims]\n"io.containerd.runc.v2" = "{self.shim_path}"\n'

    @property
    def options(self) -> Options:
        """The options of a container of this cell."""
        return Options(binary_name=self.runtime)

    def missing(self) -> str:
        """The program that this machine lacks for the cell; empty when it can run."""
        programs = [self.runtime, "ctr"] + ["containerd"] * self.containerd
        programs += [GO_SHIM] * (self.shim != "ours")
        return next((name for name in programs if not shutil.which(name)), "")


CELLS = (
    Cell("ours-runc", "ours"),
    Cell("ours-crun", "ours", "crun"),
    Cell("go-runc", "go"),
    Cell("go-crun", "go", "crun"),
    Cell("ours-runc-under-containerd", "ours", containerd=True),
)


class MaskedTarget(Target):
    """A daemon that sees no cgroup v2 controllers beside those of v1, in a mount namespace of its own.

    crun refuses a hybrid tree whose v2 half has controllers, were it only hugetlb. Nothing outside
    the namespace changes.
    """

    def command(self) -> list[str]:
        """What starts it; the daemon takes the place of the shell, and so keeps its pid."""
        # Not super(): the class of a dataclass with slots is another one than the body was compiled for.
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", MASK, "sh", *Target.command(self)]


def target_of(cell: Cell, folder: Path) -> Target:
    """The daemon of a cell, not yet started."""
    masked = cell.runtime == "crun" and V2_CONTROLLERS.exists() and V2_CONTROLLERS.read_text().strip()
    return (MaskedTarget if masked else Target)(folder, cell.containerd, cell.config)
