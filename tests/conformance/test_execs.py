"""Further processes, and who is told of what: contract tasks 3.2, 3.3, 3.5 and rows of 8."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.types.runc.options.oci_pb2 import ProcessDetails
from tests.conformance.driving import Bench, Output, holds

SLEEP = ("sleep", "1000")


def delete_exec(exec_id: str) -> pb.DeleteProcessRequest:
    return pb.DeleteProcessRequest(container_id="c", exec_id=exec_id)


def test_an_exec_from_birth_to_death(bench: Bench, output: Output) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", "sh", "-c", "echo in; exit 6", stdout=output.path, stderr=output.path)
    assert box.status("e") == "CREATED"
    waiting = box.waiting("e")
    assert box.start("e") > 0
    assert waiting.result().exit_status == 6
    assert output.to_end() == b"in\n"
    ended = box.get("e")
    assert (box.status("e"), ended.exit_status) == ("STOPPED", 6)
    answer = box.call("DeleteProcess", delete_exec("e"))
    assert (answer.id, answer.pid, answer.exit_status) == ("e", ended.pid, 6)
    assert box.refused("DeleteProcess", delete_exec("e")).code == "NOT_FOUND"
    assert box.status() == "RUNNING"


def test_row_10_and_26_an_exec_that_was_never_started(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", *SLEEP)
    assert box.refused("Kill", box.kill_request(9, "e")).code == "FAILED_PRECONDITION"
    assert box.call("DeleteProcess", delete_exec("e")).exit_status == 0
    assert box.refused("Get", pb.GetRequest(container_id="c", exec_id="e")).code == "NOT_FOUND"


def test_row_26_a_failed_start_leaves_an_exec_that_can_be_deleted(bench: Bench) -> None:
    """A second Start of it must not cost the container its shim (9, rule 4)."""
    box = bench.running("c", *SLEEP)
    box.exec("e", "/no/such/program")
    start = pb.StartRequest(container_id="c", exec_id="e")
    said = box.refused("Start", start).text
    assert "no such file or directory" in said.lower() or "not found" in said
    if bench.cell.shim == "ours" or not bench.cell.containerd:
        assert box.refused("Start", start)
    box.call("DeleteProcess", delete_exec("e"))
    assert box.status() == "RUNNING"
    box.exec("e", "true")
    box.start("e")
    assert box.wait("e").exit_status == 0


def test_9_an_exec_without_a_spec_is_refused_and_harms_nobody(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    request = pb.ExecProcessRequest(container_id="c", exec_id="e")
    assert box.refused("Exec", request).code == "INVALID_ARGUMENT"
    assert box.status() == "RUNNING"


def test_a_running_exec_is_not_deleted_but_killed_alone(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", *SLEEP)
    box.start("e")
    assert "cannot delete a running process" in box.refused("DeleteProcess", delete_exec("e")).text
    box.kill(9, "e")
    assert box.wait("e").exit_status == 137
    assert box.refused("Kill", box.kill_request(9, "e")).code == "NOT_FOUND"
    assert box.status() == "RUNNING"


def test_row_29_processes_are_told_by_their_pids_on_the_host(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", *SLEEP)
    pid = box.start("e")
    told = box.call("ListPids", pb.ListPidsRequest(container_id="c")).processes
    assert {one.pid for one in told} == {box.get().pid, pid}
    (detail,) = [one.info for one in told if one.pid == pid]
    assert ProcessDetails.FromString(detail.value).exec_id == "e"
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"


WHO = "busybox id -u; busybox id -g; busybox id -G; pwd; echo $WHO"
SOMEBODY = {
    "user": {"uid": 1000, "gid": 1001, "additionalGids": [7, 8]},
    "cwd": "/tmp",
    "env": ["PATH=/bin", "WHO=exec"],
}


def test_an_exec_has_a_user_folder_and_environment_of_its_own(bench: Bench, output: Output) -> None:
    box = bench.running("c", *SLEEP, process={"env": ["PATH=/bin", "WHO=init", "MORE=x"]})
    script = f"exec 2>&1; {WHO}; echo ${{MORE:-nothing}}; echo no > /bin/x"
    box.exec("e", "sh", "-c", script, stdout=output.path, stderr=output.path, process=SOMEBODY)
    pid = box.start("e")
    assert box.wait("e").exit_status == 1
    said = output.to_end().splitlines()
    assert said[:6] == [b"1000", b"1001", b"1001 7 8", b"/tmp", b"exec", b"nothing"]
    assert b"ermission denied" in said[6]
    assert box.get("e").pid == pid


def test_the_user_of_an_exec_by_the_kernel(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", *SLEEP, process=SOMEBODY)
    pid = box.start("e")
    lines = (line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    fields = {name: value.split() for name, value in lines if name in ("Uid", "Gid", "Groups")}
    assert (fields["Uid"], fields["Gid"]) == (["1000"] * 4, ["1001"] * 4)
    assert {"7", "8"} <= set(fields["Groups"])
    assert Path(f"/proc/{pid}/environ").read_bytes().startswith(b"PATH=/bin\0WHO=exec\0")
    assert os.readlink(f"/proc/{pid}/cwd") == "/tmp"


def test_an_exec_of_another_user_on_a_terminal(bench: Bench, output: Output, tmp_path: Path) -> None:
    """The terminal is the user's own, takes keys, has a size, and can interrupt."""
    path = tmp_path / "in"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    box = bench.running("c", *SLEEP)
    script = (
        f"{WHO}; busybox stat -L -c owner=%u /proc/self/fd/0; read key; echo got=$key; stty size; sleep 1000"
    )
    streams = {"stdin": str(path), "stdout": output.path, "terminal": True}
    box.exec("e", "sh", "-c", script, process=SOMEBODY | {"terminal": True}, **streams)
    box.start("e")
    # crun 1.8 leaves an exec's terminal to root.
    owner = b"owner=1000" if bench.cell.runtime == "runc" else b"owner="
    output.expect(b"1000\r\n1001\r\n1001 7 8\r\n/tmp\r\nexec\r\n" + owner)
    resize = pb.ResizePtyRequest(container_id="c", exec_id="e", width=101, height=33)
    box.call("ResizePty", resize)
    os.write(writer, b"k\n")
    output.expect(b"got=k\r\n33 101\r\n")
    assert box.get("e").terminal
    os.write(writer, b"\x03")
    assert box.wait("e").exit_status == 130
    os.close(writer)
    assert box.status() == "RUNNING"


