"""The story, step by step; exits non-zero when anything in it does not hold."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo import leftovers
from demo.daemon import Daemon, Trouble, sctr
from supervisor.model.instant import now, parse_rfc3339
from tests.images import TAG, busybox_oci_tar

COUNTER = "counter"
MEANWHILE = "meanwhile"
COUNTING = (
    'i=1; trap "echo last; exit 42" TERM; while :; do echo "line $i"; i=$((i+1)); sleep 1 & wait $!; done'
)
PARTING = "while [ ! -e /shared/go ]; do sleep 0.1; done; exit 7"
SECONDS_ALONE = 4
_WAIT_SECONDS = 30.0


class Story:
    """The steps, which share a daemon and what they have seen of the container."""

    def __init__(self, daemon: Daemon, namespace: str) -> None:
        self.daemon = daemon
        self.namespace = namespace
        self.pid = 0
        self.started = 0
        self.lines_at_kill = 0
        self.back_at = now()
        self.shared = daemon.folder / "shared"

    def start_daemon(self) -> None:
        """Start a daemon on a folder of its own"""
        say(f"container-supervisor {' '.join(self.daemon.command[1:])}", mark="$")
        self.daemon.start()
        say(f"pid {self.daemon.pid}; sctr version: {self.ask('version')['server']['version']}")

    def import_image(self) -> None:
        """Make an OCI image of busybox, and import it"""
        archive = busybox_oci_tar(self.daemon.folder / "busybox.tar")
        say(f"{archive.name}: {archive.stat().st_size / 1024:.0f} KiB, two layers")
        self.tell("images", "import", str(archive))
        archive.unlink()

    def run_containers(self) -> None:
        """Run a container that writes a line a second, and one that will end while nobody looks"""
        self.tell("run", "-d", "--name", COUNTER, TAG, "sh", "-c", COUNTING)
        mount = f"type=bind,src={self.shared},dst=/shared,options=rbind:ro"
        self.shared.mkdir()
        self.tell("run", "-d", "--name", MEANWHILE, "--mount", mount, TAG, "sh", "-c", PARTING)
        self.pid = self.row(COUNTER)["pid"]
        self.started = leftovers.started_at(self.pid)
        until(lambda: len(self.lines()) >= 2, "the container writes no lines")
        say(f"{COUNTER} is process {self.pid}, started {self.started} ticks after boot")

    def execute(self) -> None:
        """Run a second process in it"""
        self.tell("exec", COUNTER, "ps")

    def kill_daemon(self) -> None:
        """Kill the daemon with SIGKILL"""
        self.lines_at_kill = len(self.lines())
        say(f"kill -9 {self.daemon.pid}", mark="$")
        self.daemon.kill()
        answer = sctr(self.daemon, "--namespace", self.namespace, "ps", check=False)
        demand(answer.returncode == 125, f"sctr ps without a daemon answered {answer.returncode}, not 125")
        say(answer.stderr.strip())

    def wait_alone(self) -> None:
        """Let the containers be alone for a while"""
        (self.shared / "go").touch()
        time.sleep(SECONDS_ALONE)
        self.same_process()
        say(f"process {self.pid} runs on, and has written {len(self.lines()) - self.lines_at_kill} lines")
        demand(len(self.lines()) > self.lines_at_kill, "it wrote nothing while the daemon was away")

    def restart_daemon(self) -> None:
        """Start the daemon again"""
        self.back_at = now()
        self.daemon.start()
        self.tell("ps", "-a")
        row = self.row(COUNTER)
        demand(row["status"] == "running", f"{COUNTER} is {row['status']}, not running")
        demand(row["pid"] == self.pid, f"{COUNTER} is process {row['pid']} now, not {self.pid}")
        self.same_process()
        say(f"{COUNTER}: the same process {self.pid}, started at the same tick")

    def see_missed_exit(self) -> None:
        """See the exit that happened meanwhile"""
        until(lambda: self.row(MEANWHILE)["exit_code"] is not None, f"{MEANWHILE} never ended")
        row = self.row(MEANWHILE)
        demand(row["exit_code"] == 7, f"{MEANWHILE} exited with {row['exit_code']}, not 7")
        demand(parse_rfc3339(row["exited_at"]) < self.back_at, f"{MEANWHILE} exited at the wrong time: {row}")
        say(f"{MEANWHILE}: exit code 7 at {row['exited_at']}")

    def check_lines(self) -> None:
        """Check that no line was lost"""
        until(lambda: len(self.lines()) >= self.lines_at_kill + SECONDS_ALONE, "the container fell silent")
        lines = self.lines()
        demand(lines == [f"line {n}" for n in range(1, len(lines) + 1)], f"lines are missing: {lines}")
        say(f"sctr logs {COUNTER}: line 1 to line {len(lines)}, every one of them")

    def stop(self) -> None:
        """Stop it, and get its exit status"""
        stopped = self.ask("stop", COUNTER)[0]
        demand(stopped["exit_code"] == 42, f"{COUNTER} exited with {stopped['exit_code']}, not 42")
        demand(self.lines()[-1] == "last", "its last line is missing")
        say(f"sctr stop {COUNTER}: exit code 42, and its last words are in the log")

    def remove(self) -> None:
        """Remove everything"""
        self.tell("rm", COUNTER, MEANWHILE)
        self.tell("images", "rm", "--sync", TAG)
        demand(self.ask("ps", "-a") == [], "containers are left")
        demand(self.ask("images", "ls") == [], "images are left")
        self.daemon.stop()
        for place in leftovers.cgroups(self.namespace):
            demand(place.name == self.namespace, f"control group {place} is left")
            place.rmdir()

    def same_process(self) -> None:
        """Demand that the container's process is the one it was."""
        demand(leftovers.started_at(self.pid) == self.started, f"process {self.pid} is not the one it was")

    def lines(self) -> list[str]:
        """What the container has written, by `sctr logs`, or from the file while there is no daemon."""
        if self.daemon.pid:
            return sctr(self.daemon, "--namespace", self.namespace, "logs", COUNTER).stdout.splitlines()
        log = self.daemon.folder / "root" / "logs" / self.namespace / f"{COUNTER}.log"
        return log.read_text().splitlines()

    def row(self, name: str) -> dict[str, Any]:
        """A container's row in `sctr ps`."""
        rows = [row for row in self.ask("ps", "-a") if row["id"] == name]
        demand(len(rows) == 1, f"sctr ps does not know {name}")
        return dict(rows[0])

    def ask(self, *words: str) -> Any:
        """What `sctr` answers as JSON."""
        return json.loads(sctr(self.daemon, "--namespace", self.namespace, "-o", "json", *words).stdout)

    def tell(self, *words: str) -> None:
        """Run `sctr`, and show it and its answer."""
        say(f"sctr {' '.join(repr(word) if ' ' in word else word for word in words)}", mark="$")
        for line in sctr(self.daemon, "--namespace", self.namespace, *words).stdout.splitlines():
            say(line)

    def steps(self) -> list[Callable[[], None]]:
        """The story in its order."""
        return [
            self.start_daemon,
            self.import_image,
            self.run_containers,
            self.execute,
            self.kill_daemon,
            self.wait_alone,
            self.restart_daemon,
            self.see_missed_exit,
            self.check_lines,
            self.stop,
            self.remove,
        ]


