"""Runtimes that hang or crash, a bundle that is gone, a full disk (issue: nothing hangs, nothing leaks).

Each ends in an error that says what happened, and in a state from which the container can be removed.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.types.task.task_pb2 import RUNNING
from supervisor.errors import DeadlineExceeded, NotFound, SupervisorError, Unavailable
from supervisor.kernel import libc
from supervisor.shimv2.runc.limits import ahead_of, remaining, within
from supervisor.ttrpc.calls import ConnectionClosed
from tests.shimv2.runc.driving import Shim, Stdio, eventually, is_mounted, spec

pytestmark = [pytest.mark.root, pytest.mark.compat]

LIMIT = 1.0  # seconds that a call gives a runtime that will hang

WRAPPER = """#!/bin/sh
for word in "$@"; do
    [ -e "{folder}/hang-$word" ] && sleep 600
    [ -e "{folder}/crash-$word" ] && kill -9 $$
    [ -e "{folder}/late-$word" ] && {{ runc "$@"; sleep 600; }}
done
exec runc "$@"
"""


class Faulty:
    """runc, but with commands that hang, crash, or do their work and hang then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "faulty-runc"
        self.path.write_text(WRAPPER.format(folder=folder))
        self.path.chmod(0o755)

    def do(self, kind: str, command: str) -> None:
        (self.folder / f"{kind}-{command}").touch()

    def heal(self) -> None:
        for flag in self.folder.glob("*-*"):
            if flag != self.path:
                flag.unlink()


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path)


def running(shim: Shim, faulty: Faulty) -> int:
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    pid = shim.create("c1", binary_name=str(faulty.path))
    shim.start_process("c1")
    return pid


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def hanging(folder: Path) -> list[str]:
    """Command lines of whatever still runs of the wrapper."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(bytes(folder)) for word in words):
            found.append(repr(words))
    return found


def removed(shim: Shim) -> None:
    """What is left by now can be removed, and nothing remains."""
    shim.delete("c1")
    assert not is_mounted(shim.folder / "b/c1/rootfs")
    assert not (shim.runtime_root / shim.namespace / "c1").exists()


def test_limits_are_of_a_thread_and_nest() -> None:
    assert remaining() is None
    with within(60):
        first = remaining()
        assert first is not None
        with within(5):
            second = remaining()
            assert second is not None
            assert second <= 5
        with within(None):
            assert remaining() is None
        third = remaining()
        assert third is not None
        assert 5 < third <= 60
    assert (ahead_of(None), ahead_of(1.0), ahead_of(100.0)) == (None, 0.9, 99.0)


@pytest.mark.parametrize("kind", ["hang", "late"])
def test_a_runtime_that_hangs_in_create_is_killed_at_the_callers_deadline(
    shim: Shim, faulty: Faulty, kind: str
) -> None:
    """Tasks 7.1. Whether it had made the container or not: the binary's `delete` leaves nothing."""
    faulty.do(kind, "create")
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    request = task.CreateTaskRequest(
        id="c1", bundle=str(shim.folder / "b/c1"), options=shim.options(binary_name=str(faulty.path))
    )
    with pytest.raises(DeadlineExceeded, match=r"create failed: .*faulty-runc create did not end"):
        shim.call("Create", request, task.CreateTaskResponse, timeout=LIMIT)
    assert hanging(faulty.folder) == []
    with pytest.raises(NotFound):
        shim.state("c1")
    faulty.heal()
    assert shim.run_binary("c1", "delete").returncode == 0
    assert not (shim.runtime_root / shim.namespace / "c1").exists()
    assert not is_mounted(shim.folder / "b/c1/rootfs")


def test_a_runtime_that_crashes_in_create(shim: Shim, faulty: Faulty) -> None:
    faulty.do("crash", "create")
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    with pytest.raises(SupervisorError, match=r"create failed: .*exit status 137"):
        shim.create("c1", binary_name=str(faulty.path))
    assert not is_mounted(shim.folder / "b/c1/rootfs")
    faulty.heal()
    shim.create("c1", binary_name=str(faulty.path))
    removed(shim)


@pytest.mark.parametrize("kind", ["hang", "crash"])
def test_a_start_that_fails_leaves_a_container_that_can_be_started(
    shim: Shim, faulty: Faulty, kind: str
) -> None:
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    shim.create("c1", binary_name=str(faulty.path))
    faulty.do(kind, "start")
    with pytest.raises(SupervisorError, match="start failed: "):
        shim.call("Start", task.StartRequest(id="c1"), task.StartResponse, timeout=LIMIT)
    assert hanging(faulty.folder) == []
    faulty.heal()
    shim.start_process("c1")
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    removed(shim)


