"""A shim's binary that is killed while it cleans up."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.api.runtime.task.v3.shim_pb2 import DeleteResponse
from supervisor.errors import SupervisorError
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.shimv2.binary import CLEANUP_ATTEMPTS, ShimBinaries
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.settings import ShimSettings

SCRIPT = """#!/bin/sh
echo >> {folder}/tries
[ $(wc -l < {folder}/tries) -gt {deaths} ] || kill -9 $$
cat {folder}/answer
"""


@pytest.fixture
def settings(tmp_path: Path) -> ShimSettings:
    made = ShimSettings(tmp_path / "r", tmp_path / "t", "d.sock", "d.sock.ttrpc", "/bin/false")
    made.bundles.mkdir(parents=True)
    return made


def binary(folder: Path, deaths: int) -> Path:
    (folder / "answer").write_bytes(DeleteResponse(pid=7, exit_status=137).SerializeToString())
    path = folder / "shim"
    path.write_text(SCRIPT.format(folder=folder, deaths=deaths))
    path.chmod(0o755)
    return path


async def test_a_clean_up_that_is_killed_is_begun_again(settings: ShimSettings, tmp_path: Path) -> None:
    bundle = Bundle.of(settings, Namespace("ns"), ContainerId("c1"))
    end = await ShimBinaries(settings).delete(binary(tmp_path, CLEANUP_ATTEMPTS - 1), bundle)
    assert (end.pid, end.status) == (7, 137)


async def test_but_not_for_ever(settings: ShimSettings, tmp_path: Path) -> None:
    bundle = Bundle.of(settings, Namespace("ns"), ContainerId("c1"))
    with pytest.raises(SupervisorError, match="exit status 137"):
        await ShimBinaries(settings).delete(binary(tmp_path, CLEANUP_ATTEMPTS), bundle)
    assert len((tmp_path / "tries").read_text()) == CLEANUP_ATTEMPTS
