"""The shim's binary with a real runc: containers from start to deletion (contract: tasks 2, 3, 8)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.api.types.introspection_pb2 import RuntimeInfo
from supervisor.api.types.runc.options.oci_pb2 import ProcessDetails
from supervisor.api.types.task import task_pb2 as types
from supervisor.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    SupervisorError,
)
from supervisor.model.instant import GO_ZERO_SECONDS
from supervisor.shimv2.bootstrap import socket_path
from supervisor.ttrpc.calls import Answer, Caller
from tests.shimv2.runc.driving import PATIENCE, SHIM, TASK, Shim, Stdio, eventually, is_mounted, spec
from tests.ttrpc.client import Client

pytestmark = [pytest.mark.root, pytest.mark.compat]

Fifos = Callable[..., Stdio]


def test_a_container_from_create_to_delete(shim: Shim, fifos: Fifos) -> None:
    """Tasks 3.5: create < start < exit < delete; 8.6: Delete answers the recorded exit."""
    stdio = fifos("stdout", "stderr")
    pid = shim.begin("c1", ["sh", "-c", "echo out; echo err >&2; exit 7"], stdio)
    waited = shim.wait("c1")
    assert (waited.exit_status, waited.exited_at.seconds > 0) == (7, True)
    assert (stdio.output("stdout"), stdio.output("stderr")) == (b"out\n", b"err\n")
    assert shim.state("c1").status == types.STOPPED
    deleted = shim.delete("c1")
    assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (pid, 7, waited.exited_at)
    shim.sink.wait_for("create", "start", "exit", "delete")
    _, _, exited, _ = shim.sink.decoded()
    assert (exited.id, exited.pid, exited.exit_status) == ("c1", pid, 7)  # type: ignore[attr-defined]
    with pytest.raises(NotFound, match="container not created"):
        shim.delete("c1")


def test_a_created_container_lives_and_shows_no_exit(shim: Shim) -> None:
    """Tasks 8.23: a live pid with namespaces before Start; 3.3: the zero time of Go until the exit."""
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    pid = shim.create("c1")
    assert Path(f"/proc/{pid}/ns/net").exists()
    state = shim.state("c1")
    assert (state.status, state.pid, state.exited_at.seconds) == (types.CREATED, pid, GO_ZERO_SECONDS)
    deleted = shim.delete("c1")
    assert (deleted.exit_status, deleted.exited_at.seconds) == (0, GO_ZERO_SECONDS)
    shim.sink.wait_for("create", "delete")


def test_a_hundred_megabytes_pass_unharmed(shim: Shim, fifos: Fifos) -> None:
    stdio = fifos("stdout")
    shim.begin("c1", ["sh", "-c", "yes | head -c 100000000"], stdio)
    assert shim.wait("c1").exit_status == 0
    expected = hashlib.sha256(b"y\n" * 50_000_000).hexdigest()
    assert hashlib.sha256(stdio.output()).hexdigest() == expected


def test_the_last_bytes_of_fast_exits_are_not_lost(shim: Shim, fifos: Fifos) -> None:
    shim.bundle("c1", spec(["sleep", "1000"]))
    shim.start("c1")
    shim.create("c1")
    shim.start_process("c1")
    for number in range(5):
        stdio = fifos("stdout")
        shim.exec("c1", f"e{number}", ["echo", f"last words {number}"], stdio)
        shim.start_process("c1", f"e{number}")
        assert stdio.output() == f"last words {number}\n".encode()
        shim.wait("c1", f"e{number}")
        assert shim.delete("c1", f"e{number}").exit_status == 0


def test_input_ends_with_close_io_and_the_last_writer(shim: Shim, fifos: Fifos) -> None:
    """Tasks 3.6: EOF needs both CloseIO and every client's writer closed."""
    stdio = fifos("stdin", "stdout")
    shim.begin("c1", ["cat"], stdio)
    with open(stdio.stdin, "wb", buffering=0) as first:
        first.write(b"one ")
    # The client has left without CloseIO: another one goes on.
    with open(stdio.stdin, "wb", buffering=0) as second:
        shim.close_stdin("c1")
        second.write(b"two")
    assert shim.wait("c1").exit_status == 0
    assert stdio.output() == b"one two"


