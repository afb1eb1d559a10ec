"""Checkpoints over gRPC, by a runtime that dumps without criu (contract: tasks 4.3, Checkpoint)."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.api.types.runc.options.oci_pb2 import CheckpointOptions, Options
from supervisor.metadata.blobs import Blobs
from supervisor.model.any import Any
from supervisor.model.container import Runtime
from supervisor.model.digest import Digest
from supervisor.services.checkpoints import CONFIG, CRIU_TAR
from tests.services.test_tasks import Api, api, content_of, refused
from tests.shimv2.conftest import NAMESPACE, top

__all__ = ["api", "top"]

pytestmark = pytest.mark.root

# Dumps two files; restores by starting anew, if the two are there; leaves everything else to runc.
DUMPER = """#!/bin/sh
dump=
for word in "$@"; do
    case $previous in
        --image-path) dump=$word;;
        --root) root=$word;;
        --pid-file) pid_file=$word;;
        --bundle) bundle=$word;;
    esac
    previous=$word
done
[ -z "$dump" ] && exec runc "$@"
case " $* " in *" restore "*)
    cat "$dump/core-1.img" "$dump/pages-1.img" || exit 1
    exec runc --root "$root" run --detach --pid-file "$pid_file" --bundle "$bundle" "$previous";;
esac
mkdir -p "$dump" && echo core > "$dump/core-1.img" && echo pages > "$dump/pages-1.img"
"""


def options(**values: str) -> AnyMessage:
    encoded = CheckpointOptions(**values).SerializeToString()
    return AnyMessage(type_url="containerd.runc.v1.CheckpointOptions", value=encoded)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime, and a criu to be found by who asks whether there is one."""
    for name, text in (("dumper", DUMPER), ("criu", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


async def dumped(api: Api, tools: Path) -> None:
    chosen = Options(binary_name=str(tools / "dumper")).SerializeToString()
    runtime = Runtime("io.containerd.runc.v2", Any("containerd.runc.v1.Options", chosen))
    await api.container("c1", "sleep", "1000", runtime=runtime)
    await api.Create(api.request("c1"))
    await api.Start(pb.StartRequest(container_id="c1"))


def blob(store: Blobs, digest: str) -> bytes:
    file, size = store.open_blob(NAMESPACE, Digest(digest))
    with file:
        data = file.read()
    assert len(data) == size
    return data


async def test_a_dump_and_its_spec_become_blobs(tools: Path, api: Api) -> None:
    await dumped(api, tools)
    answer = await api.Checkpoint(pb.CheckpointTaskRequest(container_id="c1"))
    dump, config = answer.descriptors
    assert (dump.media_type, config.media_type) == (CRIU_TAR, CONFIG)
    store = content_of(api.daemon)
    with tarfile.open(fileobj=io.BytesIO(blob(store, dump.digest))) as tar:
        assert tar.getnames() == ["core-1.img", "pages-1.img"]
    kept = AnyMessage.FromString(blob(store, config.digest))
    assert json.loads(kept.value)["process"]["args"] == ["sleep", "1000"]
    assert list((api.daemon.settings.works / NAMESPACE / "c1").glob("checkpoint-*")) == []


async def test_a_dump_into_a_folder_makes_no_blobs(tools: Path, api: Api) -> None:
    await dumped(api, tools)
    wanted = pb.CheckpointTaskRequest(container_id="c1", options=options(image_path=str(tools / "dump")))
    assert len((await api.Checkpoint(wanted)).descriptors) == 0
    assert (tools / "dump/core-1.img").read_text() == "core\n"


async def stopped(api: Api) -> None:
    """End and delete the task, whose process ran."""
    await api.Kill(pb.KillRequest(container_id="c1", signal=9))
    assert (await api.Wait(pb.WaitRequest(container_id="c1"))).exit_status == 137
    await api.Delete(pb.DeleteTaskRequest(container_id="c1"))


async def test_a_task_is_restored_from_its_blob_when_it_is_started(tools: Path, api: Api) -> None:
    """Tasks 3.3 Create: nothing runs before Start; 3.2: no exec before."""
    await dumped(api, tools)
    dump = (await api.Checkpoint(pb.CheckpointTaskRequest(container_id="c1"))).descriptors[0]
    await stopped(api)
    assert (await api.Create(api.request("c1", checkpoint=dump))).pid == 0
    early = pb.ExecProcessRequest(container_id="c1", exec_id="e1", spec=AnyMessage(value=b"{}"))
    await refused(api.Exec(early), 2, "cannot exec in a created state")
    pid = (await api.Start(pb.StartRequest(container_id="c1"))).pid
    os.kill(pid, 0)
    await stopped(api)


async def test_a_restored_task_that_was_never_started_is_deleted(tools: Path, api: Api) -> None:
    await dumped(api, tools)
    dump = (await api.Checkpoint(pb.CheckpointTaskRequest(container_id="c1"))).descriptors[0]
    await stopped(api)
    await api.Create(api.request("c1", checkpoint=dump))
    await api.Delete(pb.DeleteTaskRequest(container_id="c1"))


async def test_a_folder_is_restored_and_started_at_once(tools: Path, api: Api) -> None:
    """Tasks 4.4 (3): what a descriptor's annotation names."""
    await dumped(api, tools)
    folder = str(tools / "dump")
    wanted = pb.CheckpointTaskRequest(container_id="c1", options=options(image_path=folder))
    await api.Checkpoint(wanted)
    await stopped(api)
    from_path = Descriptor(annotations={"RestoreFromPath": folder})
    assert (await api.Create(api.request("c1", checkpoint=from_path))).pid > 0
    await stopped(api)


async def test_options_of_another_type(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    wrong = pb.CheckpointTaskRequest(
        container_id="c1", options=AnyMessage(type_url="containerd.runc.v1.Options")
    )
    await refused(api.Checkpoint(wrong), 2, "invalid task checkpoint option")


@pytest.mark.skipif(shutil.which("criu") is not None, reason="this machine has criu")
async def test_a_machine_without_criu(api: Api) -> None:
    await api.running("c1", "sleep", "1000")
    await refused(api.Checkpoint(pb.CheckpointTaskRequest(container_id="c1")), 9, "this machine has no criu")
    assert (await api.Get(pb.GetRequest(container_id="c1"))).process.pid > 0
