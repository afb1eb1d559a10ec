"""Checkpoints: the runtime's command lines, and machines without criu (contract: tasks 3.2, 7.1)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.types.runc.options import oci_pb2
from supervisor.errors import FailedPrecondition, NotFound, SupervisorError
from supervisor.shimv2.runc import checkpoint
from supervisor.shimv2.runc.making import Blueprint
from tests.shimv2.runc.driving import Shim, spec

without_criu = pytest.mark.skipif(shutil.which("criu") is not None, reason="this machine has criu")


def program(path: Path, shell: str) -> str:
    path.write_text(f"#!/bin/sh\n{shell}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def criu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A criu that works as far as can be seen; tests replace it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder / "criu", "exit 0")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "criu"


def blueprint(folder: Path, shell: str, name: str = "runtime", **options: object) -> Blueprint:
    """A container c1 whose runtime is a script."""
    binary = program(folder / name, f'echo "$*" | sed "s,{folder},B,g" >> {folder}/lines; {shell}')
    chosen = oci_pb2.Options(binary_name=binary, root="/R", **options)  # type: ignore[arg-type]
    packed = AnyMessage(type_url="containerd.runc.v1.Options", value=chosen.SerializeToString())
    return Blueprint("c1", str(folder), "ns", packed.SerializeToString())


def line(folder: Path) -> str:
    words = (folder / "lines").read_text().splitlines()[-1]
    return words.removeprefix("--root /R/ns --log B/log.json --log-format json ")


URL = "containerd.runc.v1.CheckpointOptions"


def encoded(**options: object) -> bytes:
    value = oci_pb2.CheckpointOptions(**options).SerializeToString()  # type: ignore[arg-type]
    return AnyMessage(type_url=URL, value=value).SerializeToString()


def test_options_become_flags() -> None:
    assert checkpoint.flags_of(b"") == ["--leave-running"]
    assert checkpoint.flags_of(encoded(exit=True)) == []
    everything = encoded(
        open_tcp=True,
        external_unix_sockets=True,
        terminal=True,
        file_locks=True,
        empty_namespaces=["network", "uts"],
        work_path="/w",
        parent_path="../p",
    )
    assert checkpoint.flags_of(everything) == [
        "--work-path",
        "/w",
        "--parent-path",
        "../p",
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--empty-ns",
        "network",
        "--empty-ns",
        "uts",
        "--leave-running",
    ]


def test_options_of_another_type_are_refused() -> None:
    with pytest.raises(
        SupervisorError, match=r"invalid task checkpoint option containerd\.runc\.v1\.Options"
    ):
        checkpoint.flags_of(AnyMessage(type_url="containerd.runc.v1.Options").SerializeToString())


@pytest.mark.usefixtures("criu")
def test_the_command_lines(tmp_path: Path) -> None:
    one = blueprint(tmp_path, "exit 0", no_pivot_root=True)
    checkpoint.checkpoint(one, "/dump", encoded())
    assert line(tmp_path) == "checkpoint --image-path /dump --work-path B/work/criu --leave-running c1"
    one.runtime().restore("c1", "/dump", "B/init.pid", {}, "/s")
    assert line(tmp_path) == (
        "restore --image-path /dump --work-path B/work --detach --pid-file B/init.pid --console-socket /s"
        " --no-pivot -no-subreaper --bundle B c1"
    )


def test_crun_gets_no_flags_that_it_refuses(tmp_path: Path) -> None:
    one = blueprint(tmp_path, "exit 0", "crun", no_pivot_root=True, criu_work_path="/w")
    one.runtime().restore("c1", "/dump", "B/init.pid", {})
    expected = "restore --image-path /dump --work-path /w --detach --pid-file B/init.pid --bundle B c1"
    assert line(tmp_path) == expected


@pytest.mark.usefixtures("criu")
def test_a_failed_dump_keeps_crius_log(tmp_path: Path) -> None:
    one = blueprint(tmp_path, f"echo why > {tmp_path}/work/criu/dump.log; echo first; echo second; exit 1")
    with pytest.raises(SupervisorError, match=r"exit status 1: first path= .*/criu-dump\.log$") as raised:
        checkpoint.checkpoint(one, "/dump", encoded(exit=True))
    assert not isinstance(raised.value, FailedPrecondition)
    assert (tmp_path / "criu-dump.log").read_text() == "why\n"


def test_a_criu_that_does_not_work_here(tmp_path: Path, criu: Path) -> None:
    program(criu, "echo 'Error: the kernel lacks something' >&2; exit 1")
    one = blueprint(tmp_path, "exit 1")
    with pytest.raises(
        FailedPrecondition, match=r"criu does not work on this kernel .*the kernel lacks something"
    ):
        checkpoint.checkpoint(one, "/dump", encoded(exit=True))


@without_criu
@pytest.mark.root
@pytest.mark.compat
def test_a_machine_without_criu(shim: Shim) -> None:
    """The issue: a clear FAILED_PRECONDITION, and the container goes on."""
    shim.bundle("c1", spec(["sleep", "600"]))
    shim.start("c1")
    restored = task.CreateTaskRequest(id="c1", bundle=str(shim.folder / "b/c1"), checkpoint="/dump")
    with pytest.raises(FailedPrecondition, match="restore of c1: this machine has no criu"):
        shim.call("Create", restored, task.CreateTaskResponse)
    shim.create("c1")
    request = task.CheckpointTaskRequest(id="c1", path="/dump", options=AnyMessage(type_url=URL))
    with pytest.raises(SupervisorError, match="cannot checkpoint a task in created state"):
        shim.call("Checkpoint", request, Empty)
    shim.start_process("c1")
    with pytest.raises(FailedPrecondition, match="checkpoint of c1: this machine has no criu"):
        shim.call("Checkpoint", request, Empty)
    assert len(shim.call("Pids", task.PidsRequest(id="c1"), task.PidsResponse).processes) == 1
    with pytest.raises(NotFound):
        shim.call("Checkpoint", task.CheckpointTaskRequest(id="c2"), Empty)
