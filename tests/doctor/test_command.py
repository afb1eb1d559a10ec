"""`container-supervisor doctor` as people and programs run it: with and without a daemon, or root."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.doctor.leftovers import mounts_elsewhere
from supervisor.doctor.place import Place
from supervisor.kernel.sockets import is_listened_at
from tests.compat.target import Target
from tests.conformance.driving import Bench, Box, holds
from tests.doctor.conftest import script
from tests.faults.conftest import a_bench

pytestmark = pytest.mark.root

RUN = "from supervisor.daemon.command import main; raise SystemExit(main())"
COMMAND = [sys.executable, "-c", RUN, "doctor"]
SLEEP = ("sleep", "1000")
NOBODY = 65534
# All is loaded before, since another user may not reach this interpreter's files.
AS_NOBODY = f"""
import os
from importlib import import_module
from supervisor.daemon.doctor import _MODULES
for name in ("email.parser", "supervisor.daemon.command", *_MODULES):
    import_module(name)
os.setgroups([])
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
{RUN}
"""

LEFT = """
import json, sys
from pathlib import Path
import supervisor.client.client
from supervisor.doctor.examine import examine
from supervisor.doctor.leftovers import checks
from supervisor.doctor.place import Place
found = {check.name: examine(check) for check in checks(Place(*map(Path, sys.argv[1:])))}
print(json.dumps({name: f"{one.verdict}: {one.seen}" for name, one in found.items() if one.verdict != "ok"}))
"""


class Report:
    """What one run said and answered."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert not done.stderr, done.stderr
        self.status = done.returncode
        self.told: dict[str, Any] = json.loads(done.stdout)
        self.by_name = {one["name"]: one for one in self.told["findings"]}

    def verdict(self, name: str) -> str:
        return str(self.by_name[name]["verdict"])

    def seen(self, name: str) -> str:
        return str(self.by_name[name]["seen"])

    def broken(self) -> list[dict[str, str]]:
        """Checks that did not do what they are for."""
        return [
            one for one in self.told["findings"] if "this check" in one["seen"] or "no answer" in one["seen"]
        ]


def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=100, **more)


def places(folder: Path) -> list[str]:
    return [f"--root={folder}/root", f"--state={folder}/state", f"--address={folder}/d.sock"]


def doctor(folder: Path, *words: str, **more: Any) -> Report:
    return Report(run(*places(folder), "--json", *words, **more))


def tree(folder: Path) -> list[tuple[str, int, int, int]]:
    """Everything below a folder, with modes and the times of changes of what it is made of."""
    return sorted(
        (str(path), status.st_mode, status.st_mtime_ns, status.st_ino)
        for path in (folder, *folder.rglob("*"))
        if not path.name.startswith("metadata.db") and (status := path.lstat())
    )


@pytest.fixture
def empty() -> Iterator[Path]:
    """A place for an installation that was never used; not below a folder of pytest's, which is private."""
    with tempfile.TemporaryDirectory(prefix="cs-doctor-", dir="/run") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def fit_here(report: Report) -> None:
    """Whatever this machine lacks is said, and no check broke."""
    failed = [one for one in report.told["findings"] if one["verdict"] == "failure"]
    assert failed == []
    assert report.broken() == []
    assert (report.status, report.told["fit"]) == (0, True)


@pytest.mark.compat
def test_without_a_daemon(empty: Path) -> None:
    before = tree(empty)
    report = doctor(empty)
    fit_here(report)
    assert report.verdict("process") == "note"
    assert not {"answer", "socket", "store"} & report.by_name.keys()
    assert report.told["root"] == f"{empty}/root"
    assert tree(empty) == before


