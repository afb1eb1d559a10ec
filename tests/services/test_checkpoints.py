"""Checkpoints over gRPC, by a runtime that dumps without criu (contract: tasks 4.3, Checkpoint)."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.runc.options.oci_pb2 import CheckpointOptions, Options
from supervisor.metadata.blobs import Blobs
from supervisor.model.any import Any
from supervisor.model.container import Runtime
from supervisor.model.digest import Digest
from supervisor.services.checkpoints import CONFIG, CRIU_TAR
from tests.services.test_tasks import Api, api, content_of, refused
from tests.shimv2.conftest import NAMESPACE, spec, top

__all__ = ["api", "top"]

pytestmark = pytest.mark.root

# Dumps two files, and leaves everything else to runc.
DUMPER = """#!/bin/sh
dump=
for word in "$@"; do
    [ "$previous" = --image-path ] && dump=$word
    previous=$word
done
[ -z "$dump" ] && exec runc "$@"
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
    assert kept.value == spec("sleep", "1000")
    assert list((api.daemon.settings.works / NAMESPACE / "c1").glob("checkpoint-*")) == []


async def test_a_dump_into_a_folder_makes_no_blobs(tools: Path, api: Api) -> None:
    await dumped(api, tools)
    wanted = pb.CheckpointTaskRequest(container_id="c1", options=options(image_path=str(tools / "dump")))
    assert len((await api.Checkpoint(wanted)).descriptors) == 0
    assert (tools / "dump/core-1.img").read_text() == "core\n"


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
