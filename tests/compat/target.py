"""The daemon under test: ours, or Debian's containerd to prove a test against the real thing.

`COMPAT_TARGET=containerd` chooses the latter. Either runs on a root, a state folder and a socket
of its own, and both must leave the same nothing behind.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.compat.ctr import Ctr, eventually

CONTAINERD = os.environ.get("COMPAT_TARGET") == "containerd"
CGROUPS = Path("/sys/fs/cgroup")
CONTAINERD_CONFIG = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""


@dataclass(slots=True)
class Target:
    """One daemon on folders below `folder`, which can be stopped, killed and started again."""

    folder: Path
    containerd: bool = CONTAINERD
    config: str = ""
    process: subprocess.Popen[bytes] | None = None
    shown: int = 0
    namespaces: list[str] = field(default_factory=list)
    within: Sequence[str] = ()
    """The command that runs the daemon in namespaces of its own, and in front of it."""
    mounts: Path = Path("/proc/self/mounts")
    """The mounts that it sees."""

    @property
    def address(self) -> Path:
        return self.folder / "d.sock"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def keeps_what_ended(self) -> bool:
        """Whether tasks that ended while no daemon was there are there for the next one."""
        return not (self.containerd and containerd_version() >= (1, 7))

    def command(self) -> list[str]:
        """What starts it."""
        places = [f"--root={self.root}", f"--state={self.state}", f"--address={self.address}"]
        file = self.folder / "config.toml"
        file.write_text((CONTAINERD_CONFIG if self.containerd else "") + self.config)
        program = ["containerd"] if self.containerd else [f"{sys.prefix}/bin/container-supervisor", "serve"]
        return [*self.within, *program, f"--config={file}", *places, "--log-level=debug"]

    def launch(self) -> None:
        """Start it without waiting for it to answer."""
        environment = os.environ | {"PATH": f"{os.environ['PATH']}:{sys.prefix}/bin"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        eventually(self.answers, what=f"an answer on {self.address}")

    def answers(self) -> bool:
        """Whether it serves by now; fails when it has ended instead."""
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with {self.process.poll()}: {self.news()}"
        return self.ctr("probe").run("version", check=False).returncode == 0

    def ctr(self, namespace: str) -> Ctr:
        """A client in one namespace."""
        return Ctr(self.address, namespace)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the status it ends with."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def news(self) -> str:
        """What was logged since the last call."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        told, self.shown = text[self.shown :], len(text)
        return told

    def leftovers(self, namespace: str = "") -> list[str]:
        """What is there of `namespace` (or of all of them) that should not be without containers."""
        tasks = self.state / "io.containerd.runtime.v2.task" / namespace
        places = [tasks] if namespace else [path for path in tasks.glob("*") if path.is_dir()]
        found = [f"bundle {path}" for place in places if place.is_dir() for path in place.iterdir()]
        runtime = self.state / "runtime" / namespace
        found += [f"runtime state {path}" for path in runtime.glob("*" if namespace else "*/*")]
        marks = (str(tasks), f"{self.root}/tmpmounts") if namespace else (str(self.folder),)
        found += [f"mount {line}" for line in _mounts(self.mounts) if any(mark in line for mark in marks)]
        found += [f"process {line}" for line in processes(self.folder, namespace) if self._is_stray(line)]
        names = [namespace] if namespace else self.namespaces
        found += [f"cgroup {path}" for name in names for path in cgroups(name)]
        return found

    def _is_stray(self, line: str) -> bool:
        if self.process is None:
            return True
        return not any(line.startswith(f"{pid} ") for pid in _family(self.process.pid))

    def sweep(self) -> None:
        """End and remove by force what a failed test left, so that the next one starts clean."""
        for line in processes(self.folder, ""):
            if self._is_stray(line):
                _signal(int(line.split()[0]))
        places = [line.split()[1] for line in _mounts(self.mounts) if str(self.folder) in line]
        for place in sorted(places, reverse=True):
            subprocess.run([*self.within, "umount", "--lazy", place], check=False)
        for name in self.namespaces:
            _remove_cgroups(name)


def cgroups(namespace: str) -> list[Path]:
    """The cgroups of a namespace's containers; the folder of the namespace itself stays with runc."""
    return [path for path in CGROUPS.glob(f"*/{namespace}/*") if path.is_dir()] + [
        path for path in CGROUPS.glob(f"{namespace}/*") if path.is_dir()
    ]


def processes(folder: Path, namespace: str) -> Iterator[str]:
    """`pid command` of every process that belongs to a daemon in `folder`, and to `namespace`."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (place / "environ").read_bytes().decode(errors="replace")
            cwd = os.readlink(place / "cwd")
        except OSError:
            continue
        told = f"{command} {environment} {cwd}"
        if place.name != str(os.getpid()) and str(folder) in told and namespace in told:
            yield f"{place.name} {command}"


def _family(pid: int) -> set[int]:
    """A daemon and those of its children that live and die with it: its launcher and workers."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = {pid}
    with suppress(FileNotFoundError, ProcessLookupError):  # some of them end meanwhile
        for child in {int(word) for path in children for word in path.read_text().split()}:
            if b"-namespace" not in Path(f"/proc/{child}/cmdline").read_bytes():
                found |= _family(child)
    return found


def is_mounted(place: Path) -> bool:
    """Whether something is mounted there; os.path.ismount does not see a bind mount."""
    return any(line.split()[1] == str(place) for line in _mounts(Path("/proc/self/mounts")))


def _mounts(table: Path) -> list[str]:
    return table.read_text().splitlines()


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_cgroups(namespace: str) -> None:
    for pattern in (f"*/{namespace}", namespace):
        for folder in CGROUPS.glob(pattern):
            for path in [*sorted(folder.rglob("*/"), reverse=True), folder]:
                if path.is_dir():
                    path.rmdir()


def containerd_version() -> tuple[int, ...]:
    """Major and minor version of the installed containerd."""
    told = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r" v?(\d+)\.(\d+)", told)
    assert numbers, told
    return tuple(int(number) for number in numbers.groups())
