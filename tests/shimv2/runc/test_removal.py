"""What the runtime keeps of a container that has ended goes at once; what is told of it stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.types.task.task_pb2 import STOPPED
from supervisor.errors import NotFound
from tests.shimv2.runc.driving import Shim, eventually, is_mounted, spec

pytestmark = [pytest.mark.root, pytest.mark.compat]

HOOK = """#!/bin/sh
cat > /dev/null
echo ran >> {told}
"""


def ended(shim: Shim, **more: Any) -> Path:
    """A container that has ended with 3; its bundle."""
    bundle = shim.bundle("c1", spec(["sh", "-c", "exit 3"]) | more)
    shim.start("c1")
    shim.create("c1")
    shim.start_process("c1")
    assert shim.wait("c1").exit_status == 3
    return bundle


def is_known_to_runtime(shim: Shim) -> bool:
    return (shim.runtime_root / "shimtest" / "c1").exists()


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A program that tells in a file that it ran."""
    program = tmp_path / "hook"
    program.write_text(HOOK.format(told=tmp_path / "told"))
    program.chmod(0o755)
    return program


def test_nothing_of_it_is_left_with_the_runtime(shim: Shim) -> None:
    bundle = ended(shim)
    eventually(lambda: not is_known_to_runtime(shim), "its removal")
    eventually(lambda: not is_mounted(bundle / "rootfs"), "the end of its root")
    assert (bundle / "config.json").exists()
    state = shim.state("c1")
    assert (state.status, state.exit_status) == (STOPPED, 3)
    assert shim.wait("c1").exit_status == 3


def test_it_answers_as_ever_and_is_deleted_once(shim: Shim) -> None:
    ended(shim)
    eventually(lambda: not is_known_to_runtime(shim), "its removal")
    with pytest.raises(NotFound, match="process already finished"):
        shim.call("Kill", task.KillRequest(id="c1", signal=9), Empty)
    shim.call("Kill", task.KillRequest(id="c1", signal=9, all=True), Empty)
    assert not shim.call("Pids", task.PidsRequest(id="c1"), task.PidsResponse).processes
    assert shim.delete("c1").exit_status == 3
    with pytest.raises(NotFound):
        shim.delete("c1")


def test_hooks_of_a_deletion_run_when_it_is_deleted(shim: Shim, hook: Path) -> None:
    ended(shim, hooks={"poststop": [{"path": str(hook)}]})
    told = hook.parent / "told"
    time.sleep(0.3)  # nothing tells that something will not happen
    assert not told.exists()
    assert is_known_to_runtime(shim)
    shim.delete("c1")
    assert told.read_text() == "ran\n"
    assert not is_known_to_runtime(shim)


def test_a_root_in_use_is_taken_off_by_the_deletion(shim: Shim) -> None:
    bundle = shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    shim.create("c1")
    shim.start_process("c1")
    held = os.open(bundle / "rootfs", os.O_RDONLY | os.O_DIRECTORY)
    try:
        shim.kill("c1")
        assert shim.wait("c1").exit_status == 137
        eventually(lambda: not is_known_to_runtime(shim), "its removal")
    finally:
        os.close(held)
    assert shim.delete("c1").exit_status == 137
    assert not is_mounted(bundle / "rootfs")
