"""The launcher: the same actions as the binary's, from forks of a warm process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.shimv2.bootstrap import parse_answer
from supervisor.shimv2.launcher import ORDER, START, Launcher
from tests.shimv2.runc.driving import SHIM, TASK, Shim, eventually, spec
from tests.ttrpc.client import Client

pytestmark = [pytest.mark.root, pytest.mark.compat]

# Measured with CPython 3.11: 1,900. Exec'd by itself a shim has 8,500.
MAX_PRIVATE_KIB = 2400


def _argv(shim: Shim, container: str, *action: str) -> list[str]:
    address = str(shim.folder / "d.sock")
    return [SHIM, "-namespace", shim.namespace, "-address", address, "-id", container, *action]


def test_many_shims_at_once(shim: Shim) -> None:
    names = [f"c{number}" for number in range(10)]
    for name in names:
        shim.bundle(name, spec(["true"]))

    async def start() -> list[str]:
        async with Launcher(Path(SHIM)) as launcher:

            async def one(name: str) -> str:
                bundle = shim.folder / "b" / name
                done = await launcher.run(
                    _argv(shim, name, "start"), bundle, dict(os.environ), shim.params(name)
                )
                assert done is not None
                assert (done.code, done.stderr) == (0, b"")
                return parse_answer(done.stdout).address

            return list(await asyncio.gather(*map(one, names)))

    # The launcher is gone when this returns, the shims are not.
    for name, address in zip(names, asyncio.run(start()), strict=True):
        with Client(address) as client:
            answer = client.call(TASK, "Connect", task.ConnectRequest(id=name), task.ConnectResponse)
            shim.pids.add(answer.shim_pid)
    assert len(shim.pids) == len(names)
    assert {int(Path(f"/proc/{pid}/stat").read_text().split()[5]) for pid in shim.pids} == shim.pids
    titles = sorted(Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() for pid in shim.pids)
    assert titles == sorted(
        " ".join(["containerd-shim-oci-v2", *_argv(shim, name, "start")[1:]]) for name in names
    )


def test_a_killed_launcher_is_replaced(shim: Shim) -> None:
    """Architecture 3: its death costs only speed."""

    async def start() -> list[object]:
        async with Launcher(Path(SHIM)) as launcher:
            first = launcher.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            during = await launcher.run([SHIM, "-v"], shim.folder, {}, b"")
            await asyncio.to_thread(eventually, lambda: launcher.pid not in (None, first), "a launcher")
            after = await launcher.run([SHIM, "-v"], shim.folder, {}, b"")
            return [during, after and after.code]

    assert asyncio.run(start()) == [None, 0]


def test_an_action_that_is_given_up_is_killed(shim: Shim) -> None:
    bundle = shim.folder / "b/stuck"
    bundle.mkdir(parents=True)
    os.mkfifo(bundle / "config.json")  # whoever reads the spec waits for ever

    async def start() -> None:
        async with Launcher(Path(SHIM)) as launcher:
            order = launcher.run(_argv(shim, "stuck", "start"), bundle, dict(os.environ), b"")
            running = asyncio.ensure_future(order)
            pid = await asyncio.to_thread(eventually, lambda: _standing_in(bundle), "the action")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert pid not in _children(launcher)

    asyncio.run(start())


def _children(launcher: Launcher) -> list[int]:
    """Zombies among them."""
    return [
        int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ]


def _standing_in(folder: Path) -> int:
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(place / "cwd") == str(folder):
                return int(place.name)
    return 0


def test_a_shim_is_kept_ready(shim: Shim) -> None:
    shim.bundle("c1", spec(["true"]))
    shim.bundle("c2", spec(["true"]))

    async def start() -> list[int]:
        async with Launcher(Path(SHIM)) as launcher:
            (first,) = await asyncio.to_thread(eventually, lambda: _children(launcher), "a shim")
            await _start(launcher, shim, "c1")
            assert _shim_pid(shim, "c1") == first
            others = await asyncio.to_thread(eventually, lambda: set(_children(launcher)) - {first}, "a shim")
            (second,) = others
            os.kill(second, signal.SIGKILL)
            await asyncio.to_thread(eventually, lambda: second not in _children(launcher), "its end")
            await _start(launcher, shim, "c2")
            assert _shim_pid(shim, "c2") != second
            (third,) = await asyncio.to_thread(
                eventually, lambda: set(_children(launcher)) - shim.pids, "a shim"
            )
            return [second, third]

    gone = asyncio.run(start())
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in gone), "their end with the launcher")


async def _start(launcher: Launcher, shim: Shim, name: str) -> None:
    bundle = shim.folder / "b" / name
    done = await launcher.run(_argv(shim, name, "start"), bundle, dict(os.environ), shim.params(name))
    assert done is not None
    assert (done.code, done.stderr) == (0, b"")


def _shim_pid(shim: Shim, name: str) -> int:
    address = (shim.folder / "b" / name / "address").read_text()
    with Client(address) as client:
        pid: int = client.call(TASK, "Connect", task.ConnectRequest(id=name), task.ConnectResponse).shim_pid
    shim.pids.add(pid)
    return pid


def test_a_hundred_forks_leave_nothing(shim: Shim) -> None:
    async def start() -> tuple[list[int], set[int]]:
        async with Launcher(Path(SHIM)) as launcher:
            counts = []
            for _ in range(2):
                for _ in range(50):
                    done = await launcher.run([SHIM, "-v"], shim.folder, {}, b"")
                    assert done is not None
                    assert done.code == 0
                await asyncio.to_thread(
                    eventually, lambda: len(_children(launcher)) == 1, "the ready one alone"
                )
                counts.append(len(os.listdir(f"/proc/{launcher.pid}/fd")))
            return counts, launcher._waiting.keys() | set()

    counts, waiting = asyncio.run(start())
    assert counts[0] == counts[1]
    assert not waiting


def test_nothing_of_the_daemon_reaches_a_shim(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    """R4: no descriptor, no notification socket, and no session of the daemon's."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nope/notify")
    shim.bundle("c1", spec(["true"]))

    async def start() -> str:
        with (shim.folder / "secret").open("wb") as secret:
            os.set_inheritable(secret.fileno(), True)
            async with Launcher(Path(SHIM)) as launcher:
                bundle = shim.folder / "b/c1"
                done = await launcher.run(_argv(shim, "c1", "start"), bundle, {"A": "b"}, shim.params("c1"))
                assert done is not None
                return parse_answer(done.stdout).address

    with Client(asyncio.run(start())) as client:
        pid = client.call(TASK, "Connect", task.ConnectRequest(id="c1"), task.ConnectResponse).shim_pid
    shim.pids.add(pid)
    place = Path(f"/proc/{pid}")
    assert b"NOTIFY_SOCKET" not in (place / "environ").read_bytes()
    open_files = {os.readlink(entry) for entry in (place / "fd").iterdir()}
    assert {name.partition(":")[0] for name in open_files} <= {
        "/dev/null",
        "socket",
        "anon_inode",
        "pipe",  # that signals wake the loop by
        str(place),
    }


