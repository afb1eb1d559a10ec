"""Both ways round: our shim under containerd, and containerd's Go shim under our daemon."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import a_target
from tests.compat.ctr import Ctr, eventually
from tests.compat.target import Target
from tests.images import TAG

GO_SHIM = "containerd-shim-runc-v2"
OUR_RUNTIME = "io.containerd.oci.v2"

pytestmark = pytest.mark.skipif(
    not shutil.which("containerd"), reason="no containerd: apt-get install containerd"
)


@pytest.fixture(params=["our-shim-under-containerd", "go-shim-under-ours"])
def pairing(request: pytest.FixtureRequest) -> Iterator[tuple[Target, str]]:
    """A daemon, and the runtime's name by which it uses the other project's shim."""
    if request.param == "our-shim-under-containerd":
        with a_target(containerd=True) as target:
            yield target, OUR_RUNTIME
    else:
        config = f'[runtime.shims]\n"io.containerd.runc.v2" = "{shutil.which(GO_SHIM)}"\n'
        with a_target(containerd=False, config=config) as target:
            yield target, "io.containerd.runc.v2"


@pytest.fixture
def target(pairing: tuple[Target, str]) -> Target:
    """The daemon of the pairing, for the log that goes with a failure."""
    return pairing[0]


@pytest.fixture
def shimmed(target: Target, pairing: tuple[Target, str], image_tar: Path) -> Ctr:
    """A client with the image imported."""
    ctr = target.ctr("shims")
    target.namespaces.append("shims")
    ctr.run("images", "import", str(image_tar))
    return ctr


@pytest.fixture
def runtime(pairing: tuple[Target, str]) -> str:
    """What to pass as --runtime."""
    return pairing[1]


def shim_of(target: Target, pid: int) -> str:
    """The program that is the parent of a container's first process."""
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return Path(f"/proc/{parent}/cmdline").read_text().replace("\0", " ")


def test_output_and_status(shimmed: Ctr, runtime: str) -> None:
    words = ("run", "--rm", "--runtime", runtime, TAG, "c", "sh", "-c", "echo out; echo err >&2; exit 7")
    for _ in range(5):
        answer = shimmed.run(*words, check=False)
        assert (answer.returncode, answer.stdout, answer.stderr) == (7, "out\n", "err\n")


def test_the_shim_is_the_others(target: Target, shimmed: Ctr, runtime: str) -> None:
    shimmed.run("run", "-d", "--runtime", runtime, TAG, "c", "sleep", "1000")
    name = "containerd-shim-oci-v2" if target.containerd else GO_SHIM
    assert name in shim_of(target, shimmed.pid("c"))
    shimmed.remove("c")


def test_exec_kill_pause_and_remove(shimmed: Ctr, runtime: str) -> None:
    shimmed.run("run", "-d", "--runtime", runtime, TAG, "c", "sleep", "1000")
    assert shimmed.out("tasks", "exec", "--exec-id", "one", "c", "echo", "in") == "in\n"
    shimmed.run("tasks", "pause", "c")
    assert shimmed.status("c") == "PAUSED"
    shimmed.run("tasks", "resume", "c")
    shimmed.run("tasks", "kill", "--signal", "KILL", "c")
    eventually(lambda: shimmed.status("c") == "STOPPED")
    shimmed.run("tasks", "rm", "c")
    shimmed.run("containers", "rm", "c")


def test_stdin_is_read_to_its_end(shimmed: Ctr, runtime: str) -> None:
    words = ("run", "--rm", "--runtime", runtime, TAG, "c", "sh", "-c", "echo ready; cat")
    with shimmed.running(*words, stdin=-1) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.stdin.write(b"one\n")
        run.stdin.close()
        assert run.stdout.read() == b"one\n"
        assert run.wait(timeout=30) == 0


def test_a_running_container_outlives_the_daemon(target: Target, shimmed: Ctr, runtime: str) -> None:
    shimmed.run("run", "-d", "--runtime", runtime, TAG, "c", "sleep", "1000")
    pid = shimmed.pid("c")
    target.kill()
    target.start()
    assert (shimmed.status("c"), shimmed.pid("c")) == ("RUNNING", pid)
    shimmed.remove("c")


def test_an_exit_meanwhile_is_there(target: Target, shimmed: Ctr, runtime: str) -> None:
    """containerd drops a task that stopped while it was away from 1.7 on; before, and we, keep it."""
    script = "while [ ! -e /end ]; do sleep 0.05; done; exit 7"
    shimmed.run("run", "-d", "--runtime", runtime, TAG, "c", "sh", "-c", script)
    pid = shimmed.pid("c")
    target.kill()
    Path(f"/proc/{pid}/root/end").touch()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    target.start()
    if target.keeps_what_ended:
        assert shimmed.status("c") == "STOPPED"
        assert "code 7" in shimmed.run("tasks", "rm", "c").stderr
    else:
        assert shimmed.status("c") == ""
    shimmed.run("containers", "rm", "c")
