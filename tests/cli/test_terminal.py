"""`sctr` at a real terminal."""

import subprocess
import sys

import pytest

from tests.compat.terminal import terminal

pytestmark = [pytest.mark.root, pytest.mark.compat]

# A shell that reads line by line, without the drawing that busybox's own editor does.
SHELL = 'stty -echo; echo ready; while read -r line; do eval "$line"; done'


def test_a_shell_on_a_terminal(sctr, image):
    with terminal(sctr.command("run", "--rm", "-t", "-i", image, "sh", "-c", SHELL), 33, 111) as screen:
        screen.expect("ready")
        screen.type("stty size\n")
        screen.expect("33 111")
        screen.resize(50, 99)
        screen.type("while [ \"$(stty size)\" != '50 99' ]; do sleep 0.05; done; echo resized\n")
        screen.expect("resized")
        screen.type("exit 5\n")
        assert screen.wait() == 5


def test_exec_on_a_terminal(sctr, image):
    sctr.ok("run", "-d", "--name", "t1", image, "sleep", "1000")
    with terminal(sctr.command("exec", "-t", "-i", "t1", "sh", "-c", SHELL)) as screen:
        screen.expect("ready")
        screen.type("tty; exit 6\n")
        screen.expect("/dev/pts/")
        assert screen.wait() == 6
    sctr.ok("rm", "-f", "t1")


def test_the_terminal_is_put_back(sctr, image):
    command = sctr.command("run", "--rm", "-t", "-i", image, "sh", "-c", "exit 3")
    script = (
        "import subprocess, sys, termios\n"
        "before = termios.tcgetattr(0)\n"
        "code = subprocess.call(sys.argv[1:])\n"
        "print('code', code, 'same', before == termios.tcgetattr(0))\n"
    )
    with terminal([sys.executable, "-c", script, *command]) as screen:
        assert "code 3 same True" in screen.expect("True")


def test_a_terminal_for_the_container_only(sctr, image):
    done = sctr.run("run", "--rm", "-t", image, "tty")
    assert done.stdout == b"/dev/pts/0\r\n"


def test_there_must_be_a_terminal_to_hand_over(sctr, image):
    assert "needs a terminal" in sctr.fails("run", "--rm", "-t", "-i", image, "true")
    assert sctr.json("ps", "-a") == []


def test_ctrl_c_reaches_the_container(sctr, image):
    script = "trap 'echo got; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    with terminal(sctr.command("run", "--rm", image, "sh", "-c", script)) as screen:
        screen.expect("ready")
        screen.type("\x03")
        screen.expect("got")
        assert screen.wait() == 4


def test_no_colours_or_progress_into_a_pipe(sctr, image_tar):
    done = subprocess.run(sctr.command("images", "import", str(image_tar)), capture_output=True)
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
