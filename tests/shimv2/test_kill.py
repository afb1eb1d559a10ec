"""SIGKILL of the daemon at any moment: the next one finishes or undoes what was under way (contract 4.6)."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from supervisor.api.runtime.task.v3 import shim_pb2 as pb
from supervisor.errors import NotFound
from tests.shimv2.conftest import NAMESPACE, RUNTIMES, Daemon, eventually, left_behind

pytestmark = [pytest.mark.root, pytest.mark.slow]

ROUNDS = 16
REPOSITORY = Path(__file__).parents[2]


def kill_after(top: Path, kind: str, seconds: float) -> None:
    """Run a daemon that makes tasks, and kill it so long after it began. The moment is what varies."""
    command = [sys.executable, "-m", "tests.shimv2.victim", str(top), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        victim.kill()


async def end_all(daemon: Daemon) -> None:
    """Clients come back: they see only whole tasks, and can be rid of them."""
    for task in daemon.manager.of(NAMESPACE):
        state = await task.state("", 5)
        assert state.pid > 0
        with suppress(NotFound):  # it ended by itself
            await task.call("Kill", pb.KillRequest(id=task.id, signal=9), pb.StateResponse)
        await task.wait("")
        await daemon.manager.delete(task)


def is_clean(daemon: Daemon) -> bool:
    return left_behind(daemon) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [pytest.param("go", marks=pytest.mark.compat), "own"])
async def test_sigkill_between_any_two_steps(top: Path, kind: str) -> None:
    for number in range(ROUNDS):
        kill_after(top, kind, number * 0.03)
        daemon = Daemon(top, RUNTIMES[kind])
        await daemon.start()
        await end_all(daemon)
        await eventually(partial(is_clean, daemon), f"a clean state after round {number}")
        await daemon.stop()
