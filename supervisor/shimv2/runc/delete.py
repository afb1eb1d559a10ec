"""`delete`: clean up after a shim that is gone (containerd: cmd/containerd-shim-runc-v2/manager, `Stop`).

Run after every deletion of a task as well, so it is made cheap where nothing is left: what takes
long to import is imported only where there is something to do. It works from the files of the
bundle alone, and may be repeated.
"""

from __future__ import annotations

import os
import sys

from supervisor.errors import SupervisorError
from supervisor.model.instant import now
from supervisor.shimv2.runc import options
from supervisor.shimv2.runc.bundle import CREATING_FILE, INIT_PID_FILE, ROOTFS, read_pid
from supervisor.shimv2.runc.flags import Flags
from supervisor.shimv2.runc.layouts import DELETE_RESPONSE, timestamp

EXIT_STATUS = 128 + 9  # as if killed by SIGKILL
_PID_UNKNOWN = 2**32 - 1

# Runtimes that keep a container's state in a folder of its name: without it there is nothing to delete.
_FOLDER_PER_CONTAINER = ("runc", "crun", "youki")

# How the kernel writes what would break a line of mountinfo.
_ESCAPES = {ord(character): f"\\{ord(character):03o}" for character in " \t\n\\"}


def delete(flags: Flags) -> None:
    """Remove container and mounts, leave the bundle, print an encoded DeleteResponse."""
    bundle = flags.bundle or os.path.join(os.path.dirname(os.getcwd()), flags.id)
    try:
        _delete_container(flags, bundle)
    finally:
        _unmount(bundle)
    response = DELETE_RESPONSE.encode(
        pid=_init_pid(bundle), exit_status=EXIT_STATUS, exited_at=timestamp(now())
    )
    sys.stdout.buffer.write(response)
    sys.stdout.buffer.flush()


def _delete_container(flags: Flags, bundle: str) -> None:
    chosen = options.load(bundle)
    binary, root = chosen.runtime_binary(), chosen.runtime_root(flags.namespace)
    if os.path.exists(f"{bundle}/{CREATING_FILE}"):
        from supervisor.shimv2.runc import stray

        stray.end_commands(bundle)
    if os.path.basename(binary) in _FOLDER_PER_CONTAINER and not os.path.exists(f"{root}/{flags.id}"):
        return
    from supervisor.shimv2.runc import stray

    stray.force_delete([binary, "--root", root, "delete", "--force", flags.id], bundle)


def _unmount(bundle: str) -> None:
    point = f"{os.path.realpath(bundle)}/{ROOTFS}".translate(_ESCAPES)
    with open("/proc/self/mountinfo", "rb") as mounts:
        if os.fsencode(point) not in mounts.read():
            return
    from supervisor.shimv2.runc import rootfs

    rootfs.unmount(bundle)


def _init_pid(bundle: str) -> int:
    try:
        return read_pid(f"{bundle}/{INIT_PID_FILE}")
    except SupervisorError:
        return _PID_UNKNOWN
