"""`delete`: clean up after a shim that is gone (containerd: cmd/containerd-shim-runc-v2/manager, `Stop`).

Run after every deletion of a task as well, so it is made cheap where nothing is left: what takes
long to import is imported only where there is something to do. It works from the files of the
bundle alone, and may be repeated.
"""

from __future__ import annotations

import os
import sys

from supervisor.errors import SupervisorError
from supervisor.model.instant import SECOND, now
from supervisor.shimv2.runc import options
from supervisor.shimv2.runc.bundle import CREATING_FILE, INIT_PID_FILE, ROOTFS, read_pid
from supervisor.shimv2.runc.flags import Flags

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
    seconds, nanos = divmod(now(), SECOND)
    sys.stdout.buffer.write(encode_response(_init_pid(bundle), EXIT_STATUS, seconds, nanos))
    sys.stdout.buffer.flush()


def encode_response(pid: int, exit_status: int, seconds: int, nanos: int) -> bytes:
    """A `DeleteResponse` in protobuf's encoding: loading the library takes half of an action's time."""
    exited_at = _field(1, seconds) + _field(2, nanos)
    message = _field(1, pid) + _field(2, exit_status)
    return message + bytes((3 << 3 | 2, len(exited_at))) + exited_at


def _field(number: int, value: int) -> bytes:
    """A field of an integer type, left out when zero."""
    if not value:
        return b""
    encoded = bytearray((number << 3,))
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


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