def test_a_failing_action_says_why(shim: Shim) -> None:
    async def start() -> tuple[int, bytes]:
        async with Launcher(Path(SHIM)) as launcher:
            done = await launcher.run(_argv(shim, "c1", "start"), shim.folder, dict(os.environ), b"")
            assert done is not None
            return done.code, done.stderr

    code, said = asyncio.run(start())
    assert (code, b"read the spec ./config.json" in said) == (1, True)


def test_without_a_launcher_the_caller_is_told(shim: Shim) -> None:
    async def start() -> list[object]:
        async with Launcher(Path("/nope")) as none:
            first = await none.run(_argv(shim, "c1", "-v"), shim.folder, {}, b"")
        async with Launcher(Path(SHIM)) as killed:
            assert killed.pid is not None
            os.kill(killed.pid, signal.SIGKILL)
            second = await killed.run(_argv(shim, "c1", "-v"), shim.folder, {}, b"")
        return [first, second]

    assert asyncio.run(start()) == [None, None]


def test_memory_of_a_forked_shim(shim: Shim) -> None:
    """Architecture 8: what a shim has for itself alone stays small."""
    shim.bundle("c1", spec(["sleep", "1000"]))

    async def measure() -> int:
        async with Launcher(Path(SHIM)) as launcher:
            bundle = shim.folder / "b/c1"
            done = await launcher.run(_argv(shim, "c1", "start"), bundle, dict(os.environ), shim.params("c1"))
            assert done is not None
            address = parse_answer(done.stdout).address
            await asyncio.to_thread(_create, shim, address)
            (pid,) = shim.pids
            return _private_kib(pid)

    assert asyncio.run(measure()) < MAX_PRIVATE_KIB


def _create(shim: Shim, address: str) -> None:
    shim.connect(address, "c1")
    shim.create("c1")
    shim.start_process("c1")
    eventually(lambda: shim.sink.topics() == ["create", "start"], "the events")


def _private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


def test_orders_of_a_daemon_that_is_gone_are_dropped(shim: Shim) -> None:
    """A daemon killed right after its order: its successor must not find a shim that nobody asked for."""
    bundle = shim.bundle("c1", spec(["true"]))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        argv = _argv(shim, "c1", "start")[1:]
        order = {"argv": argv, "env": dict(os.environ), "stdin": shim.params("c1").decode("latin-1")}
        ours.send(ORDER.pack(START, 1) + f"title\0{bundle}\0{json.dumps(order)}".encode())
        ours.close()
        launcher = subprocess.run([SHIM, "launch"], stdin=theirs.fileno(), timeout=60)
    assert launcher.returncode == 0
    assert not (bundle / "address").exists()