def test_a_kill_reaches_init_though_the_runtime_hangs(shim: Shim, faulty: Faulty) -> None:
    running(shim, faulty)
    faulty.do("hang", "kill")
    with pytest.raises(DeadlineExceeded, match="kill did not end"):
        shim.call("Kill", task.KillRequest(id="c1", signal=signal.SIGTERM), Empty, timeout=LIMIT)
    shim.call("Kill", task.KillRequest(id="c1", signal=signal.SIGKILL), Empty, timeout=LIMIT)
    assert shim.wait("c1").exit_status == 137
    removed(shim)


def test_a_delete_that_hangs_can_be_repeated(shim: Shim, faulty: Faulty) -> None:
    running(shim, faulty)
    faulty.do("hang", "delete")
    shim.kill("c1")
    shim.wait("c1")
    with pytest.raises(DeadlineExceeded, match=r"failed to delete task: .*delete did not end"):
        shim.call("Delete", task.DeleteRequest(id="c1"), task.DeleteResponse, timeout=LIMIT)
    assert shim.state("c1").exit_status == 137
    faulty.heal()
    removed(shim)


def test_an_exec_that_hangs_does_not_hold_up_the_container(shim: Shim, faulty: Faulty) -> None:
    running(shim, faulty)
    faulty.do("hang", "exec")
    shim.exec("c1", "e1", ["true"])
    with pytest.raises(DeadlineExceeded, match="exec failed: "):
        shim.call("Start", task.StartRequest(id="c1", exec_id="e1"), task.StartResponse, timeout=LIMIT)
    shim.delete("c1", "e1")
    shim.kill("c1")
    shim.wait("c1")
    removed(shim)


def test_the_binary_cleans_up_though_the_runtime_hangs(shim: Shim, faulty: Faulty) -> None:
    """Tasks 2.7: the shim was killed, and the runtime it would need hangs."""
    pid = running(shim, faulty)
    faulty.do("hang", "delete")
    for shim_pid in shim.pids:
        os.kill(shim_pid, signal.SIGKILL)
    done = shim.run_binary("c1", "delete")
    assert done.returncode == 1
    assert b"delete --force did not end" in done.stderr
    eventually(lambda: is_gone(pid), "the end of init")
    assert hanging(faulty.folder) == []
    assert not is_mounted(shim.folder / "b/c1/rootfs")
    faulty.heal()
    assert shim.run_binary("c1", "delete").returncode == 0
    assert not (shim.runtime_root / shim.namespace / "c1").exists()


def test_a_create_that_goes_on_after_its_shim_was_killed_is_ended(shim: Shim, faulty: Faulty) -> None:
    """Otherwise it would make a container that nobody knows, after everything was cleaned up."""
    faulty.do("hang", "create")
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    request = task.CreateTaskRequest(
        id="c1", bundle=str(shim.folder / "b/c1"), options=shim.options(binary_name=str(faulty.path))
    )

    def create() -> None:
        with pytest.raises(ConnectionClosed):
            shim.call("Create", request, task.CreateTaskResponse, timeout=None)

    caller = threading.Thread(target=create)
    caller.start()
    eventually(lambda: hanging(faulty.folder), "the runtime")
    for shim_pid in shim.pids:
        os.kill(shim_pid, signal.SIGKILL)
    caller.join()
    assert shim.run_binary("c1", "delete").returncode == 0
    eventually(lambda: not hanging(faulty.folder), "the end of the runtime")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_worker(shim: Shim, faulty: Faulty) -> None:
    """Kill the child of the shim that waits for a runtime which hangs."""
    eventually(lambda: hanging(faulty.folder), "the runtime")
    (shim_pid,) = shim.pids
    workers = [pid for pid in children(shim_pid) if children(pid)]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)


def unavailable(call: Callable[[], object]) -> threading.Thread:
    """Have a call made that is to end with the word that its worker was killed."""

    def run() -> None:
        with pytest.raises(Unavailable, match="child that worked on this was killed"):
            call()

    caller = threading.Thread(target=run)
    caller.start()
    return caller


def test_a_killed_worker_of_a_create_leaves_nothing(shim: Shim, faulty: Faulty) -> None:
    faulty.do("late", "create")
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    caller = unavailable(lambda: shim.create("c1", binary_name=str(faulty.path)))
    eventually(lambda: (shim.runtime_root / shim.namespace / "c1").exists(), "the container")
    kill_worker(shim, faulty)
    caller.join()
    assert hanging(faulty.folder) == []
    assert not is_mounted(shim.folder / "b/c1/rootfs")
    assert not (shim.runtime_root / shim.namespace / "c1").exists()
    faulty.heal()
    shim.create("c1", binary_name=str(faulty.path))
    removed(shim)