def main() -> int:
    """Tell the story; returns 0 when all of it holds, and leaves nothing behind either way."""
    if os.geteuid() != 0:
        print("demo: containers are made by root; run it as root", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        with cleaned_up() as story:
            for number, step in enumerate(story.steps(), 1):
                timed(number, step)
    except Trouble as trouble:
        print(f"\ndemo: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything was taken away again", file=sys.stderr)
        return 130
    print(f"\nAll of it holds, nothing is left behind. {time.monotonic() - began:.1f} s in total.")
    return 0


@contextmanager
def cleaned_up() -> Iterator[Story]:
    """A story on folders of its own. A run that went well must have left nothing but these."""
    folder = Path(tempfile.mkdtemp(prefix="sctr-demo-")).resolve()
    story = Story(Daemon(folder), f"demo-{os.getpid()}")
    try:
        yield story
        demand_nothing_left(story)
    except Trouble as trouble:
        raise Trouble(f"{trouble}\n\nThe daemon's last words:\n{story.daemon.last_words()}") from None
    finally:
        # The rest must not be interrupted: a second Ctrl-C would leave things behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        story.daemon.kill()
        leftovers.clear(folder, story.namespace)


def demand_nothing_left(story: Story) -> None:
    """Demand that no mount, process or control group is there, and no file in the state folder."""
    folder = story.daemon.folder
    demand(not leftovers.mounts(folder), f"mounts are left: {leftovers.mounts(folder)}")
    demand(not leftovers.processes(folder), f"processes are left: {leftovers.processes(folder)}")
    demand(not leftovers.cgroups(story.namespace), "control groups are left")
    bundles = folder / "state" / "io.containerd.runtime.v2.task" / story.namespace
    left = list(bundles.glob("*")) + list((folder / "state" / "s").glob("*"))
    demand(not left, f"files are left in the state folder: {left}")


def timed(number: int, step: Callable[[], None]) -> None:
    """Take one step, say what it is and how long it took."""
    print(f"\n{number:2}. {step.__doc__}")
    began = time.monotonic()
    step()
    print(f"    {'':60}{time.monotonic() - began:6.2f} s", flush=True)


def say(text: str, mark: str = " ") -> None:
    """Print a line of the story."""
    print(f"    {mark} {text}", flush=True)


def demand(holds: bool, otherwise: str) -> None:
    """Raise Trouble unless it holds."""
    if not holds:
        raise Trouble(otherwise)


def until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until it holds, but not for ever."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not holds():
        demand(time.monotonic() < deadline, otherwise)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
