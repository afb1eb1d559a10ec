"""Input, output, terminals; ctr as the one who drives: contract tasks 3.6 and rows of 8."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from tests.compat.ctr import eventually
from tests.compat.terminal import terminal
from tests.conformance.driving import Bench, Output
from tests.images import TAG


def resize(width: int, height: int, exec_id: str = "") -> pb.ResizePtyRequest:
    return pb.ResizePtyRequest(container_id="c", exec_id=exec_id, width=width, height=height)


def close_stdin(exec_id: str = "") -> pb.CloseIORequest:
    return pb.CloseIORequest(container_id="c", exec_id=exec_id, stdin=True)


def test_row_19_streams_are_told_as_they_were_given(bench: Bench, output: Output) -> None:
    box = bench.box("c", "sleep", "1000")
    box.create(stdout=output.path, stderr=output.path)
    told = box.get()
    assert (told.stdin, told.stdout, told.stderr, told.terminal) == ("", output.path, output.path, False)


def test_row_21_output_ends_with_the_process_and_without_a_delete(bench: Bench, output: Output) -> None:
    box = bench.box("c", "sh", "-c", "seq 20000; exit 4")
    box.create(stdout=output.path, stderr=output.path)
    box.start()
    assert output.to_end() == b"".join(b"%d\n" % number for number in range(1, 20001))
    assert box.wait().exit_status == 4


def test_row_22_input_ends_when_all_have_closed_it(bench: Bench, output: Output, tmp_path: Path) -> None:
    path = tmp_path / "in"
    os.mkfifo(path)
    box = bench.box("c", "cat")
    writer = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    box.create(stdin=str(path), stdout=output.path, stderr=output.path)
    box.start()
    os.write(writer, b"one\n")
    output.expect(b"one\n")
    box.call("CloseIO", close_stdin())
    os.write(writer, b"two\n")
    output.expect(b"two\n")
    assert box.status() == "RUNNING"
    os.close(writer)
    assert output.to_end() == b"one\ntwo\n"
    assert box.wait().exit_status == 0
    box.call("CloseIO", close_stdin())  # harmless after the end


def test_row_25_a_terminal_is_resized_from_create_on(bench: Bench, output: Output, tmp_path: Path) -> None:
    path = tmp_path / "in"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    box = bench.box("c", "sh", "-c", "stty size; read line; stty size; exit 3", terminal=True)
    box.create(stdin=str(path), stdout=output.path)
    box.call("ResizePty", resize(90, 30))
    box.start()
    output.expect(b"30 90")
    box.call("ResizePty", resize(120, 40))
    os.write(writer, b"go\n")
    output.expect(b"40 120")
    assert box.wait().exit_status == 3
    os.close(writer)


def test_row_25_resizing_what_has_no_terminal_is_harmless(bench: Bench) -> None:
    box = bench.running("c", "sleep", "1000")
    box.call("ResizePty", resize(90, 30))
    assert box.status() == "RUNNING"


def test_an_exec_on_a_terminal(bench: Bench, output: Output) -> None:
    box = bench.running("c", "sleep", "1000")
    box.exec("e", "sh", "-c", "stty size; exit 5", terminal=True, stdout=output.path)
    box.start("e")
    assert box.wait("e").exit_status == 5
    assert output.to_end().endswith(b"\r\n")


def test_a_stream_that_is_not_there(bench: Bench, tmp_path: Path) -> None:
    box = bench.box("c", "sleep", "1000")
    assert (
        "no such file or directory"
        in box.refused("Create", box.create_request(stdout=f"{tmp_path}/none")).text
    )
    assert "unknown STDIO scheme" in box.refused("Create", box.create_request(stdout="odd://x")).text


def test_output_to_a_file(bench: Bench, tmp_path: Path) -> None:
    # With pauses: containerd's own shim sometimes loses a line when both streams end in the same moment.
    box = bench.box("c", "sh", "-c", "echo out; sleep 0.3; echo err >&2; sleep 0.3")
    place = f"file://{tmp_path}/deep/log"
    box.create(stdout=place, stderr=place)
    box.start()
    box.wait()
    box.delete()
    assert (tmp_path / "deep/log").read_text().split() == ["out", "err"]


def test_ctr_drives(bench: Bench, image_tar: Path) -> None:
    """Debian's client: run, exec, terminals, pause, remove."""
    ctr, cell = bench.ctr, bench.cell
    ctr.run("images", "import", str(image_tar))
    how = ["--runtime", cell.runtime_name] + ["--runc-binary", cell.runtime] * (cell.runtime != "runc")
    answer = ctr.run("run", "--rm", *how, TAG, "r", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (7, "out\n", "err\n")
    ctr.run("run", "-d", *how, TAG, "d", "sleep", "1000")
    assert ctr.out("tasks", "exec", "--exec-id", "one", "d", "echo", "in") == "in\n"
    with terminal(ctr.command("tasks", "exec", "-t", "--exec-id", "two", "d", "sh"), 30, 90) as screen:
        screen.expect("# ")
        screen.type("stty size; exit 2\n")
        screen.expect("30 90\r")
        assert screen.wait() == 2
    ctr.run("tasks", "pause", "d")
    assert ctr.status("d") == "PAUSED"
    ctr.run("tasks", "resume", "d")
    ctr.run("tasks", "kill", "--signal", "KILL", "d")
    eventually(lambda: ctr.status("d") == "STOPPED")
    ctr.run("tasks", "rm", "d")
    ctr.run("containers", "rm", "d")
    ctr.run("images", "rm", "--sync", TAG)
