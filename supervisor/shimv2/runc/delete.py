"""`delete`: clean up after a shim that is gone (containerd: cmd/containerd-shim-runc-v2/manager, `Stop`).

Run after every deletion of a task as well, so it is made cheap where nothing is left. It works from
the files of the bundle alone, and may be repeated.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.runtime.task.v2.shim_pb2 import DeleteResponse
from supervisor.errors import SupervisorError
from supervisor.model.instant import SECOND, now
from supervisor.shimv2.runc import options, rootfs
from supervisor.shimv2.runc.bundle import INIT_PID_FILE, read_pid
from supervisor.shimv2.runc.flags import Flags

EXIT_STATUS = 128 + signal.SIGKILL
_PID_UNKNOWN = 2**32 - 1

# Runtimes that keep a container's state in a folder of its name: without it there is nothing to delete.
_FOLDER_PER_CONTAINER = ("runc", "crun", "youki")


def delete(flags: Flags) -> None:
    """Remove container and mounts, leave the bundle, print an encoded DeleteResponse."""
    bundle = flags.bundle or os.path.join(os.path.dirname(os.getcwd()), flags.id)
    _delete_container(flags, bundle)
    rootfs.unmount(bundle)
    seconds, nanos = divmod(now(), SECOND)
    response = DeleteResponse(
        pid=_init_pid(bundle),
        exit_status=EXIT_STATUS,
        exited_at=Timestamp(seconds=seconds, nanos=nanos),
    )
    sys.stdout.buffer.write(response.SerializeToString())
    sys.stdout.buffer.flush()


def _delete_container(flags: Flags, bundle: str) -> None:
    chosen = options.load(bundle)
    binary, root = chosen.runtime_binary(), chosen.runtime_root(flags.namespace)
    if os.path.basename(binary) in _FOLDER_PER_CONTAINER and not os.path.exists(f"{root}/{flags.id}"):
        return
    done = subprocess.run(
        [binary, "--root", root, "delete", "--force", flags.id], capture_output=True, check=False
    )
    if done.returncode and b"does not exist" not in done.stderr:
        raise SupervisorError(f"{binary} delete --force: {done.stderr.decode(errors='replace').strip()}")


def _init_pid(bundle: str) -> int:
    try:
        return read_pid(f"{bundle}/{INIT_PID_FILE}")
    except SupervisorError:
        return _PID_UNKNOWN
