"""Shims that hang, share, or lose their connection: contract tasks 2.5, 4.3, 4.6 and 9."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.api.types.task import task_pb2
from supervisor.errors import DeadlineExceeded, NotFound
from supervisor.kernel.mounts import unmount_recursive
from supervisor.model.identifiers import ContainerId
from supervisor.model.mount import Mount
from supervisor.shimv2.manager import NewTask
from supervisor.shimv2.settings import Timeouts
from supervisor.shimv2.tasks import Task
from tests.shimv2.conftest import NAMESPACE, Daemon, eventually, left_behind, spec

pytestmark = [pytest.mark.root]


def is_stopped(pid: int) -> bool:
    return all(b") T " in stat.read_bytes() for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


@pytest_asyncio.fixture
async def stopped_shim(daemon: Daemon) -> AsyncIterator[tuple[Task, int]]:
    """A task whose shim is held by SIGSTOP until the test ends, and the shim's pid."""
    task = await daemon.run("c1", "sleep", "1000")
    pid = await daemon.shim_pid(task)
    os.kill(pid, signal.SIGSTOP)
    await eventually(lambda: is_stopped(pid), "every thread of the shim stopped")
    yield task, pid
    os.kill(pid, signal.SIGCONT)


async def test_a_hung_shim_is_bounded_and_kept_by_a_restart(
    daemon: Daemon, stopped_shim: tuple[Task, int]
) -> None:
    task, pid = stopped_shim
    with pytest.raises(DeadlineExceeded):
        await task.state("", 0.2)
    daemon.settings = replace(daemon.settings, timeouts=Timeouts(shim_load=0.5))
    await daemon.restart()
    os.kill(pid, signal.SIGCONT)
    again = daemon.manager.get(NAMESPACE, "c1")
    assert (await again.state("", 20)).status == task_pb2.RUNNING


async def test_a_lost_connection_is_renewed(daemon: Daemon) -> None:
    """Only the death of a shim may cost its container its life."""
    task = await daemon.run("c1", "sleep", "1000")
    waiting = asyncio.ensure_future(task.wait(""))
    before = task.shim
    assert before is not None
    before.close()
    await eventually(lambda: task.shim is not before, "a new connection")
    assert (await task.state("", 20)).status == task_pb2.RUNNING
    await task.call("Kill", pb.KillRequest(id="c1", signal=9), pb.StateResponse)
    assert (await waiting).status == 137


def grouped(daemon: Daemon, id_: str) -> NewTask:
    document = json.loads(spec("sleep", "1000"))
    document["annotations"] = {"io.containerd.runc.v2.group": "g"}
    return NewTask(
        namespace=NAMESPACE,
        id=ContainerId(id_),
        runtime="io.containerd.runc.v2",
        spec=json.dumps(document).encode(),
        rootfs=(Mount("bind", str(daemon.top / "rootfs"), ("rbind",)),),
    )


async def test_a_shared_shim_lives_until_its_last_task_is_deleted(daemon: Daemon) -> None:
    for id_ in ("c1", "c2"):
        await daemon.manager.create(grouped(daemon, id_))
    first, second = (daemon.manager.get(NAMESPACE, id_) for id_ in ("c1", "c2"))
    assert await daemon.shim_pid(first) == await daemon.shim_pid(second)
    await daemon.manager.delete(first)
    assert (await second.state("", 20)).status == task_pb2.CREATED
    await daemon.restart()
    await daemon.manager.delete(daemon.manager.get(NAMESPACE, "c2"))
    await eventually(lambda: left_behind(daemon) == [], "a clean state")


async def test_two_deletes_at_once(daemon: Daemon) -> None:
    task = await daemon.run("c1", "sleep", "1000")
    refused = await asyncio.gather(*(daemon.manager.delete(task) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in refused] == ["failed to delete task: cannot delete a running process"] * 2
    await task.call("Kill", pb.KillRequest(id="c1", signal=9), pb.StateResponse)
    await task.wait("")
    first, second = await asyncio.gather(
        *(daemon.manager.delete(task) for _ in range(2)), return_exceptions=True
    )
    assert not isinstance(first, BaseException)
    assert first.status == 137
    assert isinstance(second, NotFound)


async def test_a_client_that_leaves_during_delete(daemon: Daemon) -> None:
    """The delete goes on without it."""
    task = await daemon.create("c1", "true")
    deleting = asyncio.ensure_future(daemon.manager.delete(task))
    await asyncio.sleep(0)
    deleting.cancel()
    await asyncio.wait([task.ended])
    assert left_behind(daemon) == []


async def test_an_exec_that_ends_while_no_daemon_is_there(daemon: Daemon) -> None:
    task = await daemon.run("c1", "sleep", "1000")
    document = json.loads(spec("sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 4"))
    process = json.dumps(document["process"]).encode()
    request = pb.ExecProcessRequest(id="c1", exec_id="e1")
    request.spec.type_url, request.spec.value = "types.containerd.io/process", process
    await task.call("Exec", request, pb.StateResponse)
    started = await task.call("Start", pb.StartRequest(id="c1", exec_id="e1"), pb.StartResponse)
    await daemon.stop()
    (daemon.top / "rootfs/go").touch()
    await eventually(lambda: not Path(f"/proc/{started.pid}").exists(), "the exit of the exec")
    await daemon.start()
    again = daemon.manager.get(NAMESPACE, "c1")
    assert (await again.wait("e1")).status == 4
    await eventually(lambda: [told.id for told in daemon.exits("c1")] == ["e1"], "the exit event")


async def test_a_row_without_anything_behind_it(daemon: Daemon) -> None:
    """After a reboot the state folder is empty: the task is told as ended and forgotten."""
    task = await daemon.create("c1", "true")
    pids = [await daemon.shim_pid(task), (await task.state("", 20)).pid]
    await daemon.stop()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    unmount_recursive(daemon.settings.state)
    shutil.rmtree(daemon.settings.state)
    await daemon.start()
    with pytest.raises(NotFound):
        daemon.manager.get(NAMESPACE, "c1")
    assert daemon.topics("c1")[-2:] == ["/tasks/exit", "/tasks/delete"]
    await daemon.manager.delete(await daemon.create("c1", "true"))
