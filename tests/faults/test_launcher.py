"""The launcher dies: that costs speed and nothing else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.conformance.driving import Bench, holds


def launcher_of(bench: Bench) -> list[int]:
    """The daemon's children that are launchers."""
    assert bench.target.process is not None
    found = []
    for path in Path(f"/proc/{bench.target.process.pid}/task").glob("*/children"):
        for word in path.read_text().split():
            if b"launch" in Path(f"/proc/{word}/cmdline").read_bytes():
                found.append(int(word))
    return found


def test_a_killed_launcher(bench: Bench) -> None:
    before = bench.running("before", "sleep", "1000")
    (launcher,) = launcher_of(bench)
    os.kill(launcher, signal.SIGKILL)
    assert bench.running("after", "sh", "-c", "exit 3").wait().exit_status == 3
    assert before.status() == "RUNNING"
    assert before.end() == 137
    holds(lambda: launcher not in launcher_of(bench), "its end")
