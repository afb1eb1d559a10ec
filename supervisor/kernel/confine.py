"""A process made smaller before it reads what strangers wrote: namespaces, root, limits, capabilities.

(containerd unpacks in its own process, with a lock on the thread's root; this project uses a child.)
Only for a process of its own with a single thread: each of these acts on the whole of it, for good.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable

from supervisor.kernel import libc
from supervisor.kernel.mount_options import MS_REC, MS_SLAVE

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_MKNOD = 27
CAP_SETFCAP = 31

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

_CAPABILITY_VERSION_3 = 0x20080522
_SYS_CAPSET = {"x86_64": 126, "i686": 185, "armv7l": 185, "armv6l": 185, "ppc64le": 184, "s390x": 185}
_SYS_CAPSET_GENERIC = 91  # aarch64, riscv64, loongarch64
_CAPABILITIES = 64


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, "prctl PR_SET_PDEATHSIG")


def leave_network_and_mounts() -> None:
    """Have mounts, network, IPC and host name of one's own; none of the mounts made here is seen outside.

    Mounts taken off outside are taken off here, too, so that this process keeps no filesystem busy.
    """
    libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS)
    libc.mount("none", "/", "", MS_REC | MS_SLAVE, "")


def change_root(path: str) -> None:
    """Make `path` the root and the working directory; nothing opened before may stay open."""
    os.chroot(path)
    os.chdir("/")


def import_nothing_more() -> None:
    """After a change of root, a path that Python would import from lies inside what is not trusted."""
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.path_hooks.clear()


def limit(*, open_files: int, memory: int) -> None:
    """Bound descriptors and address space (bytes); no core dumps, which would hold a layer's content."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_AS, memory),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up every capability but `kept`, for this process and for whatever it could start."""
    kept = frozenset(kept)
    for number in range(_CAPABILITIES):
        if number not in kept and _is_known(number):
            libc.prctl(_PR_CAPBSET_DROP, number, f"prctl PR_CAPBSET_DROP {number}")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, "prctl PR_SET_NO_NEW_PRIVS")
    _capset(sum(1 << number for number in kept))


def _is_known(number: int) -> bool:
    try:
        return libc.prctl(_PR_CAPBSET_READ, number, "prctl PR_CAPBSET_READ") == 1
    except OSError:
        return False


def _capset(mask: int) -> None:
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for half in range(2):
        data[half].effective = data[half].permitted = mask >> 32 * half & 0xFFFFFFFF
    number = _SYS_CAPSET.get(os.uname().machine, _SYS_CAPSET_GENERIC)
    libc.syscall(number, ctypes.byref(header), ctypes.byref(data), call="capset")