def test_killed_workers_end_neither_the_shim_nor_its_container(shim: Shim, faulty: Faulty) -> None:
    running(shim, faulty)
    shim.exec("c1", "e1", ["true"])
    faulty.do("hang", "exec")
    caller = unavailable(lambda: shim.start_process("c1", "e1"))
    kill_worker(shim, faulty)
    caller.join()
    assert shim.wait("c1", "e1").exit_status == 0
    shim.delete("c1", "e1")
    faulty.do("hang", "pause")
    caller = unavailable(lambda: shim.call("Pause", task.PauseRequest(id="c1"), Empty))
    kill_worker(shim, faulty)
    caller.join()
    faulty.heal()
    assert shim.state("c1").status == RUNNING
    faulty.do("hang", "delete")
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    kill_worker(shim, faulty)  # it removes what has ended, unasked
    eventually(lambda: not hanging(faulty.folder), "the end of its runtime")
    caller = unavailable(lambda: shim.delete("c1"))
    kill_worker(shim, faulty)
    caller.join()
    faulty.heal()
    removed(shim)


def test_a_killed_shim_takes_its_worker_along(shim: Shim, faulty: Faulty) -> None:
    faulty.do("hang", "create")
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")

    def create() -> None:
        with pytest.raises(ConnectionClosed):
            shim.create("c1", binary_name=str(faulty.path))

    caller = threading.Thread(target=create)
    caller.start()
    eventually(lambda: hanging(faulty.folder), "the runtime")
    (shim_pid,) = shim.pids
    workers = children(shim_pid)
    os.kill(shim_pid, signal.SIGKILL)
    caller.join()
    assert workers
    eventually(lambda: all(is_gone(pid) for pid in workers), "the end of the worker")
    assert shim.run_binary("c1", "delete").returncode == 0
    eventually(lambda: not hanging(faulty.folder), "the end of the runtime")


def test_a_bundle_removed_under_a_running_container(shim: Shim, faulty: Faulty, busybox: Path) -> None:
    """As with docker's, whose root lies elsewhere: nothing keeps the bundle's folder from going."""
    config = spec(["sleep", "600"])
    config["root"] = {"path": str(busybox), "readonly": True}
    shim.bundle("c1", config)
    shim.start("c1")
    request = task.CreateTaskRequest(id="c1", bundle=str(shim.folder / "b/c1"), options=shim.options())
    shim.call("Create", request, task.CreateTaskResponse)
    shim.start_process("c1")
    shutil.rmtree(shim.folder / "b/c1")
    shim.exec("c1", "e1", ["true"])
    with pytest.raises(SupervisorError, match=r"exec e1 .*no such file"):
        shim.start_process("c1", "e1")
    assert len(shim.call("Pids", task.PidsRequest(id="c1"), task.PidsResponse).processes) == 1
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    removed(shim)


@pytest.fixture
def full_disk(shim: Shim) -> Iterator[Callable[[], None]]:
    """Bundles on a small filesystem; what is answered fills it."""
    place = shim.folder / "b"
    place.mkdir()
    libc.mount("tmpfs", str(place), "tmpfs", 0, "size=256k")

    def fill() -> None:
        with suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass

    yield fill
    shim.end()
    libc.umount2(str(place), 2)


def test_create_on_a_full_disk(shim: Shim, full_disk: Callable[[], None]) -> None:
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    full_disk()
    with pytest.raises(SupervisorError, match=r"(?i)no space left on device"):
        shim.create("c1")
    assert not is_mounted(shim.folder / "b/c1/rootfs")
    (shim.folder / "b/ballast").unlink()
    shim.create("c1")
    removed(shim)


def test_a_disk_that_fills_up_stops_neither_exec_nor_the_end(
    shim: Shim, full_disk: Callable[[], None], fifos: Callable[..., Stdio]
) -> None:
    shim.begin("c1", ["sleep", "600"])
    full_disk()
    shim.exec("c1", "e1", ["true"])
    with pytest.raises(SupervisorError, match=r"(?i)no space left on device"):
        shim.start_process("c1", "e1")
    shim.delete("c1", "e1")
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    removed(shim)


@pytest.mark.slow
def test_the_reader_of_a_fifo_has_left(shim: Shim, fifos: Callable[..., Stdio], tmp_path: Path) -> None:
    """Contract 3.6: the container blocks once the fifo is full; it can be ended and removed."""
    stdio = Stdio(tmp_path)
    path = tmp_path / "out"
    os.mkfifo(path)
    stdio.stdout = str(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    shim.begin("c1", ["yes"], stdio)
    eventually(lambda: select.select([reader], [], [], 0)[0], "output")
    os.close(reader)
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    removed(shim)


def test_json_of_a_runtime_that_is_none(shim: Shim, tmp_path: Path) -> None:
    """A runtime that answers nonsense is told from one that answers nothing."""
    broken = tmp_path / "nonsense"
    broken.write_text('#!/bin/sh\ncase "$*" in *ps*) echo nonsense;; *) exec runc "$@";; esac\n')
    broken.chmod(0o755)
    shim.begin("c1", ["sleep", "600"], options={"binary_name": str(broken)})
    with pytest.raises(SupervisorError, match="printed no list of pids: b'nonsense"):
        shim.call("Pids", task.PidsRequest(id="c1"), task.PidsResponse)
    assert json.loads((shim.folder / "b/c1/options.json").read_text())["binary_name"] == str(broken)
