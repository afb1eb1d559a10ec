"""Whoever sits in front of a container does not notice that the daemon was killed."""

import os
import subprocess

import pytest

from tests.cli.conftest import client_of, emptied
from tests.compat.ctr import eventually
from tests.compat.target import CONTAINERD

pytestmark = [
    pytest.mark.root,
    pytest.mark.compat,
    pytest.mark.skipif(CONTAINERD, reason="containerd 1.6 promises less"),
]

COUNT = "i=0; while [ ! -e /host/go ]; do echo $i; i=$((i+1)); sleep 0.05; done; echo end; exit 7"


def test_run_and_logs_outlive_the_daemon(own_target, image_tar, tmp_path):
    sctr = client_of(own_target)
    sctr.ok("images", "import", str(image_tar))
    mount = f"type=bind,src={tmp_path},dst=/host"
    with (
        sctr.running(
            *("run", "--rm", "--mount", mount, "busybox-test", "sh", "-c", COUNT), stdout=subprocess.PIPE
        ) as in_front,
    ):
        first = [in_front.stdout.readline() for _ in range(3)]
        sctr.ok("run", "-d", "--name", "d1", "--mount", mount, "busybox-test", "sh", "-c", COUNT)
        own_target.kill()
        meanwhile = [in_front.stdout.readline() for _ in range(20)]
        assert "start it again" in sctr.fails("ps")
        own_target.start()
        (tmp_path / "go").touch()
        lines = [*first, *meanwhile, *in_front.stdout]
        assert in_front.wait(timeout=60) == 7
    assert lines == [b"%d\n" % number for number in range(len(lines) - 1)] + [b"end\n"]
    row = eventually(lambda: next((x for x in sctr.json("ps", "-a") if x["exit_code"] is not None), None))
    assert (row["id"], row["exit_code"]) == ("d1", 7)
    logged = sctr.ok("logs", "-f", "d1").split()
    assert logged == [str(number) for number in range(len(logged) - 1)] + ["end"]
    emptied(sctr)


def test_a_killed_client_leaves_nothing_that_rm_does_not_remove(own_target, image_tar):
    sctr = client_of(own_target)
    sctr.ok("images", "import", str(image_tar))
    with sctr.running(
        "run", "--name", "c1", "busybox-test", "sh", "-c", "echo x; sleep 1000", stdout=-1
    ) as run:
        assert run.stdout.readline() == b"x\n"
        run.kill()
    fifos = own_target.folder / "fifo"
    assert os.listdir(fifos)
    sctr.ok("rm", "-f", "c1")
    assert not fifos.exists()
    emptied(sctr)
