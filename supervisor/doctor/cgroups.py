"""The machine's cgroups: which version, which controllers, and set-ups that runtimes trip over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from supervisor.doctor.finding import Check, Finding, failure, ok, some, warning
from supervisor.doctor.place import Place
from supervisor.doctor.processes import PROC
from supervisor.kernel.mountinfo import parse_line

_THEME = "cgroups"
_MOUNT = "mount -t cgroup -o {0} none /sys/fs/cgroup/{0} (make the folder first)"
_WANTED = ("cpu", "memory", "pids")
_WANTED_V1 = (*_WANTED, "devices", "freezer")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """What is mounted (v1's controllers, v2's folder), what v2 offers, and what v1 has taken."""

    v1: frozenset[str]
    unified: Path | None
    v2: frozenset[str]
    taken: frozenset[str]
    read_only: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`v1`, `v2`, `hybrid`, or `none`."""
        if self.unified is None:
            return "v1" if self.v1 else "none"
        return "hybrid" if self.v1 else "v2"


def read(mounts: Path = PROC / "self/mountinfo", controllers: Path = PROC / "cgroups") -> Cgroups:
    """What the kernel's tables say; v2's controllers are read where it is mounted."""
    v1: set[str] = set()
    read_only: list[str] = []
    unified = None
    for entry in map(parse_line, mounts.read_bytes().splitlines()):
        if entry.fstype == "cgroup":
            v1.update(entry.super_options)
        elif entry.fstype == "cgroup2":
            unified = unified or Path(entry.mount_point)
        else:
            continue
        if "ro" in entry.options:
            read_only.append(entry.mount_point)
    taken, known = _in_table(controllers)
    offered = set() if unified is None else set((unified / "cgroup.controllers").read_text().split())
    return Cgroups(frozenset(v1 & known), unified, frozenset(offered), taken, tuple(read_only))


def _in_table(controllers: Path) -> tuple[frozenset[str], set[str]]:
    """The controllers that v1 hierarchies have, mounted or not, and all that the kernel knows."""
    rows = [line.split() for line in controllers.read_text().splitlines() if not line.startswith("#")]
    return frozenset(row[0] for row in rows if row[1] != "0"), {row[0] for row in rows}


def checks(place: Place) -> list[Check]:
    """Of this process's view."""
    return [
        Check(_THEME, "layout", lambda: layout(read())),
        Check(_THEME, "controllers", lambda: controllers(read())),
        Check(_THEME, "hierarchies", lambda: hierarchies(read())),
    ]


def layout(found: Cgroups) -> Finding:
    """Something to put containers into."""
    if found.kind == "none":
        return failure(
            "no cgroup filesystem is mounted, and no runtime starts a container without",
            "mount -t cgroup2 none /sys/fs/cgroup",
        )
    if found.read_only:
        return failure(
            f"mounted read-only: {some(found.read_only)}",
            "mount them writable; in a container, run that with --privileged or --cgroupns host",
        )
    told = {
        "v1": f"v1 ({_names(found.v1)})",
        "v2": f"v2 ({_names(found.v2)})",
        "hybrid": f"hybrid: v1 has {_names(found.v1)}, v2 has {_names(found.v2)}",
    }
    return ok(told[found.kind])


def controllers(found: Cgroups) -> Finding:
    """Limits can be set, and want of memory be told."""
    there = found.v2 if found.kind == "v2" else found.v1
    missing = [name for name in (_WANTED if found.kind == "v2" else _WANTED_V1) if name not in there]
    if not missing:
        return ok("limits of memory, processors and processes can be set")
    told = f"lacking: {', '.join(missing)}"
    if "devices" in missing:
        return failure(f"{told}; runc starts nothing without devices", _MOUNT.format("devices"))
    return warning(
        f"{told}; a container with a limit of that kind does not start",
        "enable them on the kernel's command line (cgroup_enable=memory), or mount their v1 hierarchies",
    )


def hierarchies(found: Cgroups) -> Finding:
    """A v1 hierarchy that is attached and mounted nowhere has processes, and nobody can reach them."""
    lost = sorted(found.taken - found.v1)
    if not lost:
        return ok("every hierarchy that has processes is mounted")
    return warning(
        f"attached and not mounted: {', '.join(lost)}; runtimes may fail to update or to measure containers",
        _MOUNT.format(lost[0]),
    )


def _names(names: frozenset[str]) -> str:
    return " ".join(sorted(names)) or "no controllers"
