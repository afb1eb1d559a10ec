"""What this kernel and this process's place in it allow (containerd: pkg/userns)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from supervisor.kernel.mountinfo import mount_table

_WHOLE_RANGE = ["0", "0", "4294967295"]


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def in_user_namespace() -> bool:
    """Whether user ids here are a part of the machine's."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != _WHOLE_RANGE
    except FileNotFoundError:  # a kernel without user namespaces
        return False


def overlay_has_index() -> bool:
    """Whether overlay may index inodes, which forbids the shared use of lower layers that snapshots make."""
    return Path("/sys/module/overlay/parameters/index").exists()


def filesystem_type(path: Path) -> str:
    """The type of the filesystem that holds `path`."""
    real = f"{os.path.realpath(path)}/"
    holders = [entry for entry in mount_table() if real.startswith(entry.mount_point.rstrip("/") + "/")]
    return max(reversed(holders), key=lambda entry: len(entry.mount_point)).fstype
