"""Processes: names that cannot be reused, waiting, scores."""

import os
import signal
import subprocess
import sys

from supervisor.kernel import process


def test_a_process_is_ended_and_waited_for() -> None:
    child = subprocess.Popen(["sleep", "60"])
    assert process.start_ticks(child.pid) > 0
    assert process.terminate_and_wait(child.pid)
    assert child.wait() == -signal.SIGKILL
    assert process.terminate_and_wait(child.pid)


def test_waiting_has_an_end() -> None:
    child = subprocess.Popen(["sleep", "60"])
    pidfd = os.pidfd_open(child.pid)
    try:
        assert not process.wait_for_exit(pidfd, 0)
        child.kill()
        assert process.wait_for_exit(pidfd, 30)
    finally:
        os.close(pidfd)
        child.wait()


ORPHAN = """
import os, subprocess
from supervisor.kernel.process import set_child_subreaper, set_name
set_child_subreaper()
set_name("a-subreaper")
waits, ends = os.pipe()
# The orphan ends only after its parent, the shell, is gone.
subprocess.run(["sh", "-c", f"(read x <&{waits}; exit 7) &"], pass_fds=[waits], check=True)
os.close(ends)
print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]), open("/proc/self/comm").read())
"""


def test_orphans_come_to_the_subreaper() -> None:
    out = subprocess.check_output([sys.executable, "-c", ORPHAN], text=True)
    assert out.split() == ["7", "a-subreaper"]


def test_a_score_below_what_is_allowed_is_raised() -> None:
    wanted = process.allowed_oom_score_adj(-1000)
    if process.has_capability(process.CAP_SYS_RESOURCE):
        assert wanted == -1000
    else:
        assert wanted == process.oom_score_adj()
    assert process.allowed_oom_score_adj(5000) == 1000


def test_a_score_is_set() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert process.set_oom_score_adj(child.pid, 700) == 700
        assert process.oom_score_adj(child.pid) == 700
    finally:
        child.kill()
        child.wait()


TITLED = """
import os
from supervisor.kernel.process import set_title
os.environ["PATH"] = os.environ["PATH"]
set_title(os.environ.pop("TITLE"))
print(open("/proc/self/cmdline").read().rstrip("\\0"), end="")
"""


def test_a_title_takes_the_place_of_the_arguments() -> None:
    for title in ("short", "a title that has more letters than the arguments " * 5, "x" * 100_000):
        done = subprocess.run(
            [sys.executable, "-c", TITLED],
            env={**os.environ, "TITLE": title},
            stdout=subprocess.PIPE,
            check=True,
        )
        shown = done.stdout.decode()
        assert shown
        assert title.startswith(shown)
        assert len(shown) == len(title) or len(title) > 1000