@pytest.mark.compat
def test_people_get_aligned_lines(empty: Path) -> None:
    done = run(*places(empty))
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    for line in ("kernel", "runtimes", "files", "daemon", "leftovers", "limits", "surroundings"):
        assert line in told
    assert re.search(rf"^  ok       root +{empty}/root is not there yet", done.stdout, re.MULTILINE)
    assert re.search(r"^  note     process +no daemon runs on", done.stdout, re.MULTILINE)
    assert re.search(r"^ +> container-supervisor serve$", done.stdout, re.MULTILINE)
    assert told[-1].startswith("fit: ")
    assert max(map(len, told)) <= 110


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[grpc]\nadress = 'x'\n", "did you mean grpc.address"),
        ("root = \n", "at line 1"),
    ],
)
def test_a_broken_configuration(empty: Path, text: str, words: str) -> None:
    file = empty / "c.toml"
    file.write_text(text)
    report = doctor(empty, f"--config={file}")
    assert report.status == 1
    assert report.verdict(str(file)) == "failure"
    assert words in report.seen(str(file))
    # The rest is asked all the same.
    assert report.verdict("version") == "ok"
    assert report.broken() == []


def test_a_broken_package(empty: Path) -> None:
    (empty / "lib").mkdir()
    (empty / "lib/grpc.py").write_text("raise ImportError('a wheel for another machine')")
    report = doctor(empty, env=os.environ | {"PYTHONPATH": str(empty / "lib")})
    assert report.status == 1
    assert report.verdict("modules") == "failure"
    assert "a wheel for another machine" in report.seen("modules")
    assert report.verdict("version") == "ok"
    assert report.broken() == []