def test_a_reader_that_hangs_stops_nobody_else(shim: Shim, fifos: Fifos, tmp_path: Path) -> None:
    hung = str(tmp_path / "hung")
    os.mkfifo(hung)
    reader = os.open(hung, os.O_RDONLY | os.O_NONBLOCK)
    shim.begin("c1", ["yes"], Stdio(tmp_path, stdout=hung))
    stdio = fifos("stdout")
    shim.exec("c1", "e1", ["seq", "3"], stdio)
    shim.start_process("c1", "e1")
    assert stdio.output() == b"1\n2\n3\n"
    os.close(reader)
    # Nobody reads any more, yet the container is not told of it: it waits for the next reader.
    with open(hung, "rb", buffering=0) as later:
        assert set(later.read(1 << 16)) == set(b"y\n")
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137


def test_a_terminal(shim: Shim, fifos: Fifos) -> None:
    """Tasks 8.25: a resize between Create and Start takes effect."""
    stdio = fifos("stdin", "stdout")
    shim.bundle("c1", spec(["sh", "-c", "stty size; read line; echo got $line; tty"], terminal=True))
    shim.start("c1")
    shim.create("c1", stdio, terminal=True)
    shim.call("ResizePty", task.ResizePtyRequest(id="c1", width=132, height=43), Empty)
    shim.start_process("c1")
    with open(stdio.stdin, "wb", buffering=0) as keyboard:
        keyboard.write(b"typed\n")
        assert shim.wait("c1").exit_status == 0
    output = stdio.output()
    assert b"43 132\r\n" in output
    assert output.endswith(b"got typed\r\n/dev/pts/0\r\n") or b"/dev/console" in output
    shim.delete("c1")


def test_a_long_output_to_a_terminal_comes_whole(shim: Shim, fifos: Fifos) -> None:
    stdio = fifos("stdout")
    shim.begin("c1", ["seq", "100000"], stdio, terminal=True)
    assert shim.wait("c1").exit_status == 0
    assert stdio.output() == b"".join(b"%d\r\n" % number for number in range(1, 100001))


def test_execs_end_before_init(shim: Shim) -> None:
    """Tasks 3.4: the exits of all started execs come before that of init."""
    shim.begin("c1", ["sleep", "1000"])
    for name in ("e1", "e2", "e3"):
        shim.exec("c1", name, ["sleep", "1000"])
        shim.start_process("c1", name)
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    added = ["exec-added", "exec-started"] * 3
    shim.sink.wait_for("create", "start", *added, *["exit"] * 4)
    assert [one.id for one in shim.sink.decoded()[-4:]][-1] == "c1"  # type: ignore[attr-defined]
    with pytest.raises(SupervisorError, match="cannot exec in a stopped state"):
        shim.exec("c1", "e4", ["true"])


def test_exec_rules(shim: Shim) -> None:
    """Tasks 3.2, 3.3, 8.26."""
    shim.begin("c1", ["sleep", "1000"])
    shim.exec("c1", "init", ["sh", "-c", "exit 3"])
    with pytest.raises(AlreadyExists, match="id init"):
        shim.exec("c1", "init", ["true"])
    with pytest.raises(FailedPrecondition, match="process not created"):
        shim.kill("c1", exec_id="init")
    assert shim.state("c1", "init").status == types.CREATED
    assert shim.start_process("c1", "init") > 0
    assert shim.wait("c1", "init").exit_status == 3
    with pytest.raises(NotFound, match="process already finished"):
        shim.kill("c1", exec_id="init")
    assert shim.delete("c1", "init").exit_status == 3
    with pytest.raises(NotFound, match="process does not exist init"):
        shim.state("c1", "init")
    # An exec of that name has not taken init's file along.
    assert int((shim.folder / "b/c1/init.pid").read_text()) == shim.state("c1").pid


