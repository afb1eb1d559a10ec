"""The Docker Engine of the Debian at hand, unchanged, on a supervisor's socket.

`COMPAT_TARGET=containerd` puts it on Debian's containerd instead. Everything is private: data, sockets,
network, the folder of its control groups.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.compat.program import eventually
from tests.compat.target import Target
from tests.docker.docker import Docker
from tests.docker.world import World, a_world

NAMESPACE = "moby"
"""The namespace in which dockerd keeps its containers."""

PROGRAM = shutil.which("dockerd", path="/usr/sbin:/usr/bin")


def release() -> tuple[int, int]:
    """The engine's version, major and minor."""
    assert PROGRAM is not None
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", told)
    assert match is not None, told
    return int(match[1]), int(match[2])


def stores() -> list[str]:
    """Where the engine can keep images: by its own drivers, and since Docker 24 in the supervisor's store."""
    return ["graphdriver", "containerd"] if PROGRAM and release() >= (24, 0) else ["graphdriver"]


@dataclass(slots=True)
class Engine:
    """One dockerd in its world, and the supervisor below it; each can be stopped, killed, started again."""

    folder: Path
    world: World
    target: Target
    store: str
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    shown: int = 0
    cgroup: str = field(init=False)
    docker: Docker = field(init=False)

    def __post_init__(self) -> None:
        self.cgroup = self.folder.name
        self.docker = Docker(self.folder / "docker.sock", self.folder / "client")
        self.target.namespaces.append(self.cgroup)

    @property
    def log(self) -> Path:
        """What dockerd writes."""
        return self.folder / "dockerd.log"

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        settings = {"features": {"containerd-snapshotter": True}} if self.store == "containerd" else {}
        (self.folder / "daemon.json").write_text(json.dumps(settings))
        (self.folder / "client").mkdir(exist_ok=True)
        command = [
            *self.world.within,
            str(PROGRAM),
            "--debug",
            f"--config-file={self.folder}/daemon.json",
            f"--containerd={self.target.address}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid",
            f"--host=unix://{self.docker.socket}",
            f"--cgroup-parent=/{self.cgroup}",
            "--shutdown-timeout=5",
            *self.options,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        eventually(self.answers, within=60, what="an answer of dockerd")

    def answers(self) -> bool:
        """Whether dockerd serves by now; fails when it has ended instead."""
        assert self.process is not None
        assert self.process.poll() is None, f"dockerd ended with {self.process.poll()}: {self.news()}"
        return self.docker.run("version", check=False).returncode == 0

    def stop(self) -> None:
        """SIGTERM; containers end with it unless they are to live on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def news(self) -> str:
        """What dockerd logged since the last call."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        told, self.shown = text[self.shown :], len(text)
        return told


@contextmanager
def an_engine(store: str, *options: str, config: str = "") -> Iterator[Engine]:
    """A running engine that has nothing yet; what it leaves is removed with force if need be."""
    with tempfile.TemporaryDirectory(prefix="cs-docker-", dir="/run") as name, a_world() as world:
        folder = Path(name)
        (folder / "d").mkdir()
        target = Target(folder / "d", config=config, within=world.within, mounts=world.mounts)
        engine = Engine(folder, world, target, store, options)
        try:
            target.start()
            engine.start()
            yield engine
            engine.stop()
            target.stop()
        finally:
            engine.kill()
            target.kill()
            target.sweep()
