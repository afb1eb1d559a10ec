"""The demo holds, and takes everything away when it is cut short."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.target import CONTAINERD

pytestmark = [
    pytest.mark.root,
    pytest.mark.compat,
    pytest.mark.slow,
    pytest.mark.skipif(CONTAINERD, reason="the demo starts our daemon"),
]

REPOSITORY = Path(__file__).parents[2]


def demo(tmp_path):
    return subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def nothing_left(tmp_path, pid):
    assert list(tmp_path.iterdir()) == []
    assert not list(Path("/sys/fs/cgroup").glob(f"*/demo-{pid}"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def short(tmp_path_factory):
    """A folder whose name leaves room for a socket's."""
    folder = Path("/run") / f"d-{tmp_path_factory.mktemp('x').name[-6:]}"
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.mark.timeout(300)
def test_the_demo_holds(short):
    with demo(short) as process:
        told = process.communicate()[0]
    assert process.returncode == 0, told
    assert "nothing is left behind" in told
    nothing_left(short, process.pid)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", [3, 6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(short, step, number):
    with demo(short) as process:
        for line in process.stdout:
            if line.startswith(f"{step:2}. "):
                process.send_signal(number)
                break
        told = process.stdout.read()
    assert process.returncode == 130, told
    nothing_left(short, process.pid)