def test_an_exec_that_cannot_start_stays_deletable(shim: Shim) -> None:
    """Tasks 3.3, 8.26: Waits on it return, no exit is told, a second Start is refused."""
    shim.begin("c1", ["sleep", "1000"])
    shim.exec("c1", "e1", ["/nope"])
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(shim.wait, "c1", "e1")
        with pytest.raises(SupervisorError, match=r"OCI runtime exec failed: .*no such file or directory"):
            shim.start_process("c1", "e1")
        assert waiting.result(20).exit_status == 0
    with pytest.raises(FailedPrecondition, match="delete it"):
        shim.start_process("c1", "e1")
    assert shim.delete("c1", "e1").exit_status == 0
    shim.sink.wait_for("create", "start", "exec-added")


def test_pids_names_execs(shim: Shim) -> None:
    pid = shim.begin("c1", ["sleep", "1000"])
    shim.exec("c1", "e1", ["sleep", "1000"])
    exec_pid = shim.start_process("c1", "e1")
    found = shim.call("Pids", task.PidsRequest(id="c1"), task.PidsResponse).processes
    details = {one.pid: ProcessDetails.FromString(one.info.value).exec_id for one in found}
    assert details == {pid: "", exec_pid: "e1"}
    shim.kill("c1")
    shim.wait("c1")
    assert not shim.call("Pids", task.PidsRequest(id="c1"), task.PidsResponse).processes


def test_pause_and_resume(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "1000"])
    shim.call("Pause", task.PauseRequest(id="c1"), Empty)
    assert shim.state("c1").status == types.PAUSED
    with pytest.raises(SupervisorError, match="cannot delete a paused process"):
        shim.delete("c1")
    shim.call("Resume", task.ResumeRequest(id="c1"), Empty)
    assert shim.state("c1").status == types.RUNNING
    shim.sink.wait_for("create", "start", "paused", "resumed")


def test_a_paused_container_can_be_killed_and_deleted(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "1000"])
    shim.call("Pause", task.PauseRequest(id="c1"), Empty)
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    assert shim.delete("c1").exit_status == 137


def test_kill_before_start_shows_as_stopped(shim: Shim) -> None:
    """Tasks 8.38."""
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    shim.create("c1")
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    assert shim.state("c1").status == types.STOPPED
    shim.sink.wait_for("create", "exit")


def test_kill_of_an_ended_container_is_not_found(shim: Shim) -> None:
    """Tasks 8.8."""
    shim.begin("c1", ["true"])
    shim.wait("c1")
    with pytest.raises(NotFound, match="process already finished"):
        shim.kill("c1")


def test_delete_of_a_running_container_is_refused(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "1000"])
    with pytest.raises(SupervisorError, match="cannot delete a running process"):
        shim.delete("c1")
    assert shim.state("c1").status == types.RUNNING


def test_what_shares_the_hosts_pids_ends_with_init(shim: Shim, fifos: Fifos) -> None:
    """Tasks 3.4: without a pid namespace of its own, the rest is killed before the exit is told."""
    stdio = fifos("stdout")
    shim.begin("c1", ["sh", "-c", "sleep 1000 & echo $!"], stdio, private_pids=False)
    assert shim.wait("c1").exit_status == 0
    # The pipe ends only when the sleep, which holds it too, is gone.
    left = int(stdio.output())
    eventually(lambda: not Path(f"/proc/{left}").exists(), "the end of what init left behind")


def test_a_failed_create_leaves_nothing(shim: Shim) -> None:
    """Tasks 8.34: the same id can be created at once."""
    shim.bundle("c1", spec(["/nope"]))
    shim.start("c1")
    with pytest.raises(SupervisorError, match=r"OCI runtime create failed: .*\"/nope\""):
        shim.create("c1")
    rootfs = shim.folder / "b/c1/rootfs"
    assert not is_mounted(rootfs)
    with pytest.raises(NotFound):
        shim.state("c1")
    config = shim.folder / "b/c1/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "process": spec(["true"])["process"]}))
    shim.create("c1")
    shim.start_process("c1")
    assert shim.wait("c1").exit_status == 0


def test_a_missing_runtime_is_named(shim: Shim) -> None:
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    with pytest.raises(
        SupervisorError, match='exec: "no-such-runtime": executable file not found in \\$PATH'
    ):
        shim.create("c1", binary_name="no-such-runtime")


