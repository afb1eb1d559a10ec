"""What a run of the demo left on the machine, and taking it away when the run was cut short."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_END_SECONDS = 10.0


def mounts(folder: Path) -> list[str]:
    """Mount points below `folder`, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)


def processes(folder: Path) -> list[int]:
    """Processes whose command line or working folder is below `folder`: the daemon and its shims."""
    return [pid for pid in _all_processes() if pid != os.getpid() and _belongs(pid, folder)]


def cgroups(namespace: str) -> list[Path]:
    """Control groups of the containers of `namespace`, the deepest first."""
    places = [*_CGROUPS.glob(namespace), *_CGROUPS.glob(f"*/{namespace}")]
    found = [Path(place) for top in places for place, _, _ in os.walk(top)]
    return sorted(found, key=lambda place: len(place.parts), reverse=True)


def started_at(pid: int) -> int:
    """When a process started, in ticks since boot, 0 for none; with its number it names one process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(status.rpartition(")")[2].split()[19])


def clear(folder: Path, namespace: str) -> None:
    """End, unmount and remove everything; containers first, so that no shim has anything to tell."""
    for pid in [*_members(namespace), *processes(folder)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _END_SECONDS
    while (_members(namespace) or processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for point in mounts(folder):
        subprocess.run(["umount", point], check=False)
    for place in cgroups(namespace):
        with suppress(OSError):
            place.rmdir()
    if not mounts(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _belongs(pid: int, folder: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        place = os.readlink(f"/proc/{pid}/cwd")
    except OSError:  # it has ended meanwhile
        return False
    return place.startswith(str(folder)) or any(os.fsencode(folder) in word for word in words)


def _members(namespace: str) -> set[int]:
    found: set[int] = set()
    for place in cgroups(namespace):
        with suppress(OSError):
            found |= {int(line) for line in (place / "cgroup.procs").read_text().split()}
    return found - {os.getpid()}