def test_a_folder_that_an_exec_cannot_enter(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", "true", process={"cwd": "/bin/busybox"})
    told = box.refused("Start", pb.StartRequest(container_id="c", exec_id="e")).text
    assert "not a directory" in told.lower()
    box.call("DeleteProcess", delete_exec("e"))
    assert box.status() == "RUNNING"


def test_row_39_an_exec_that_races_with_the_end(bench: Bench) -> None:
    box = bench.running("c", *SLEEP)
    box.exec("e", "true")
    assert box.end() == 137
    assert box.refused("Start", pb.StartRequest(container_id="c", exec_id="e"))
    assert box.wait().exit_status == 137
    assert box.delete().exit_status == 137


def test_3_5_events_in_order_and_each_once(bench: Bench) -> None:
    with bench.listening() as listener:
        box = bench.running("c", *SLEEP)
        box.exec("e", "sh", "-c", "exit 3")
        box.start("e")
        seen = listener.until("c", "/tasks/exit", "e")
        box.call("Pause", pb.PauseTaskRequest(container_id="c"))
        box.call("Resume", pb.ResumeTaskRequest(container_id="c"))
        box.kill()
        seen += listener.until("c", "/tasks/exit", "c")
        # Rows 12 and 13: whoever hears of the exit finds the task stopped, and may delete it at once.
        ended = box.get()
        assert (box.status(), ended.exit_status) == ("STOPPED", 137)
        box.delete()
        seen += listener.until("c", "/tasks/delete")
        # Another life under the same name: an event too many of the first would come before its own.
        again = bench.running("d", "true")
        again.wait()
        rest = listener.until("d", "/tasks/exit")
    assert [told.topic.removeprefix("/tasks/") for told in seen] == [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "paused",
        "resumed",
        "exit",
        "delete",
    ]
    created, started, _, run, exec_exit, _, _, exit_, deleted = [told.message for told in seen]
    assert (created.pid, started.pid) == (ended.pid, ended.pid)
    assert (run.exec_id, run.pid, exec_exit.exit_status) == ("e", exec_exit.pid, 3)
    assert (exit_.id, exit_.pid, exit_.exit_status, exit_.exited_at) == (
        "c",
        ended.pid,
        137,
        ended.exited_at,
    )
    assert (deleted.pid, deleted.exit_status, deleted.id) == (ended.pid, 137, "")
    assert [told.topic for told in rest] == ["/tasks/create", "/tasks/start", "/tasks/exit"]


def test_row_14_no_exit_event_of_what_never_ran(bench: Bench) -> None:
    with bench.listening() as listener:
        failed = bench.box("c", "/no/such/program")
        assert failed.refused("Create", failed.create_request())
        box = bench.running("d", *SLEEP)
        box.exec("e", "/no/such/program")
        assert box.refused("Start", pb.StartRequest(container_id="d", exec_id="e"))
        box.kill()
        seen = listener.until("d", "/tasks/exit")
        told = [one.topic for one in seen]
    assert told == ["/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exit"]


def test_row_15_start_is_told_before_the_exit_of_what_ends_at_once(bench: Bench) -> None:
    with bench.listening() as listener:
        for number in range(3):
            bench.running(f"c{number}", "true")
            seen = listener.until(f"c{number}", "/tasks/exit")
            assert [told.topic for told in seen] == ["/tasks/create", "/tasks/start", "/tasks/exit"]


def test_execs_of_a_container_that_ends_are_told_too(bench: Bench) -> None:
    with bench.listening() as listener:
        box = bench.running("c", *SLEEP)
        box.exec("e", *SLEEP)
        box.start("e")
        box.kill()
        exits = {told.of for told in listener.until("c", "/tasks/exit") if told.topic == "/tasks/exit"}
        while len(exits) < 2:
            exits |= {told.of for told in listener.until("c", "/tasks/exit")}
    assert exits == {"c", "e"}
    holds(lambda: box.status() == "STOPPED", "the end")
