"""The messages of the Task service and of its events (containerd: api/runtime/task, api/events, api/types).

Both versions of the service have the same. They are layouts, not generated classes: a shim does without
protobuf's library, see `supervisor.ttrpc.protobuf`.
"""

from __future__ import annotations

from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.ttrpc.protobuf import TIMESTAMP, Layout

EMPTY = b""

EVENTS = "containerd.services.events.ttrpc.v1.Events"
"""The service that takes events."""

PROCESS = Layout("id exec_id", "id exec_id")
"""Of every request that names a process and says nothing else; and, less the exec, a container."""

STATE_RESPONSE = Layout(
    "id bundle pid status stdin stdout stderr terminal exit_status exited_at exec_id",
    "id bundle stdin stdout stderr exec_id",
)
CREATE_REQUEST = Layout(
    "id bundle rootfs terminal stdin stdout stderr checkpoint parent_checkpoint options",
    "id bundle stdin stdout stderr checkpoint parent_checkpoint",
)
EXEC_REQUEST = Layout("id exec_id terminal stdin stdout stderr spec", "id exec_id stdin stdout stderr")
KILL_REQUEST = Layout("id exec_id signal all", "id exec_id")
RESIZE_REQUEST = Layout("id exec_id width height", "id exec_id")
UPDATE_REQUEST = Layout("id resources", "id")
CHECKPOINT_REQUEST = Layout("id path options", "id path")
PID_RESPONSE = Layout("pid")
DELETE_RESPONSE = Layout("pid exit_status exited_at")
WAIT_RESPONSE = Layout("exit_status exited_at")
CONNECT_RESPONSE = Layout("shim_pid task_pid version", "version")
PIDS_RESPONSE = Layout("processes")
PROCESS_INFO = Layout("pid info")
STATS_RESPONSE = Layout("stats")

MOUNT = Layout("type source target options", "type source target options")
PROCESS_DETAILS = Layout("exec_id", "exec_id")
OPTIONS = Layout(
    "no_pivot_root no_new_keyring shim_cgroup io_uid io_gid binary_name root - systemd_cgroup"
    " criu_image_path criu_work_path task_api_address task_api_version",
    "shim_cgroup binary_name root criu_image_path criu_work_path task_api_address",
)
OPTIONS_NAME = "containerd.runc.v1.Options"
PROCESS_DETAILS_NAME = "containerd.runc.v1.ProcessDetails"

TASK_CREATE = Layout("container_id bundle rootfs io checkpoint pid")
TASK_IO = Layout("stdin stdout stderr terminal")
TASK_START = Layout("container_id pid")
TASK_EXEC_ADDED = Layout("container_id exec_id")
TASK_EXEC_STARTED = Layout("container_id exec_id pid")
TASK_EXIT = Layout("container_id id pid exit_status exited_at")
TASK_DELETE = Layout("container_id pid exit_status exited_at id")
TASK_PAUSED = TASK_RESUMED = TASK_OOM = Layout("container_id")
ENVELOPE = Layout("timestamp namespace topic event")
FORWARD_REQUEST = Layout("envelope")


def timestamp(instant: Nanoseconds) -> bytes:
    """An instant as a Timestamp, all nine digits kept."""
    seconds, nanos = divmod(instant, SECOND)
    return TIMESTAMP.encode(seconds=seconds, nanos=nanos)
