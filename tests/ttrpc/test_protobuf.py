"""The wire format by hand, against protobuf's own library; and every layout against its message."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api.cgroups.v1 import metrics_pb2 as v1
from supervisor.api.cgroups.v2 import metrics_pb2 as v2
from supervisor.api.events import task_pb2 as events
from supervisor.api.runtime.bootstrap.v1 import bootstrap_pb2
from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.services.ttrpc.events.v1 import events_pb2
from supervisor.api.ttrpc import ttrpc_pb2
from supervisor.api.types import event_pb2, mount_pb2
from supervisor.api.types.runc.options import oci_pb2
from supervisor.api.types.task import task_pb2 as types
from supervisor.model.instant import GO_ZERO, Nanoseconds
from supervisor.shimv2 import bootstrap
from supervisor.shimv2.runc import checkpoint, layouts, metrics_v1, metrics_v2
from supervisor.shimv2.runc.process import STATUS, State
from supervisor.ttrpc import calls, protobuf
from supervisor.ttrpc.protobuf import Layout

PARTIAL = {
    layouts.PROCESS,  # of many messages
    layouts.UPDATE_REQUEST,
    bootstrap.RESULT,
    calls._STATUS,
}
"""Layouts that leave out fields that nobody here looks at."""

OF = [
    (protobuf.ANY, AnyMessage),
    (protobuf.TIMESTAMP, Timestamp),
    (calls._REQUEST, ttrpc_pb2.Request),
    (calls._RESPONSE, ttrpc_pb2.Response),
    (calls._KEY_VALUE, ttrpc_pb2.KeyValue),
    (bootstrap.PARAMS, bootstrap_pb2.BootstrapParams),
    (bootstrap.EXTENSION, bootstrap_pb2.Extension),
    (bootstrap.RESULT, bootstrap_pb2.BootstrapResult),
    *((layouts.PROCESS, kind) for kind in (task.StateRequest, task.StartRequest, task.DeleteRequest)),
    *((layouts.PROCESS, kind) for kind in (task.WaitRequest, task.CloseIORequest)),
    (layouts.STATE_RESPONSE, task.StateResponse),
    (layouts.CREATE_REQUEST, task.CreateTaskRequest),
    (layouts.EXEC_REQUEST, task.ExecProcessRequest),
    (layouts.KILL_REQUEST, task.KillRequest),
    (layouts.RESIZE_REQUEST, task.ResizePtyRequest),
    (layouts.UPDATE_REQUEST, task.UpdateTaskRequest),
    (layouts.CHECKPOINT_REQUEST, task.CheckpointTaskRequest),
    (layouts.PID_RESPONSE, task.CreateTaskResponse),
    (layouts.PID_RESPONSE, task.StartResponse),
    (layouts.DELETE_RESPONSE, task.DeleteResponse),
    (layouts.WAIT_RESPONSE, task.WaitResponse),
    (layouts.CONNECT_RESPONSE, task.ConnectResponse),
    (layouts.PIDS_RESPONSE, task.PidsResponse),
    (layouts.STATS_RESPONSE, task.StatsResponse),
    (layouts.PROCESS_INFO, types.ProcessInfo),
    (layouts.MOUNT, mount_pb2.Mount),
    (layouts.PROCESS_DETAILS, oci_pb2.ProcessDetails),
    (layouts.OPTIONS, oci_pb2.Options),
    (checkpoint.OPTIONS, oci_pb2.CheckpointOptions),
    (layouts.TASK_CREATE, events.TaskCreate),
    (layouts.TASK_IO, events.TaskIO),
    (layouts.TASK_START, events.TaskStart),
    (layouts.TASK_EXEC_ADDED, events.TaskExecAdded),
    (layouts.TASK_EXEC_STARTED, events.TaskExecStarted),
    (layouts.TASK_EXIT, events.TaskExit),
    (layouts.TASK_DELETE, events.TaskDelete),
    (layouts.TASK_PAUSED, events.TaskPaused),
    (layouts.TASK_RESUMED, events.TaskResumed),
    (layouts.TASK_OOM, events.TaskOOM),
    (layouts.ENVELOPE, event_pb2.Envelope),
    (layouts.FORWARD_REQUEST, events_pb2.ForwardRequest),
    (metrics_v1.METRICS, v1.Metrics),
    (metrics_v1.HUGETLB, v1.HugetlbStat),
    (metrics_v1.PIDS, v1.PidsStat),
    (metrics_v1.CPU, v1.CPUStat),
    (metrics_v1.CPU_USAGE, v1.CPUUsage),
    (metrics_v1.THROTTLE, v1.Throttle),
    (metrics_v1.MEMORY, v1.MemoryStat),
    (metrics_v1.MEMORY_ENTRY, v1.MemoryEntry),
    (metrics_v1.MEMORY_OOM_CONTROL, v1.MemoryOomControl),
    (metrics_v1.BLOCK_IO, v1.BlkIOStat),
    (metrics_v1.BLOCK_IO_ENTRY, v1.BlkIOEntry),
    (metrics_v1.RDMA, v1.RdmaStat),
    (metrics_v1.RDMA_ENTRY, v1.RdmaEntry),
    (metrics_v1.NETWORK, v1.NetworkStat),
    (metrics_v2.METRICS, v2.Metrics),
    (metrics_v2.PIDS, v2.PidsStat),
    (metrics_v2.CPU, v2.CPUStat),
    (metrics_v2.MEMORY, v2.MemoryStat),
    (metrics_v2.MEMORY_EVENTS, v2.MemoryEvents),
    (metrics_v2.RDMA, v2.RdmaStat),
    (metrics_v2.RDMA_ENTRY, v2.RdmaEntry),
    (metrics_v2.IO, v2.IOStat),
    (metrics_v2.IO_ENTRY, v2.IOEntry),
    (metrics_v2.HUGETLB, v2.HugeTlbStat),
    (metrics_v2.NETWORK, v2.NetworkStat),
    (metrics_v2.PRESSURE, v2.PSIStats),
    (metrics_v2.PRESSURE_DATA, v2.PSIData),
]


@pytest.mark.parametrize(("layout", "kind"), OF, ids=lambda one: getattr(one, "__name__", ""))
def test_layouts_are_their_messages(layout: Layout, kind: type[Message]) -> None:
    descriptor: Descriptor = kind.DESCRIPTOR
    numbers = {field.name: field.number for field in descriptor.fields}
    strings = {field.name for field in descriptor.fields if field.type == FieldDescriptor.TYPE_STRING}
    assert layout.numbers.items() <= numbers.items()
    assert layout in PARTIAL or layout.numbers == numbers
    # What is only written need not be told apart.
    assert not layout.strings or layout.strings == strings & layout.numbers.keys()


def test_every_layout_is_compared() -> None:
    modules = (protobuf, calls, bootstrap, layouts, checkpoint, metrics_v1, metrics_v2)
    every = {id(one) for module in modules for one in vars(module).values() if isinstance(one, Layout)}
    assert every == {id(layout) for layout, _ in OF} | {id(calls._STATUS)}


def test_states_have_the_numbers_of_their_statuses() -> None:
    shown = {state: types.Status.Name(number) for state, number in STATUS.items()}  # type: ignore[arg-type]
    assert shown.pop(State.DELETED) == "STOPPED"
    assert shown == {state: state.name for state in shown}


TEXT = st.text(max_size=300)
NUMBER = st.integers(0, 2**32 - 1)


@given(TEXT, NUMBER, TEXT, st.booleans(), st.integers(-(2**62), 2**62), st.integers(0, 999_999_999))
def test_messages_are_protobufs(
    id_: str, pid: int, out: str, terminal: bool, seconds: int, nanos: int
) -> None:
    at = Nanoseconds(seconds * 10**9 + nanos)
    encoded = layouts.STATE_RESPONSE.encode(
        id=id_, pid=pid, stdout=out, terminal=terminal, exited_at=layouts.timestamp(at)
    )
    expected = task.StateResponse(id=id_, pid=pid, stdout=out, terminal=terminal)
    expected.exited_at.FromNanoseconds(0)
    expected.exited_at.seconds, expected.exited_at.nanos = seconds, nanos
    assert task.StateResponse.FromString(encoded) == expected
    found = layouts.STATE_RESPONSE.FromString(expected.SerializeToString())
    assert (found.text("id"), found.number("pid"), found.flag("terminal")) == (id_, pid, terminal)
    instant = protobuf.TIMESTAMP.FromString(found.data("exited_at"))
    assert (instant.signed("seconds"), instant.number("nanos")) == (seconds, nanos)


def test_the_zero_time_of_go() -> None:
    assert Timestamp.FromString(layouts.timestamp(GO_ZERO)).ToJsonString() == "0001-01-01T00:00:00Z"


@given(st.lists(TEXT, max_size=5), st.lists(NUMBER, max_size=200), st.floats(allow_nan=False))
def test_repeated_packed_and_floating_fields(options: list[str], figures: list[int], average: float) -> None:
    mount = layouts.MOUNT.FromString(mount_pb2.Mount(options=options).SerializeToString())
    assert [option.decode() for option in mount.each("options")] == options
    usage = v1.CPUUsage.FromString(metrics_v1.CPU_USAGE.packed("per_cpu", figures))
    assert list(usage.per_cpu) == figures
    data = v2.PSIData.FromString(metrics_v2.PRESSURE_DATA.encode(avg10=average))
    assert data.avg10 == average


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ValueError):
        fields = layouts.STATE_RESPONSE.FromString(data)
        fields.text("id"), fields.number("pid"), fields.data("exited_at")


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\x05ab", b"\xff" * 11, b"\x0b", b"\x02\x00", b"\x0a\x01\xff"]
)
def test_what_protobuf_refuses_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"truncated|wire type|number 0|UTF-8"):
        layouts.STATE_RESPONSE.FromString(data)


def test_fields_that_are_not_known_are_passed_over() -> None:
    sent = task.StateResponse(id="c1", pid=3, exit_status=7).SerializeToString() + b"\xa1\x06" + bytes(8)
    found = layouts.PROCESS.FromString(sent)
    assert found.text("id") == "c1"
