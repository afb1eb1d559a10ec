"""Tasks from create to delete over containerd's own shim and over ours: contract tasks 4.3 to 4.6."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.api.types.task import task_pb2
from supervisor.errors import Aborted, AlreadyExists, NotFound, SupervisorError
from supervisor.shimv2.binary import ShimBinaries
from supervisor.shimv2.bootstrap import ShimAddress
from supervisor.shimv2.settings import Timeouts
from supervisor.shimv2.tasks import Task
from tests.shimv2.conftest import NAMESPACE, Daemon, eventually, left_behind

pytestmark = [pytest.mark.root]


async def test_life_of_a_task(daemon: Daemon) -> None:
    """The daemon is gone through in order; nothing is left, and the events came in order."""
    task = await daemon.run("c1", "sh", "-c", "exit 7")
    end = await task.wait("")
    assert end.status == 7
    assert (await task.state("", 5)).status == task_pb2.STOPPED
    deleted = await daemon.manager.delete(task)
    assert (deleted.status, deleted.exited_at) == (7, end.exited_at)
    with pytest.raises(NotFound):
        daemon.manager.get(NAMESPACE, "c1")
    await eventually(lambda: "/tasks/delete" in daemon.topics("c1"), "the delete event")
    assert daemon.topics("c1") == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    # A shim closes its connection, which is when the delete is answered, just before it ends.
    await eventually(lambda: left_behind(daemon) == [], "the end of the shim")


async def test_the_id_is_taken(daemon: Daemon) -> None:
    task = await daemon.create("c1", "true")
    with pytest.raises(AlreadyExists, match="task c1"):
        await daemon.create("c1", "true")
    await daemon.manager.delete(task)
    assert left_behind(daemon) == []


async def test_a_running_task_is_not_deleted(daemon: Daemon) -> None:
    task = await daemon.run("c1", "sleep", "1000")
    with pytest.raises(SupervisorError, match="failed to delete task: cannot delete a running process"):
        await daemon.manager.delete(task)
    assert (await task.state("", 5)).status == task_pb2.RUNNING


async def test_a_failed_create_leaves_nothing(daemon: Daemon) -> None:
    for _ in range(2):
        with pytest.raises(SupervisorError, match=r"failed to create shim task: .*/nonexistent"):
            await daemon.create("c1", "/nonexistent")
        assert left_behind(daemon) == []
    assert "/tasks/exit" not in daemon.topics("c1")


async def test_an_unknown_runtime(daemon: Daemon) -> None:
    with pytest.raises(
        SupervisorError, match=r'failed to start shim: failed to resolve .*"containerd-shim-no-v9"'
    ):
        await daemon.create("c1", "true", runtime="io.none.no.v9")
    assert left_behind(daemon) == []


async def test_a_client_that_leaves_during_create(daemon: Daemon) -> None:
    """At whatever point it is, the create is undone in full."""
    for turns in range(0, 400, 40):
        creating = asyncio.ensure_future(daemon.create("c1", "true"))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        creating.cancel()
        try:
            task = await creating
        except asyncio.CancelledError:
            pass
        else:
            await daemon.manager.delete(task)
        assert left_behind(daemon) == []


async def test_a_shim_that_ended_since_it_was_found(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a group does with its last container: another one is started."""
    start, found = ShimBinaries.start, [ShimAddress(3, "unix:///nowhere/socket")]

    async def once_too_late(binaries: ShimBinaries, *arguments: Any) -> ShimAddress:
        return found.pop() if found else await start(binaries, *arguments)

    monkeypatch.setattr(ShimBinaries, "start", once_too_late)
    task = await daemon.run("c1", "sh", "-c", "exit 7")
    assert (await task.wait("")).status == 7
    await daemon.manager.delete(task)
    await eventually(lambda: left_behind(daemon) == [], "a clean state")