def test_missing_output_path_fails_the_create(shim: Shim, tmp_path: Path) -> None:
    """Tasks 3.6: a bare path is not created."""
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    with pytest.raises(SupervisorError, match="no such file or directory"):
        shim.create("c1", Stdio(tmp_path, stdout=str(tmp_path / "nope")))


def test_output_to_files_and_loggers(shim: Shim, tmp_path: Path) -> None:
    """Tasks 3.6: an existing file is appended to, file:// is created, binary:// is a program."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"before\n")
    shim.begin(
        "c1", ["sh", "-c", "echo out; echo err >&2"], Stdio(tmp_path, stdout=str(plain), stderr=str(plain))
    )
    shim.wait("c1")
    shim.delete("c1")
    assert sorted(plain.read_bytes().splitlines()) == [b"before", b"err", b"out"]

    created = tmp_path / "deep" / "er" / "log"
    shim.bundle("c2", spec(["sh", "-c", "echo out; echo err >&2"]))
    shim.start("c2")
    shim.create("c2", Stdio(tmp_path, stdout=f"file://{created}"))
    shim.start_process("c2")
    shim.wait("c2")
    shim.delete("c2")
    assert sorted(created.read_bytes().splitlines()) == [b"err", b"out"]
    assert stat.S_IMODE(created.stat().st_mode) == 0o644


@pytest.mark.parametrize("scheme", ["binary", "binary-v2"])
def test_output_to_a_program(shim: Shim, tmp_path: Path, scheme: str) -> None:
    logged = tmp_path / "logged"
    program = tmp_path / "logger"
    program.write_text(
        "#!/bin/sh\n"
        f"trap '' TERM\nexec > {logged}\n"
        'echo "$CONTAINER_ID $CONTAINER_NAMESPACE $@"\necho r >&5\nexec 5>&-\ncat <&3\ncat <&4\n'
    )
    program.chmod(0o755)
    shim.begin(
        "c1",
        ["sh", "-c", "echo out; echo err >&2"],
        Stdio(tmp_path, stdout=f"{scheme}://{program}?key=value", stderr="ignored"),
    )
    shim.wait("c1")
    shim.delete("c1")
    assert logged.read_text() == "c1 shimtest key value\nout\nerr\n"


def test_unknown_scheme(shim: Shim, tmp_path: Path) -> None:
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    with pytest.raises(SupervisorError, match="failed to create init process I/O: unknown STDIO scheme fifo"):
        shim.create("c1", Stdio(tmp_path, stdout="fifo:///x"))


def test_a_shim_that_ends_makes_nothing_more(shim: Shim) -> None:
    """It goes on telling what happened for a while, and must not be asked for what it will not see."""
    shim.begin("c1", ["true"])
    shim.wait("c1")
    shim.sink.vanish()
    shim.delete("c1")
    shim.shutdown("c1")
    shim.bundle("c2", spec(["true"]))
    with pytest.raises(Aborted, match="this shim ends"):
        shim.create("c2")


def test_events_wait_for_a_daemon_that_is_away(shim: Shim) -> None:
    """An exit while the daemon is down is told when it is back, in order; replies do not wait."""
    shim.begin("c1", ["sleep", "1000"])
    shim.sink.wait_for("create", "start")
    shim.sink.vanish()
    shim.exec("c1", "e1", ["true"])
    shim.start_process("c1", "e1")
    shim.wait("c1", "e1")
    shim.kill("c1")
    assert shim.wait("c1").exit_status == 137
    assert shim.delete("c1").exit_status == 137
    shim.sink.listen()
    shim.sink.wait_for("create", "start", "exec-added", "exec-started", "exit", "exit", "delete")
    numbers = [int(one["supervisor-event-sequence"][0]) for one in shim.sink.metadata]
    assert numbers == list(range(1, 8))


def test_the_shim_outlives_its_callers_and_is_found_again(shim: Shim, fifos: Fifos) -> None:
    stdio = fifos("stdin", "stdout")
    shim.begin("c1", ["cat"], stdio)
    assert shim.client is not None
    shim.client.close()
    done = shim.run_binary("c1", "start", stdin=shim.params("c1"))
    assert done.stdout.endswith(b"ttrpc")
    (address,) = {(shim.folder / "b/c1/address").read_text(), shim.address}
    shim.start("c1")
    assert shim.address == address
    assert len(shim.pids) == 1
    with open(stdio.stdin, "wb", buffering=0) as feed:
        feed.write(b"still here")
        shim.close_stdin("c1")
    assert shim.wait("c1").exit_status == 0
    assert stdio.output() == b"still here"


def test_shutdown_is_refused_silently_while_a_container_is_left(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "1000"])
    shim.shutdown("c1")
    assert shim.state("c1").status == types.RUNNING
    shim.kill("c1")
    shim.wait("c1")
    shim.delete("c1")
    (pid,) = shim.pids
    shim.shutdown("c1")
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of the shim")
    assert not os.path.exists(shim.address.removeprefix("unix://"))
    shim.sink.wait_for("create", "start", "exit", "delete")


def test_containers_of_a_group_share_a_shim(shim: Shim) -> None:
    """Tasks 2.5: the annotation names the group, and the socket."""
    for name in ("c1", "c2"):
        shim.bundle(name, spec(["sleep", "1000"], group="pod"))
        address = shim.start(name)
        shim.create(name)
        shim.start_process(name)
    expected = socket_path(str(shim.folder / "s"), str(shim.folder / "d.sock"), shim.namespace, "pod")
    assert address == f"unix://{expected}"
    assert len(shim.pids) == 1
    assert stat.S_IMODE(os.stat(expected).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(shim.folder / "s").st_mode) == 0o700
    shim.kill("c1")
    shim.wait("c1")
    shim.delete("c1")
    assert shim.state("c2").status == types.RUNNING


def test_delete_cleans_up_after_a_killed_shim(shim: Shim) -> None:
    """Tasks 2.7: the container goes, the bundle stays, it may be repeated; a stale socket is replaced."""
    pid = shim.begin("c1", ["sleep", "1000"])
    (shim_pid,) = shim.pids
    os.kill(shim_pid, signal.SIGKILL)
    for _ in range(2):
        done = shim.run_binary("c1", "delete", "-bundle", str(shim.folder / "b/c1"))
        assert (done.returncode, done.stderr) == (0, b"")
        answer = task.DeleteResponse.FromString(done.stdout)
        assert (answer.pid, answer.exit_status) == (pid, 137)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of the container")
    assert not is_mounted(shim.folder / "b/c1/rootfs")
    assert (shim.folder / "b/c1/config.json").exists()
    shim.start("c1")
    shim.create("c1")
    assert len(shim.pids) == 2


def test_both_versions_of_the_service(shim: Shim) -> None:
    shim.bundle("c1", spec(["true"]))
    shim.start("c1")
    for version in ("v2", "v3"):
        service = f"containerd.task.{version}.Task"
        answer = shim.call("Connect", task.ConnectRequest(id="c1"), task.ConnectResponse, service=service)
        assert (answer.shim_pid > 0, answer.task_pid) == (True, 0)


def test_start_answers_the_older_generations_in_plain_text(shim: Shim) -> None:
    """Tasks 2.3, 2.6: options or nothing on stdin are an older daemon's; the answer is the address alone."""
    shim.bundle("c1", spec(["true"]))
    for stdin in (b"", shim.options().SerializeToString()):
        done = shim.run_binary("c1", "start", "-debug", stdin=stdin)
        path = socket_path("/run/containerd/s", str(shim.folder / "d.sock"), shim.namespace, "c1")
        assert (done.stdout, done.stderr) == (f"unix://{path}".encode(), b"")
    with Client(path) as client:
        answer = client.call(TASK, "Connect", task.ConnectRequest(id="c1"), task.ConnectResponse)
    pid = answer.shim_pid
    shim.pids.add(pid)
    oom = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    assert oom == min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 1)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not os.path.exists(path), "the end of the shim")