def test_a_part_that_did_not_load(empty: Path) -> None:
    (empty / "root").mkdir(mode=0o711)
    (empty / "root/spool").touch()  # where the daemon wants a folder
    with serving(empty):
        report = doctor(empty)
    assert report.status == 1
    assert report.verdict("answer") == "failure"
    assert "io.containerd.transfer.v1 local" in report.seen("answer")


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    """A daemon, without containers."""
    command = [sys.executable, "-c", RUN, "serve", *places(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        holds(lambda: is_listened_at(f"{folder}/d.sock"), "the daemon's socket")
        yield
    finally:
        process.kill()
        process.wait()


def test_a_root_that_others_write_to(empty: Path) -> None:
    (empty / "root").mkdir()
    (empty / "root").chmod(0o777)
    report = doctor(empty)
    assert (report.status, report.verdict("root"), report.verdict("state")) == (1, "failure", "ok")
    assert (empty / "root").stat().st_mode & 0o777 == 0o777


def test_runtimes_that_are_missing_or_hang(empty: Path) -> None:
    environment = os.environ | {"PATH": f"{empty}/bin"}
    script(empty / "bin/crun", "exec /bin/sleep 1000")
    report = doctor(empty, env=environment)
    assert report.status == 1
    assert report.verdict("runc") == "failure"
    assert report.verdict("crun") == "warning"
    assert "within 5 s, and was killed" in report.seen("crun")
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if str(empty) in command(pid)]


def command(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture
def bench() -> Iterator[Bench]:
    with a_bench() as made:
        yield made


@pytest.fixture
def target(bench: Bench) -> Target:
    """The daemon under the name by which its log goes with a failure."""
    return bench.target


def shim_of(box: Box) -> int:
    """The parent of a container's first process."""
    return int(Path(f"/proc/{box.get().pid}/stat").read_text().rpartition(")")[2].split()[1])


def bundle_of(bench: Bench, box: Box) -> Path:
    (found,) = bench.target.state.glob(f"io.containerd.runtime.v2.task/*/{box.id}")
    return found


def left(bench: Bench) -> dict[str, str]:
    """What the checks of leftovers see that is not in order, by name; in a process that grpc leaves alone."""
    words = [bench.target.root, bench.target.state, bench.target.address]
    done = subprocess.run([sys.executable, "-c", LEFT, *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.compat
def test_with_a_daemon_and_a_container(bench: Bench) -> None:
    bench.running("c", *SLEEP)
    assert bench.target.process is not None
    before = tree(bench.target.root)
    report = doctor(bench.folder, f"--config={bench.folder}/config.toml")
    fit_here(report)
    assert report.seen("process") == f"process {bench.target.process.pid} holds root and state"
    assert "a call takes" in report.seen("answer")
    assert "all its parts loaded" in report.seen("answer")
    for name in ("socket", "shims' socket", "store's users", "bundles", "shims", "mounts", "runtimes' state"):
        assert report.verdict(name) == "ok"
    assert tree(bench.target.root) == before


@pytest.mark.compat
def test_as_nobody_with_a_daemon(bench: Bench) -> None:
    bench.folder.chmod(0o711)
    bench.running("c", *SLEEP)
    command = [sys.executable, "-c", AS_NOBODY, "doctor", *places(bench.folder), "--json"]
    report = Report(subprocess.run(command, capture_output=True, text=True, timeout=100))
    assert report.broken() == []
    assert report.told["user"] == NOBODY
    assert report.verdict("process") == "ok"  # /proc tells it to all
    for name in ("overlayfs", "answer", "store's users", "all"):
        assert report.verdict(name) == "note", report.by_name[name]
    assert "only root" in report.seen("all")


@pytest.mark.compat
@pytest.mark.slow
def test_a_daemon_that_is_stopped_in_its_tracks(bench: Bench) -> None:
    process = bench.target.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        report = doctor(bench.folder)
    finally:
        process.send_signal(signal.SIGCONT)
    assert report.status == 1
    assert report.verdict("answer") == "failure"
    assert f"no answer within 4 s at {bench.target.address}" in report.seen("answer")


@pytest.mark.compat
def test_the_wrong_root_for_a_daemon(bench: Bench, empty: Path) -> None:
    report = Report(
        run(f"--root={empty}/root", f"--state={empty}/s", f"--address={bench.target.address}", "--json")
    )
    assert report.verdict("answer") == "warning"
    assert f"works on {bench.target.root}" in report.seen("answer")


@pytest.mark.compat
@pytest.mark.slow
def test_a_shim_whose_bundle_was_removed(bench: Bench) -> None:
    box, other = bench.running("c", *SLEEP), bench.running("d", *SLEEP)
    assert left(bench) == {}
    shim = shim_of(box)
    bundle = bundle_of(bench, box)
    hidden = bench.folder / "hidden"
    bundle.rename(hidden)
    try:
        found = left(bench)
    finally:
        hidden.rename(bundle)
    assert found.keys() == {"shims"}
    assert found["shims"].startswith(f"warning: 1 left: process {shim} (")
    assert f"-id {box.id} " in found["shims"]
    assert left(bench) == {}
    assert other.status() == "RUNNING"


@pytest.mark.compat
@pytest.mark.slow
def test_what_a_crash_of_everything_leaves(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    shim = shim_of(box)
    bundle = bundle_of(bench, box)
    bench.target.kill()
    assert left(bench) == {}  # its shim lives, so it is a task
    os.kill(shim, signal.SIGKILL)
    holds(lambda: not Path(f"/proc/{shim}/cwd").exists(), "the end of the shim")
    found = left(bench)
    assert str(bundle) in found["bundles"]
    assert f"{bundle}/rootfs" in found["mounts"] or not Path(bundle, "rootfs").is_mount()
    assert f"/{box.id}" in found["runtimes' state"]
    assert all(words.startswith("note: ") for words in found.values())
    bench.target.start()
    holds(lambda: left(bench) == {}, "the clean-up of the next start")


@pytest.mark.compat
def test_strays_that_a_daemon_does_not_know(bench: Bench) -> None:
    bundle = bench.target.state / "io.containerd.runtime.v2.task/default/stray"
    state = bench.target.state / "runtime/default/stray"
    (bundle / "rootfs").mkdir(parents=True)
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", bundle / "rootfs"], check=True)
    try:
        found = left(bench)
    finally:
        subprocess.run(["umount", bundle / "rootfs"], check=True)
        shutil.rmtree(bundle)
        shutil.rmtree(state)
    assert found.keys() == {"bundles", "mounts", "runtimes' state"}
    assert found["mounts"] == f"warning: 1 left: {bundle}/rootfs"


def test_a_mount_that_somebody_else_keeps(empty: Path) -> None:
    place = Place(empty / "root", empty / "state", empty / "d.sock")
    point = place.settings.bundles / "default/gone/rootfs"
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo held; exec sleep 1000"]
    with ExitStack() as stack:
        taken_off = stack.enter_context(ExitStack())
        taken_off.callback(subprocess.run, ["umount", point], check=True)
        holder = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(holder.kill)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert mounts_elsewhere(place) == set()  # it is here as well
        taken_off.close()
        (found,) = mounts_elsewhere(place)
    assert found.startswith(f"{point} (process ")
    assert mounts_elsewhere(place) == set()
