"""Limits that a machine with many containers runs into."""

from __future__ import annotations

import os
import resource
from functools import partial
from pathlib import Path

from supervisor.doctor import cgroups
from supervisor.doctor.finding import Check, Finding, note, ok, warning
from supervisor.doctor.place import Place
from supervisor.doctor.processes import PROC, UNLIMITED, open_files_limit
from supervisor.kernel.cgroup import cgroup_of
from supervisor.kernel.process import oom_score_adj

_THEME = "limits"
_PER_CONTAINER = 3
"""Descriptors that the daemon has for a task: connections to and from its shim, and the shim's log."""
_OWN = 64
_FEW_FILES, _FEW_WATCHES, _FEW_PIDS = 4096, 1024, 32768
_FULL = 0.8
_SYS = PROC / "sys"


def checks(place: Place) -> list[Check]:
    """Of the daemon's process where one runs, else of this one, which would start it."""
    return [
        Check(_THEME, "open files", lambda: open_files(place)),
        Check(_THEME, "inotify", lambda: inotify(cgroups.read().kind)),
        Check(_THEME, "processes", partial(processes, _SYS / "kernel/pid_max")),
        Check(_THEME, "daemon's cgroup", lambda: own_cgroup(place)),
        Check(_THEME, "oom score", lambda: oom_score(place)),
    ]


def open_files(place: Place) -> Finding:
    """The daemon holds some descriptors for each task, and does not raise its limit."""
    pid = place.daemon()
    if pid:
        soft, whose = open_files_limit(pid)[0], "the daemon"
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft, whose = (UNLIMITED if soft == resource.RLIM_INFINITY else soft), "a daemon started from here"
    return open_files_finding(whose, soft)


def open_files_finding(whose: str, soft: int) -> Finding:
    """How many containers a limit is enough for."""
    if soft >= UNLIMITED:
        return ok(f"{whose} may have any number")
    room = max(0, soft - _OWN) // _PER_CONTAINER
    told = f"{whose} may have {soft}, enough for about {room} containers"
    if soft >= _FEW_FILES:
        return ok(told)
    return note(told, "raise it if you run more: LimitNOFILE=1048576 in the unit, or ulimit -n before serve")


def inotify(kind: str, settings: Path = _SYS / "fs/inotify") -> Finding | None:
    """With cgroup v2 each shim has an inotify instance, to learn of want of memory."""
    if kind != "v2":
        return None  # v1 tells by an eventfd
    allowed = int((settings / "max_user_instances").read_text())
    told = f"{allowed} instances for each user, one for each container"
    if allowed >= _FEW_WATCHES:
        return ok(told)
    return note(
        f"{told}; beyond them nobody is told that a container lacks memory",
        "sysctl fs.inotify.max_user_instances=8192",
    )


def processes(pid_max: Path) -> Finding:
    """Each container takes two process ids at least, its shim's and its own."""
    allowed = int(pid_max.read_text())
    told = f"{allowed} process ids, two or more for each container"
    return ok(told) if allowed >= _FEW_PIDS else note(told, "sysctl kernel.pid_max=4194304")


def own_cgroup(place: Place) -> Finding | None:
    """Shims stay in the daemon's cgroup: a limit on processes there (TasksMax) is one on containers."""
    pid = place.daemon()
    if pid is None:
        return None
    found = cgroup_of(pid)
    allowed, there = found.number("pids", "pids.max"), found.number("pids", "pids.current")
    if not found.text("pids", "pids.max") or allowed >= UNLIMITED:
        return ok("no limit on the number of processes")
    told = f"{there} of {allowed} processes; each container adds its shim"
    if there > allowed * _FULL:
        return warning(told, "TasksMax=infinity in the unit, or a higher pids.max")
    return ok(told)


def oom_score(place: Place) -> Finding:
    """Whom the kernel takes first when memory runs out."""
    pid = place.daemon()
    if pid is None:
        return ok(f"a daemon started from here has {oom_score_adj(os.getpid())}, each shim one more")
    score = oom_score_adj(pid)
    told = f"the daemon has {score}, each shim one more"
    if score > 0:
        return warning(
            f"{told}: when memory runs out they go before other processes",
            "OOMScoreAdjust=-999 in the unit, or start the daemon from a shell that has 0",
        )
    return ok(told)