def test_start_without_a_namespace_fails_on_stderr(shim: Shim) -> None:
    shim.bundle("c1", spec(["true"]))
    shim.namespace = ""
    done = shim.run_binary("c1", "start")
    assert done.returncode == 1
    assert b"shim namespace cannot be empty" in done.stderr


def test_update_changes_the_cgroup(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "1000"])
    resources = json.dumps({"pids": {"limit": 33}}).encode()
    request = task.UpdateTaskRequest(id="c1")
    request.resources.value = resources
    shim.call("Update", request, Empty)
    pid = shim.state("c1").pid
    limits = subprocess.run(
        ["find", "/sys/fs/cgroup", "-path", f"*{shim.folder.name}-c1/pids.max", "-exec", "cat", "{}", "+"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (pid > 0, limits.stdout.split()) == (True, ["33"])
    with pytest.raises(SupervisorError, match="needs resources"):
        shim.call("Update", task.UpdateTaskRequest(id="c1"), Empty)


def test_a_wait_ends_with_its_callers_time(shim: Shim) -> None:
    """Tasks 1.2: the shim itself says so; who waits longer, and who comes later, is not concerned."""
    shim.begin("c1", ["sleep", "1000"])
    shim.exec("c1", "e1", ["true"])

    def answer(request: task.WaitRequest, seconds: float) -> Answer:
        """What comes on the wire, where no client counts the seconds."""
        caller = Caller()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(shim.address.removeprefix("unix://"))
            connection.settimeout(PATIENCE)
            connection.sendall(caller.request(TASK, "Wait", request, seconds, ())[1])
            while not (answers := list(caller.feed(connection.recv(4096)))):
                pass
            return answers[0]

    with ThreadPoolExecutor() as threads:
        patient = threads.submit(shim.wait, "c1")
        for request in (task.WaitRequest(id="c1"), task.WaitRequest(id="c1", exec_id="e1")):
            for seconds in (0.05, 0):
                with pytest.raises(DeadlineExceeded, match=r"wait for the end of (c1|e1)"):
                    answer(request, seconds).decode(task.WaitResponse)
        assert not patient.done()
        shim.kill("c1")
        ended = patient.result(20)
    for seconds in (PATIENCE, 0):
        assert answer(task.WaitRequest(id="c1"), seconds).decode(task.WaitResponse) == ended


def test_many_waits_take_no_threads(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "1000"])
    (shim_pid,) = shim.pids
    with ThreadPoolExecutor(60) as threads:
        waits = [threads.submit(shim.wait, "c1") for _ in range(50)]
        assert len(os.listdir(f"/proc/{shim_pid}/task")) < 10
        shim.kill("c1")
        assert {wait.result(20).exit_status for wait in waits} == {137}


def test_one_id_is_created_once_at_a_time(shim: Shim) -> None:
    """Tasks 3.3; the root of the first must survive the refusal of the second."""
    shim.bundle("c1", spec(["sleep", "1000"]))
    shim.start("c1")

    def create(_: int) -> str:
        try:
            return str(shim.create("c1") > 0)
        except SupervisorError as error:
            return str(error).rpartition(": ")[2]

    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(create, range(8)))
    assert answers == ["True", *["container with given ID already exists"] * 7]
    assert is_mounted(shim.folder / "b/c1/rootfs")
    shim.start_process("c1")
    assert shim.state("c1").status == types.RUNNING


def test_info_names_runtime_features(shim: Shim) -> None:
    """Tasks 2.7."""
    done = subprocess.run([SHIM, "-info"], input=b"", capture_output=True, check=True)
    message = RuntimeInfo.FromString(done.stdout)
    assert message.name == "io.containerd.oci.v2"
    assert json.loads(message.features.value)["ociVersionMin"]
    nothing = subprocess.run(
        [SHIM, "--info"], input=shim.options(binary_name="nope").SerializeToString(), capture_output=True
    )
    assert (nothing.returncode, b'"nope"' in nothing.stderr) == (1, True)
    version = subprocess.run([SHIM, "-v"], capture_output=True, check=True)
    assert version.stdout.startswith(b"containerd-shim-oci-v2 ")
    assert subprocess.run([SHIM, "-nonsense"], capture_output=True).returncode == 2


def test_a_shim_in_a_cgroup_that_does_not_exist(shim: Shim) -> None:
    shim.bundle("c1", spec(["true"]))
    done = shim.run_binary("c1", "start", stdin=shim.options(shim_cgroup="/no/such").SerializeToString())
    assert (done.returncode, b"cgroup /no/such" in done.stderr) == (1, True)
