"""What a client may choose of the runtime, `containerd.runc.v1.Options`: contract tasks 3.7."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from tests.compat.conftest import eventually_clean
from tests.compat.ctr import eventually
from tests.compat.target import CGROUPS
from tests.conformance.cells import CELLS
from tests.conformance.conftest import a_bench
from tests.conformance.driving import Bench, Box, Output

SLEEP = ("sleep", "1000")
OWNED = {"io_uid": 1234, "io_gid": 5678}
OWNERS = "/bin/busybox stat -L -c %u:%g /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2"

# Only these two of v1: a new cpuset takes no process before somebody has given it processors.
HIERARCHIES = ("memory", "pids")


def script(path: Path, shell: str) -> None:
    """A program."""
    path.write_text(f"#!/bin/sh\n{shell}\n")
    path.chmod(0o755)


class Recorder:
    """A runtime that writes down each of its command lines, and the owners of its streams."""

    def __init__(self, folder: Path, name: str, action: str) -> None:
        self.path = str(folder / name)
        self._lines = folder / "lines"
        self._owners = folder / "owners"
        # Not `stat > file`: the shell itself would have that file for its output meanwhile.
        noting = f'owners=$({OWNERS})\necho "$owners" > {self._owners}\necho "$@" >> {self._lines}'
        script(folder / name, f"{noting}\n{action}")

    def line(self, command: str) -> list[str]:
        """The words of the last command line with that command."""
        self._lines.touch()
        lines = [line.split() for line in self._lines.read_text().splitlines()]
        return next((line for line in reversed(lines) if command in line), [])

    def owners(self) -> list[str]:
        """Of stdin, stdout and stderr of the command that ran last."""
        return self._owners.read_text().split()


@pytest.fixture
def recorder(tmp_path: Path, bench: Bench) -> Recorder:
    folder = tmp_path / "runtime"
    folder.mkdir()
    return Recorder(folder, bench.cell.runtime, f'exec {bench.cell.runtime} "$@"')


@pytest.fixture
def own_cgroup() -> Iterator[str]:
    """A cgroup in some hierarchies, to be given before the bench: it goes when the shim in it has gone."""
    name = f"shims-{uuid.uuid4().hex[:8]}"
    tops = [CGROUPS / one for one in HIERARCHIES if (CGROUPS / one).is_dir()] or [CGROUPS]
    for top in tops:
        (top / name).mkdir()
    yield f"/{name}"
    for top in tops:
        with suppress(AssertionError):
            eventually(lambda top=top: not _members(top / name), within=10)
        for pid in _members(top / name):
            (top / "cgroup.procs").write_text(pid)
        (top / name).rmdir()


def _members(cgroup: Path) -> list[str]:
    return (cgroup / "cgroup.procs").read_text().split()


def shim_of(box: Box) -> int:
    """The parent of the container's first process."""
    return int(Path(f"/proc/{box.get().pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_shim_cgroup_is_where_the_shim_lives(own_cgroup: str, bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    box.create(chosen={"shim_cgroup": own_cgroup})
    box.start()
    shim = shim_of(box)
    box.exec("e", *SLEEP)
    inside = (box.get().pid, box.start("e"))
    joined = [line for line in Path(f"/proc/{shim}/cgroup").read_text().split() if line.endswith(own_cgroup)]
    assert len(joined) == (len(HIERARCHIES) if (CGROUPS / HIERARCHIES[0]).is_dir() else 1)
    for pid in inside:  # what the container uses is not counted as the shim's
        assert own_cgroup not in Path(f"/proc/{pid}/cgroup").read_text()


def test_shim_cgroup_must_be_there(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    told = box.refused("Create", box.create_request(chosen={"shim_cgroup": "/no/such/cgroup"})).text
    assert "cgroup" in told
    box.create()  # nothing of the first attempt is in the way


def test_io_uid_and_io_gid_own_the_pipes(
    bench: Bench, recorder: Recorder, tmp_path: Path, output: Output
) -> None:
    """As the runtime gets them, and as the container, which runs as that user, sees them."""
    stdin = tmp_path / "in"
    os.mkfifo(stdin)
    writer = os.open(stdin, os.O_RDWR | os.O_CLOEXEC)
    user = {"user": {"uid": OWNED["io_uid"], "gid": OWNED["io_gid"]}}
    shell = f"{OWNERS}; echo > /proc/self/fd/1; sleep 1000"
    box = bench.box("c", "sh", "-c", shell, process=user)
    streams = {"stdin": str(stdin), "stdout": output.path, "stderr": output.path}
    box.create(chosen={**OWNED, "binary_name": recorder.path}, **streams)
    assert recorder.owners() == ["1234:5678"] * 3
    box.start()
    # It may open them anew, and would not be allowed to if they were another's.
    output.expect(b"1234:5678\n1234:5678\n1234:5678\n\n")
    box.exec("e", "true", stdout=output.path, stderr=output.path, process=user)
    box.start("e")
    assert box.wait("e").exit_status == 0
    assert recorder.line("exec")
    os.close(writer)


def test_without_io_uid_the_pipes_are_roots(bench: Bench, recorder: Recorder, output: Output) -> None:
    box = bench.box("c", *SLEEP)
    box.create(chosen={"binary_name": recorder.path}, stdout=output.path, stderr=output.path)
    assert recorder.owners()[1:] == ["0:0", "0:0"]


def test_no_pivot_root(bench: Bench, recorder: Recorder) -> None:
    """It changes what the runtime is told, and the container runs all the same."""
    for chosen in (True, False):
        box = bench.box(f"c{int(chosen)}", "true")
        box.create(chosen={"no_pivot_root": chosen, "binary_name": recorder.path})
        assert ("--no-pivot" in recorder.line("create")) is chosen
        box.start()
        assert box.wait().exit_status == 0


def test_no_new_keyring(bench: Bench, output: Output) -> None:
    """A container gets a session keyring of its own, or else sees that of whoever made it."""
    for number, chosen in enumerate((False, True)):
        # Ordinarily that file is hidden from containers.
        box = bench.box(f"keyring{number}", "cat", "/proc/keys", linux={"maskedPaths": []})
        box.create(chosen={"no_new_keyring": chosen}, stdout=output.path, stderr=output.path)
        box.start()
        assert box.wait().exit_status == 0
        box.delete()
    seen = output.to_end()
    assert b"keyring0:" in seen
    assert b"keyring1:" not in seen


def test_root_is_where_the_runtime_keeps_its_state(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "root"
    box = bench.box("c", *SLEEP)
    box.create(chosen={"root": str(root)})
    place = root / bench.api.namespace / "c"
    assert place.is_dir()
    assert not (bench.target.state / "runtime" / bench.api.namespace / "c").exists()
    box.start()
    box.end()
    box.delete()
    assert not place.exists()


def test_binary_name_is_remembered_for_a_shim_that_died(bench: Bench, recorder: Recorder) -> None:
    """Whoever cleans up after it is another process, and has to call the same runtime."""
    box = bench.box("c", *SLEEP)
    box.create(chosen={"binary_name": recorder.path})
    box.start()
    os.kill(shim_of(box), signal.SIGKILL)
    eventually(lambda: "--force" in recorder.line("delete"), what="the clean-up")
    assert not eventually_clean(bench.target, bench.api.namespace)


def test_binary_name_must_be_there(bench: Bench) -> None:
    box = bench.box("c", *SLEEP)
    told = box.refused("Create", box.create_request(chosen={"binary_name": "no-such-runtime"})).text
    assert '"no-such-runtime": executable file not found in $PATH' in told
    box.create()


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_systemd_cgroup_without_systemd(bench: Bench) -> None:
    """The runtime says why, and a task of that name can be made at once."""
    box = bench.box("c", *SLEEP)
    refusal = box.refused("Create", box.create_request(chosen={"systemd_cgroup": True}))
    assert "systemd" in refusal.text or "sd-bus" in refusal.text
    assert box.refused("Get", pb.GetRequest(container_id="c")).code == "NOT_FOUND"
    box.create()
    box.start()
    assert box.status() == "RUNNING"


# A dump needs a criu that works on the kernel. What the options change is only what the runtime is asked
# for: this one, asked to restore, makes the container anew from the bundle that it is told of.
RESTORE = """
case " $* " in *" restore "*) ;; *) exec runc "$@" ;; esac
while [ $# -gt 1 ]; do
    case $1 in --root) root=$2 ;; --bundle) bundle=$2 ;; --pid-file) pid=$2 ;; esac
    shift
done
exec runc --root "$root" run --detach --bundle "$bundle" --pid-file "$pid" "$1"
"""


# The path of an image is read by the daemon; containerd's 1.6 does so only for runtimes that are named runc.
RESTORING = [cell for cell in CELLS if cell.runtime == "runc" and not cell.containerd]


@pytest.fixture(params=RESTORING, ids=lambda cell: cell.name)
def criu_bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A daemon that finds a criu, without which our shim does not even ask the runtime."""
    script(tmp_path / "criu", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with a_bench(request.param) as bench:
        yield bench
        bench.clear()


@pytest.mark.parametrize("work", ["", "/work"])
def test_criu_image_path_and_criu_work_path(criu_bench: Bench, tmp_path: Path, work: str) -> None:
    """A task that is restored from a folder: its Start has the runtime do it."""
    recorder = Recorder(tmp_path, "restoring", RESTORE)
    box = criu_bench.box("c", *SLEEP)
    chosen = {"criu_image_path": "/dump", "binary_name": recorder.path, "no_pivot_root": True}
    assert box.create(chosen=chosen | ({"criu_work_path": work} if work else {})) == 0
    assert not recorder.line("create")
    pid = box.start()
    assert (box.status(), box.get().pid) == ("RUNNING", pid)
    line = recorder.line("restore")
    assert line[line.index("--image-path") + 1] == "/dump"
    given = line[line.index("--work-path") + 1]
    assert given == work if work else given.startswith(str(criu_bench.folder))
    assert "--no-pivot" in line
    assert box.end() == 137
