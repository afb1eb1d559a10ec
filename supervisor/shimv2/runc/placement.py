"""The cgroup that a shim is to live in, `shim_cgroup` of the runc options (containerd: pkg/shim)."""

from __future__ import annotations

import os

from supervisor.errors import NotFound


def join_cgroup(path: str, pid: int, mounts_file: str = "/proc/self/mounts") -> None:
    """Move a process into a cgroup, in each hierarchy that has it; raises NotFound when none has."""
    joined = False
    for folder in _hierarchies(mounts_file):
        processes = os.path.join(folder, path.lstrip("/"), "cgroup.procs")
        if os.path.exists(processes):
            with open(processes, "w", encoding="utf-8") as file:
                file.write(str(pid))
            joined = True
    if not joined:
        raise NotFound(f"cgroup {path} for the shim")


def _hierarchies(mounts_file: str) -> list[str]:
    with open(mounts_file, encoding="utf-8", errors="surrogateescape") as mounts:
        fields = [line.split() for line in mounts]
    return [entry[1] for entry in fields if entry[2] in ("cgroup", "cgroup2")]
