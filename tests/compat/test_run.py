"""`ctr run`: output, statuses, stdin, terminals, networks, mounts, runtimes."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from tests.compat.ctr import Ctr, eventually
from tests.compat.terminal import terminal


def test_output_and_error_come_apart(ctr: Ctr, image: str) -> None:
    answer = ctr.run("run", "--rm", image, "c", "sh", "-c", "echo out; echo err >&2")
    assert (answer.stdout, answer.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("status", [0, 1, 7, 126, 255])
def test_status_is_the_containers(ctr: Ctr, image: str, status: int) -> None:
    answer = ctr.run("run", "--rm", image, "c", "sh", "-c", f"echo last words; exit {status}", check=False)
    assert (answer.returncode, answer.stdout) == (status, "last words\n")


def test_status_of_a_signal_is_128_more(ctr: Ctr, image: str) -> None:
    with ctr.running("run", "--rm", image, "c", "sh", "-c", "echo ready; sleep 1000") as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        ctr.run("tasks", "kill", "--signal", "KILL", "c")
        assert run.wait(timeout=30) == 137


def test_fast_exits_lose_neither_output_nor_status(ctr: Ctr, image: str) -> None:
    for number in range(10):
        answer = ctr.run("run", "--rm", image, f"c{number}", "sh", "-c", "echo gone; exit 7", check=False)
        assert (answer.returncode, answer.stdout) == (7, "gone\n")


def test_stdin_is_read_to_its_end(ctr: Ctr, image: str) -> None:
    with ctr.running("run", "--rm", image, "c", "sh", "-c", "echo ready; cat", stdin=-1) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.stdin.write(b"one\ntwo\n")
        run.stdin.close()
        assert run.stdout.read() == b"one\ntwo\n"
        assert run.wait(timeout=30) == 0


def test_stdin_that_ends_at_once(ctr: Ctr, image: str) -> None:
    # ctr itself forgets an end that it sees before the task is there, so the end comes after.
    with ctr.running("run", "--rm", image, "c", "sh", "-c", "echo ready; wc -c", stdin=-1) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.stdin.close()
        assert run.stdout.read() == b"0\n"
        assert run.wait(timeout=30) == 0


def test_stdin_that_is_closed(ctr: Ctr, image: str) -> None:
    command = " ".join(ctr.command("run", "--rm", image, "c", "echo", "fine"))
    answer = subprocess.run(["sh", "-c", f"{command} <&-"], capture_output=True, timeout=60, check=False)
    assert (answer.returncode, answer.stdout) == (0, b"fine\n")


def test_program_that_is_not_there(ctr: Ctr, image: str) -> None:
    told = ctr.fails("run", "--rm", image, "c", "/no/such/program")
    assert "no such file or directory" in told
    told = ctr.fails("run", "--rm", image, "c", "nosuchprogram")
    assert "executable file not found in $PATH" in told


def test_environment_and_folder(ctr: Ctr, image: str) -> None:
    told = ctr.out("run", "--rm", "--env", "COLOUR=blue", "--cwd", "/etc", image, "c", "sh", "-c", "pwd; env")
    assert told.startswith("/etc\n")
    assert {"COLOUR=blue", "FROM_IMAGE=yes"} <= set(told.splitlines())


def test_mount_of_a_folder(ctr: Ctr, image: str, tmp_path: Path) -> None:
    mount = f"type=bind,src={tmp_path},dst=/host,options=rbind:rw"
    ctr.run("run", "--rm", "--mount", mount, image, "c", "sh", "-c", "echo written >/host/file")
    assert (tmp_path / "file").read_text() == "written\n"


def test_read_only(ctr: Ctr, image: str) -> None:
    answer = ctr.run("run", "--rm", "--read-only", image, "c", "touch", "/new", check=False)
    assert answer.returncode == 1
    assert "Read-only file system" in answer.stderr


def test_namespaces_are_the_containers_own(ctr: Ctr, image: str) -> None:
    told = ctr.out("run", "--rm", image, "c", "sh", "-c", "echo $$; ls /sys/class/net")
    assert told.split() == ["1", "lo"]


def test_network_of_the_host(ctr: Ctr, image: str) -> None:
    def interfaces(text: str) -> set[str]:
        return {line.split(":")[0].strip() for line in text.splitlines()[2:]}

    told = ctr.out("run", "--rm", "--net-host", image, "c", "cat", "/proc/net/dev")
    assert interfaces(told) == interfaces(Path("/proc/net/dev").read_text())


def test_memory_limit_reaches_the_cgroup(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", "--memory-limit", str(64 << 20), image, "c", "sleep", "1000")
    told = [
        path.read_text().strip()
        for name in ("memory.limit_in_bytes", "memory.max")
        for path in Path("/sys/fs/cgroup").glob(f"**/{ctr.namespace}/c/{name}")
    ]
    ctr.remove("c")
    assert told == [str(64 << 20)]


def test_pid_file(ctr: Ctr, image: str, tmp_path: Path) -> None:
    ctr.run("run", "-d", "--pid-file", str(tmp_path / "pid"), image, "c", "sleep", "1000")
    assert int((tmp_path / "pid").read_text()) == ctr.pid("c")
    ctr.remove("c")


def test_detached_container_runs_until_it_is_killed(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", image, "c", "sleep", "1000")
    assert ctr.status("c") == "RUNNING"
    assert Path(f"/proc/{ctr.pid('c')}/cmdline").read_bytes() == b"sleep\x001000\x00"
    ctr.run("tasks", "kill", "--signal", "KILL", "c")
    eventually(lambda: ctr.status("c") == "STOPPED")
    assert "137" in ctr.run("tasks", "rm", "c").stderr
    ctr.run("containers", "rm", "c")


def test_log_of_a_detached_container(ctr: Ctr, image: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ctr.run("run", "-d", "--log-uri", f"file://{log}", image, "c", "sh", "-c", "echo out; echo err >&2")
    eventually(lambda: ctr.status("c") == "STOPPED")
    assert sorted(log.read_text().splitlines()) == ["err", "out"]
    ctr.remove("c")


def test_null_io(ctr: Ctr, image: str) -> None:
    assert ctr.out("run", "--rm", "--null-io", image, "c", "echo", "unheard") == ""


def test_terminal_is_one_with_a_size(ctr: Ctr, image: str) -> None:
    with terminal(ctr.command("run", "--rm", "-t", image, "c", "sh"), rows=33, columns=101) as screen:
        screen.expect("# ")
        screen.type("tty; stty size; exit 5\n")
        screen.expect("/dev/pts/0\r")
        screen.expect("33 101\r")
        assert screen.wait() == 5


def test_terminal_is_resized(ctr: Ctr, image: str) -> None:
    script = "trap 'echo size:$(stty size)' WINCH; echo ready; while :; do sleep 0.1; done"
    with terminal(ctr.command("run", "--rm", "-t", image, "c", "sh", "-c", script)) as screen:
        screen.expect("ready")
        # ctr may not listen yet when the container already speaks, so there is more than one change.
        for rows in count(40):
            screen.resize(rows, 120)
            if screen.shows(f"size:{rows} 120", within=1):
                break
        ctr.run("tasks", "kill", "--signal", "KILL", "c")
        assert screen.wait() == 137


def test_terminal_passes_control_keys(ctr: Ctr, image: str) -> None:
    script = "trap 'echo stopped; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    with terminal(ctr.command("run", "--rm", "-t", image, "c", "sh", "-c", script)) as screen:
        screen.expect("ready")
        screen.type("\x03")
        screen.expect("stopped")
        assert screen.wait() == 3


def test_another_runtime(ctr: Ctr, image: str) -> None:
    answer = ctr.run("run", "--rm", "--runc-binary", "crun", image, "c", "echo", "from crun", check=False)
    if answer.returncode != 0 and "cgroup" in answer.stderr:
        pytest.skip(f"crun does not run on this machine's cgroups: {answer.stderr.strip()}")
    assert (answer.returncode, answer.stdout) == (0, "from crun\n")


def test_runtime_that_is_not_there(ctr: Ctr, image: str) -> None:
    told = ctr.fails("run", "--rm", "--runc-binary", "no-such-runtime", image, "c", "true")
    assert "no-such-runtime" in told


def test_container_name_is_checked(ctr: Ctr, image: str) -> None:
    assert "invalid argument" in ctr.fails("run", "--rm", image, "no spaces", "true")


def test_name_in_use(ctr: Ctr, image: str) -> None:
    ctr.run("run", "-d", image, "c", "sleep", "1000")
    assert "already exists" in ctr.fails("run", "-d", image, "c", "true")
    assert ctr.status("c") == "RUNNING"
    ctr.remove("c")


def test_root_file_system_of_ones_own(ctr: Ctr, image: str, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    for folder in ("proc", "dev", "sys"):
        (rootfs / folder).mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, rootfs / "bin/busybox")
    assert ctr.out("run", "--rm", "--rootfs", str(rootfs), "c", "/bin/busybox", "echo", "mine") == "mine\n"


def test_spec_of_ones_own(ctr: Ctr, image: str, tmp_path: Path) -> None:
    ctr.run("containers", "create", image, "first", "echo", "from a file")
    spec = json.loads(ctr.out("containers", "info", "first"))["Spec"]
    ctr.run("containers", "rm", "first")
    rootfs = tmp_path / "mnt"
    rootfs.mkdir()
    ctr.run("images", "mount", "--rw", image, str(rootfs))
    try:
        spec["root"]["path"] = str(rootfs)
        spec["linux"]["cgroupsPath"] = f"/{ctr.namespace}/c"
        (tmp_path / "config.json").write_text(json.dumps(spec))
        told = ctr.out("run", "--rm", "--config", str(tmp_path / "config.json"), "c")
    finally:
        ctr.run("images", "unmount", "--rm", str(rootfs))
    assert told == "from a file\n"
