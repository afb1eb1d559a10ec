"""The kernel: its version, calls that there is no way around, capabilities, shifted owners."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

from supervisor.doctor.finding import Check, Finding, failure, note, ok, warning
from supervisor.doctor.place import Place
from supervisor.doctor.processes import PROC, capabilities_of
from supervisor.kernel import confine, features, libc, paths
from supervisor.kernel.process import CAP_SYS_RESOURCE, oom_score_adj

_THEME = "kernel"
_OLDEST = (5, 6)
_SHIFTING = (5, 19)
_NEEDED = {
    confine.CAP_CHOWN: "CAP_CHOWN",
    confine.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE",
    confine.CAP_FOWNER: "CAP_FOWNER",
    5: "CAP_KILL",
    6: "CAP_SETGID",
    7: "CAP_SETUID",
    18: "CAP_SYS_CHROOT",
    21: "CAP_SYS_ADMIN",
    confine.CAP_MKNOD: "CAP_MKNOD",
    confine.CAP_SETFCAP: "CAP_SETFCAP",
}
"""What mounts, unpacking and runtimes do not do without (man 7 capabilities)."""


def checks(place: Place) -> list[Check]:
    """Of the running kernel, and of the daemon's process or, without one, this one."""
    return [
        Check(_THEME, "version", partial(version, features.kernel_version())),
        Check(_THEME, "system calls", system_calls),
        Check(_THEME, "capabilities", lambda: capabilities(place.daemon() or os.getpid())),
        Check(_THEME, "shifted owners", shifted_owners),
    ]


def version(found: tuple[int, int]) -> Finding:
    """openat2, by which untrusted paths are resolved, came with 5.6."""
    release = f"Linux {os.uname().release}, {os.uname().machine}"
    if found < _OLDEST:
        return failure(f"{release}; 5.6 is the oldest that will do", "boot a newer kernel")
    return ok(release)


def system_calls() -> Finding:
    """The calls that nothing replaces; a seccomp filter around this process may hide them, too."""
    for name, purpose, attempt in (
        ("openat2", "untrusted paths are resolved by it", _try_openat2),
        ("pidfd_open", "runtimes are waited for by it", _try_pidfd),
    ):
        try:
            attempt()
        except OSError as error:
            why = f"{name} does not work here ({error.strerror}), and {purpose}"
            return failure(
                why, "use a newer kernel; within a container, allow the call in its seccomp profile"
            )
    return ok("openat2 and pidfd_open work")


def _try_openat2() -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(paths.open_in_root(root, "proc/../..", os.O_PATH))
    finally:
        os.close(root)


def _try_pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def capabilities(pid: int, proc: Path = PROC) -> Finding:
    """Of the process `pid`: what containers cannot be started without, and what a negative score needs."""
    held = capabilities_of(pid, proc)
    whose = "this process" if pid == os.getpid() else f"the daemon (process {pid})"
    if pid == os.getpid() and os.geteuid():
        return note(f"this is user {os.geteuid()}; the daemon runs as root", "run this as root")
    missing = [name for number, name in _NEEDED.items() if not held >> number & 1]
    if missing:
        return failure(
            f"{whose} lacks {', '.join(missing)}",
            "run the daemon as root of the machine; in a container, with --privileged",
        )
    if not held >> CAP_SYS_RESOURCE & 1:
        lowest = oom_score_adj(pid) if proc == PROC else 0
        return warning(
            f"{whose} lacks CAP_SYS_RESOURCE: a container with an oom_score_adj below {lowest} does"
            " not start",
            f"grant the capability, or ask for no oom_score_adj below {lowest} (Docker: --oom-score-adj)",
        )
    return ok(f"{whose} has all that containers need")


def shifted_owners() -> Finding:
    """Containers in user namespaces, with layers that all share."""
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not limit.exists() or not int(limit.read_text()):
        return note(
            "no user namespaces can be made, so containers have the machine's user ids",
            "sysctl user.max_user_namespaces=15000, if you want containers with ids of their own",
        )
    if features.kernel_version() < _SHIFTING or not _has_mount_setattr():
        return note("overlay layers are copied for each shifted range of user ids", "Linux 5.19 shifts them")
    if features.in_user_namespace():
        return note("user ids here are a part of the machine's: this is a container itself")
    return ok("user namespaces and idmapped layers")


def _has_mount_setattr() -> bool:
    try:
        libc.syscall(libc.SYS_MOUNT_SETATTR, -1, b"", 0, None, 0, call="mount_setattr")
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True
