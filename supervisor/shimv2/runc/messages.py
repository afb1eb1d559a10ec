"""From what the shim knows to protobuf messages and back (containerd: api/runtime/task, api/events)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from supervisor.api.events import task_pb2 as events
from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.types import mount_pb2
from supervisor.api.types.runc.options import oci_pb2
from supervisor.api.types.task import task_pb2 as types
from supervisor.errors import InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.mount import Mount
from supervisor.shimv2.runc import happenings
from supervisor.shimv2.runc.happenings import Happening
from supervisor.shimv2.runc.options import Options
from supervisor.shimv2.runc.process import State
from supervisor.shimv2.runc.stdio import StdioPaths

STATUS = {
    State.CREATED: types.CREATED,
    State.RUNNING: types.RUNNING,
    State.PAUSING: types.PAUSING,
    State.PAUSED: types.PAUSED,
    State.STOPPED: types.STOPPED,
    State.DELETED: types.STOPPED,
}

log = logging.getLogger(__name__)


def timestamp(instant: Nanoseconds) -> Timestamp:
    """An instant as a Timestamp, all nine digits kept."""
    seconds, nanos = divmod(instant, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def pack(message: Message) -> AnyMessage:
    """A message as Any under its bare name, without the prefix that protobuf's own Pack adds."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def options_in(encoded: bytes) -> Options:
    """The runc options in an encoded Any, as older daemons write them on stdin."""
    try:
        sent = AnyMessage.FromString(encoded)
    except DecodeError as error:
        raise InvalidArgument(f"the runtime options cannot be read: {error}") from error
    return options_of(sent.type_url, sent.value)


def options_of(type_url: str, value: bytes) -> Options:
    """The runc options in a request; those of other runtimes have nothing to say to this shim."""
    if not type_url:
        return Options()
    if type_url.rpartition("/")[2] != oci_pb2.Options.DESCRIPTOR.full_name:
        log.warning("options of type %s are not known here and are not followed", type_url)
        return Options()
    try:
        message = oci_pb2.Options.FromString(value)
    except DecodeError as error:
        raise InvalidArgument(f"the runtime options cannot be read: {error}") from error
    return Options(
        no_pivot_root=message.no_pivot_root,
        no_new_keyring=message.no_new_keyring,
        shim_cgroup=message.shim_cgroup,
        io_uid=message.io_uid,
        io_gid=message.io_gid,
        binary_name=message.binary_name,
        root=message.root,
        systemd_cgroup=message.systemd_cgroup,
        criu_work_path=message.criu_work_path,
    )


def mounts_of(sent: Iterable[mount_pb2.Mount]) -> list[Mount]:
    """The mounts in a request."""
    return [Mount(one.type, one.source, tuple(one.options), one.target) for one in sent]


def stdio_of(request: task.CreateTaskRequest | task.ExecProcessRequest) -> StdioPaths:
    """The streams in a request."""
    return StdioPaths(request.stdin, request.stdout, request.stderr, request.terminal)


def topic_and_event(happening: Happening) -> tuple[str, Message]:
    """The event that tells of a happening, and its topic."""
    match happening:
        case happenings.Created():
            return "/tasks/create", _created(happening)
        case happenings.Started(container, pid):
            return "/tasks/start", events.TaskStart(container_id=container, pid=pid)
        case happenings.ExecAdded(container, exec_id):
            return "/tasks/exec-added", events.TaskExecAdded(container_id=container, exec_id=exec_id)
        case happenings.ExecStarted(container, exec_id, pid):
            event = events.TaskExecStarted(container_id=container, exec_id=exec_id, pid=pid)
            return "/tasks/exec-started", event
        case happenings.Exited():
            return "/tasks/exit", _exited(happening)
        case happenings.Deleted():
            return "/tasks/delete", _deleted(happening)
        case happenings.Paused(container):
            return "/tasks/paused", events.TaskPaused(container_id=container)
        case happenings.Resumed(container):
            return "/tasks/resumed", events.TaskResumed(container_id=container)
        case happenings.OutOfMemory(container):
            return "/tasks/oom", events.TaskOOM(container_id=container)
    raise AssertionError(happening)


def _created(happening: happenings.Created) -> events.TaskCreate:
    stdio = happening.stdio
    return events.TaskCreate(
        container_id=happening.container,
        bundle=happening.bundle,
        rootfs=_mount_messages(happening.rootfs),
        io=events.TaskIO(
            stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal
        ),
        checkpoint=happening.checkpoint,
        pid=happening.pid,
    )


def _exited(happening: happenings.Exited) -> events.TaskExit:
    return events.TaskExit(
        container_id=happening.container,
        id=happening.process,
        pid=happening.pid,
        exit_status=happening.exit.status,
        exited_at=timestamp(happening.exit.at),
    )


def _deleted(happening: happenings.Deleted) -> events.TaskDelete:
    return events.TaskDelete(
        container_id=happening.container,
        pid=happening.pid,
        exit_status=happening.exit.status,
        exited_at=timestamp(happening.exit.at),
    )


def _mount_messages(mounts: Sequence[Mount]) -> list[mount_pb2.Mount]:
    return [
        mount_pb2.Mount(type=one.type, source=one.source, target=one.target, options=one.options)
        for one in mounts
    ]