async def test_a_shim_that_is_never_there(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(*_: Any) -> ShimAddress:
        return ShimAddress(3, "unix:///nowhere/socket")

    monkeypatch.setattr(ShimBinaries, "start", nowhere)
    with pytest.raises(Aborted, match=r"failed to start shim: no shim listens on unix:///nowhere/socket"):
        await daemon.create("c1", "true")
    await eventually(lambda: left_behind(daemon) == [], "a clean state")


async def test_a_killed_shim(daemon: Daemon) -> None:
    """Exit and delete are told, Wait answers, the container is dead, nothing is left (contract 4.5)."""
    task = await daemon.run("c1", "sleep", "1000")
    pid = (await task.state("", 5)).pid
    waiting = asyncio.ensure_future(task.wait(""))
    os.kill(await daemon.shim_pid(task), signal.SIGKILL)
    assert (await waiting).status == 137
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of the container")
    await eventually(lambda: left_behind(daemon) == [], "a clean state")
    assert daemon.topics("c1")[-2:] == ["/tasks/exit", "/tasks/delete"]
    assert [told.exit_status for told in daemon.exits("c1")] == [137]


async def test_waits_that_were_given_up_are_no_load_on_the_shim(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    call = Task.call

    async def counted(task: Task, method: str, *arguments: Any) -> Any:
        asked.append(method)
        return await call(task, method, *arguments)

    monkeypatch.setattr(Task, "call", counted)
    task = await daemon.run("c1", "sleep", "600")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task.wait(""), 0.01)
    both = asyncio.gather(task.wait(""), task.wait(""))
    await asyncio.sleep(0)
    await task.call("Kill", pb.KillRequest(id=task.id, signal=9), Empty)
    assert [end.status for end in await both] == [137, 137]
    assert asked.count("Wait") == 1
    assert (await task.wait("")).status == 137
    await daemon.manager.delete(task)


async def test_a_running_task_survives_a_restart(daemon: Daemon) -> None:
    task = await daemon.run("c1", "sleep", "1000")
    pid = (await task.state("", 5)).pid
    await daemon.restart()
    again = daemon.manager.get(NAMESPACE, "c1")
    state = await again.state("", 5)
    assert (state.pid, state.status) == (pid, task_pb2.RUNNING)
    waiting = asyncio.ensure_future(again.wait(""))
    await again.call("Kill", pb.KillRequest(id="c1", signal=9), pb.StateResponse)
    assert (await waiting).status == 137
    await daemon.manager.delete(again)
    assert left_behind(daemon) == []
    assert [told.exit_status for told in daemon.exits("c1")] == [137]


async def test_an_exit_while_no_daemon_is_there(daemon: Daemon) -> None:
    """The task is there as stopped, with its code and time, and its exit is told once (issue 3)."""
    task = await daemon.run("c1", "sh", "-c", "while [ ! -e /proc/1/root/go ]; do sleep 0.05; done; exit 9")
    pid = (await task.state("", 5)).pid
    await daemon.stop()
    (daemon.top / "rootfs/go").touch()
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "the exit")
    await daemon.start()
    again = daemon.manager.get(NAMESPACE, "c1")
    state = await again.state("", 5)
    assert (state.status, state.exit_status) == (task_pb2.STOPPED, 9)
    await eventually(lambda: bool(daemon.exits("c1")), "the exit event")
    assert (await daemon.manager.delete(again)).status == 9
    assert left_behind(daemon) == []
    assert [told.exit_status for told in daemon.exits("c1")] == [9]


async def test_a_shim_that_died_while_no_daemon_was_there(daemon: Daemon) -> None:
    task = await daemon.run("c1", "sleep", "1000")
    shim = await daemon.shim_pid(task)
    await daemon.stop()
    os.kill(shim, signal.SIGKILL)
    await daemon.start()
    with pytest.raises(NotFound):
        daemon.manager.get(NAMESPACE, "c1")
    assert daemon.topics("c1")[-2:] == ["/tasks/exit", "/tasks/delete"]
    await eventually(lambda: left_behind(daemon) == [], "a clean state")


async def test_many_at_once(daemon: Daemon) -> None:
    async def one(id_: str) -> int:
        task = await daemon.run(id_, "sh", "-c", "exit 3")
        status = (await task.wait("")).status
        await daemon.manager.delete(task)
        return status

    statuses = await asyncio.gather(*(one(f"c{number}") for number in range(8)))
    assert statuses == [3] * 8
    assert left_behind(daemon) == []


async def test_what_nobody_started_goes_some_time_after_a_restart(daemon: Daemon) -> None:
    """Whoever made it was cut off by the restart; what was started, or made since, is not concerned."""
    for name in ("unstarted", "started", "late"):
        await daemon.create(name, "sleep", "1000")
    ended = await daemon.run("ended", "true")
    await ended.wait("")
    daemon.settings = replace(daemon.settings, timeouts=Timeouts(task_unstarted=1.0))
    await daemon.restart()
    made_since = await daemon.create("made-since", "sleep", "1000")
    started = daemon.manager.get(NAMESPACE, "started")
    await started.call("Start", pb.StartRequest(id="started"), pb.StartResponse)

    def names() -> set[str]:
        return {task.id for task in daemon.manager.of(NAMESPACE)}

    await eventually(lambda: names() == {"started", "ended", "made-since"}, "the end of the others")
    assert (await started.state("", 5)).status == task_pb2.RUNNING
    await eventually(lambda: "/tasks/delete" in daemon.topics("unstarted"), "the delete event")
    assert "/tasks/exit" not in daemon.topics("unstarted")
    again = await daemon.create("unstarted", "sleep", "1000")
    assert (await again.state("", 5)).status == task_pb2.CREATED
    for task in (again, made_since):
        await daemon.manager.delete(task)


async def test_what_nobody_started_can_be_kept_for_ever(daemon: Daemon) -> None:
    """And the daemon ends without waiting for that time."""
    await daemon.create("c1", "sleep", "1000")
    for seconds in (0.0, 10_000.0):
        daemon.settings = replace(daemon.settings, timeouts=Timeouts(task_unstarted=seconds))
        await daemon.restart()
    task = daemon.manager.get(NAMESPACE, "c1")
    await task.call("Start", pb.StartRequest(id="c1"), pb.StartResponse)
