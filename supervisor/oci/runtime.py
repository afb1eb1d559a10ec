"""Runtime specifications built from nothing (OCI runtime spec; containerd: pkg/oci).

Each call makes a new document, so that no two containers share a list. The defaults are those that
containerd's clients give: no inheritable or ambient capabilities, the current masked and read-only
paths, all devices denied except those that a runtime adds by itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

# The oldest version that has all that is used here: crun refuses a spec that is newer than itself.
OCI_VERSION = "1.0.2"

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_OPEN_FILES = 1024

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

_MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_THERMAL = "/sys/devices/system/cpu/cpu{}/thermal_throttle"

_PTS_OPTIONS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
_MOUNTS = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", _PTS_OPTIONS),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),  # noqa: S108
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/run", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
)


@dataclass(frozen=True, slots=True)
class User:
    """Whom a process runs as, in numbers of the container."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SpecMount:
    """A mount that the runtime performs inside the container; `options` are words of mount(8)."""

    destination: str
    source: str
    type: str = "bind"
    options: tuple[str, ...] = ("rbind", "rw")


def process(
    args: Sequence[str],
    *,
    env: Sequence[str] = (),
    cwd: str = "",
    user: User | None = None,
    terminal: bool = False,
    capabilities: Sequence[str] = DEFAULT_CAPABILITIES,
    no_new_privileges: bool = True,
) -> Spec:
    """The process of a container, or one to exec in it; PATH is added to `env` when it lacks one."""
    return {
        "terminal": terminal,
        "user": _user(user or User()),
        "args": list(args),
        "env": environment(env, terminal=terminal),
        "cwd": cwd or "/",
        "capabilities": {name: list(capabilities) for name in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": DEFAULT_OPEN_FILES, "soft": DEFAULT_OPEN_FILES}],
        "noNewPrivileges": no_new_privileges,
    }


def environment(env: Sequence[str], *, terminal: bool = False) -> list[str]:
    """`env` with the last of several values per name, and what every process needs in front."""
    merged: dict[str, str] = {"PATH": DEFAULT_PATH}
    if terminal:
        merged["TERM"] = "TERM=xterm"
    for entry in env:
        merged[entry.partition("=")[0]] = entry
    return list(merged.values())


def default_spec(
    init: Spec,
    *,
    cgroups_path: str,
    rootfs: str = "rootfs",
    readonly_rootfs: bool = False,
    hostname: str = "",
    host_network: bool = False,
    cgroup_namespace: bool = False,
    mounts: Sequence[SpecMount] = (),
    annotations: Mapping[str, str] | None = None,
) -> Spec:
    """A Linux container around the process `init` (made by `process`).

    `cgroups_path` is `/<namespace>/<id>` by the convention of containerd's clients. `mounts` come
    after the default ones; one with the same destination replaces it. `cgroup_namespace` suits hosts
    with cgroup v2 only. With `host_network` the host's resolver files are the caller's to mount.
    """
    spec: Spec = {
        "ociVersion": OCI_VERSION,
        "process": init,
        "root": {"path": rootfs, "readonly": readonly_rootfs},
        "mounts": _mounts(mounts),
        "linux": _linux(cgroups_path, host_network, cgroup_namespace),
    }
    if hostname:
        spec["hostname"] = hostname
    if annotations:
        spec["annotations"] = dict(annotations)
    return spec


def masked_paths(cpus: int) -> list[str]:
    """Paths that a container must not read, on a host with `cpus` processors."""
    # The counters of thermal throttling let a container watch its neighbours (as in Moby since 28).
    return [*_MASKED_PATHS, *(_THERMAL.format(number) for number in range(cpus))]


def _user(user: User) -> Spec:
    identity: Spec = {"uid": user.uid, "gid": user.gid}
    if user.additional_gids:
        identity["additionalGids"] = list(user.additional_gids)
    return identity


def _mounts(extra: Sequence[SpecMount]) -> list[Spec]:
    replaced = {mount.destination for mount in extra}
    defaults = (_mount(*mount) for mount in _MOUNTS if mount[0] not in replaced)
    return [*defaults, *(_mount(m.destination, m.type, m.source, m.options) for m in extra)]


def _mount(destination: str, kind: str, source: str, options: Sequence[str]) -> Spec:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _linux(cgroups_path: str, host_network: bool, cgroup_namespace: bool) -> Spec:
    kinds = ["pid", "ipc", "uts", "mount"]
    if not host_network:
        kinds.append("network")
    if cgroup_namespace:
        kinds.append("cgroup")
    return {
        "cgroupsPath": cgroups_path,
        "namespaces": [{"type": kind} for kind in kinds],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": masked_paths(os.cpu_count() or 1),
        "readonlyPaths": list(_READONLY_PATHS),
    }
