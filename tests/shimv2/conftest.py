"""A daemon's task side in this process: store, ttrpc socket and manager, over real shims and runc."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from supervisor.api.events.task_pb2 import TaskExit
from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.kernel.mountinfo import mounts_below
from supervisor.kernel.mounts import unmount_recursive
from supervisor.metadata.database import Database
from supervisor.metadata.store import Store
from supervisor.model.event import Envelope
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.mount import Mount
from supervisor.model.task import Stdio
from supervisor.services import ttrpc_events
from supervisor.shimv2.manager import Manager, NewTask
from supervisor.shimv2.settings import ShimSettings
from supervisor.shimv2.tasks import Task
from supervisor.ttrpc.aio import Server

GO_SHIM = Path("/usr/bin/containerd-shim-runc-v2")
NAMESPACE = Namespace("tests")
DEADLINE = 30.0
CGROUPS = Path("/sys/fs/cgroup")


async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Poll until `condition` holds; fails naming `what` at a generous deadline."""
    end = time.monotonic() + DEADLINE
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < end, f"never came true: {what}"
        await asyncio.sleep(0.01)


_NUMBERS = itertools.count()


def spec(*args: str) -> bytes:
    """A container's spec. Its cgroup is nobody else's: a runtime kills all that is in it."""
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            # A /dev of its own: the root is shared, and runtimes make links there.
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}],
                "cgroupsPath": f"/sv-{os.getpid()}-{next(_NUMBERS)}",
            },
        }
    ).encode()


class Daemon:
    """Started and stopped like a daemon, in this process; `kill` leaves everything as SIGKILL would."""

    def __init__(self, top: Path, runtimes: dict[str, str]) -> None:
        self.top = top
        self.settings = ShimSettings(
            root=top / "r",
            state=top / "t",
            grpc_address=str(top / "t/s.sock"),
            ttrpc_address=str(top / "t/s.sock.ttrpc"),
            daemon_binary="/bin/false",
            runtimes=runtimes,
        )
        self.events: list[Envelope] = []
        self._stack = AsyncExitStack()
        self.manager: Manager
        self.store: Store

    async def start(self) -> None:
        self.settings.root.mkdir(exist_ok=True)
        self.settings.state.mkdir(exist_ok=True)
        database = self._stack.enter_context(Database(self.settings.root / "metadata.db"))
        database.tell(self.events.extend)
        self.store = Store(database)
        server = Server(Path(self.settings.ttrpc_address), ttrpc_events.services(self.store))
        await self._stack.enter_async_context(server)
        self.manager = await self._stack.enter_async_context(Manager(self.settings, self.store))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def create(self, id_: str, *args: str, **more: object) -> Task:
        wanted = NewTask(
            namespace=NAMESPACE,
            id=ContainerId(id_),
            runtime=str(more.pop("runtime", "io.containerd.runc.v2")),
            spec=spec(*args),
            rootfs=(Mount("bind", str(self.top / "rootfs"), ("rbind",)),),
            stdio=Stdio(stdout=str(more.pop("stdout", ""))),
        )
        pid = await self.manager.create(wanted)
        assert pid > 0
        return self.manager.get(NAMESPACE, id_)

    async def run(self, id_: str, *args: str, **more: object) -> Task:
        task = await self.create(id_, *args, **more)
        assert (await task.call("Start", pb.StartRequest(id=id_), pb.StartResponse)).pid > 0
        return task

    async def shim_pid(self, task: Task) -> int:
        return (await task.call("Connect", pb.ConnectRequest(id=task.id), pb.ConnectResponse)).shim_pid

    def topics(self, id_: str) -> list[str]:
        """The topics of the events that tell of a container, in order."""
        return [one.topic for one in self.events if one.event and id_.encode() in one.event.value]

    def exits(self, id_: str) -> list[TaskExit]:
        payloads = [one.event.value for one in self.events if one.event and one.topic == "/tasks/exit"]
        return [told for told in map(TaskExit.FromString, payloads) if told.container_id == id_]


def processes_below(top: Path) -> list[int]:
    """Processes whose command line or current folder names the test's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_text() + str(os.readlink(folder / "cwd"))
        except OSError:
            continue
        if str(top) in text and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def left_behind(daemon: Daemon) -> list[str]:
    """What no longer belongs there once no task is left."""
    state = daemon.settings.state
    folders = [*daemon.settings.bundles.glob("*/*"), *daemon.settings.works.glob("*/*")]
    mounts = [entry.mount_point for entry in mounts_below(daemon.top)]
    runtime = list((state / "runtime").glob("*/*"))
    sockets = list((state / "s").iterdir())
    return [*map(str, (*folders, *runtime, *sockets, *processes_below(daemon.top))), *mounts]


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder with a short path, as sockets need, and a root file system of busybox in it."""
    path = Path(tempfile.mkdtemp(prefix="sv-", dir="/tmp"))
    binaries = path / "rootfs/bin"
    binaries.mkdir(parents=True)
    (path / "rootfs/proc").mkdir()
    (path / "rootfs/dev").mkdir()
    shutil.copy("/bin/busybox", binaries / "busybox")
    for name in ("sh", "sleep", "true", "echo", "cat"):
        (binaries / name).symlink_to("busybox")
    yield path
    for pid in processes_below(path):
        os.kill(pid, signal.SIGKILL)
    unmount_recursive(path)
    shutil.rmtree(path)
    name = f"sv-{os.getpid()}-*"
    for left in (*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")):
        with suppress(FileNotFoundError):  # two hierarchies may be one under two names
            left.rmdir()


RUNTIMES = {"go": {"io.containerd.runc.v2": str(GO_SHIM)}, "own": {}}


@pytest_asyncio.fixture(params=[pytest.param("go", marks=pytest.mark.compat), "own"])
async def daemon(request: pytest.FixtureRequest, top: Path) -> AsyncIterator[Daemon]:
    running = Daemon(top, RUNTIMES[request.param])
    await running.start()
    yield running
    for task in running.manager.of(NAMESPACE):
        await task.call("Kill", pb.KillRequest(id=task.id, signal=9, all=True), pb.StateResponse)
        await task.wait("")
        await running.manager.delete(task)
    await running.stop()
