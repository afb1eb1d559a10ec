"""Debian's `docker` as a test sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.program import Program, eventually

CLIENT = Path("/usr/bin/docker")
"""Debian's; the machine may have another in front of it."""


@dataclass(frozen=True, slots=True)
class Docker(Program):
    """`docker --host H`, with settings of its own: nobody's logins and contexts are read or changed."""

    socket: Path
    settings: Path

    def command(self, *words: str) -> list[str]:
        """The whole command line."""
        client = str(CLIENT) if CLIENT.exists() else "docker"
        return [client, f"--host=unix://{self.socket}", f"--config={self.settings}", *words]

    def inspect(self, name: str, what: str = "") -> Any:
        """What dockerd knows of a container, or the part `what` of it, words set apart by dots."""
        found = json.loads(self.out("inspect", name))[0]
        for word in filter(None, what.split(".")):
            found = found[word]
        return found

    def state(self, name: str) -> str:
        """The word for the state a container is in: created, running, exited."""
        return str(self.inspect(name, "State.Status"))

    def pid(self, name: str) -> int:
        """The pid of a container's first process; 0 when it does not run."""
        return int(self.inspect(name, "State.Pid"))

    def detached(self, *words: str) -> str:
        """`docker run -d`; the container's id."""
        return self.out("run", "-d", *words).strip()

    def running_names(self) -> set[str]:
        """The names of the containers that run."""
        return set(self.out("ps", "--format", "{{.Names}}").split())

    def logged(self, name: str) -> str:
        """What a container wrote to standard output by now."""
        return self.run("logs", name).stdout

    def await_log(self, name: str, text: str) -> str:
        """What a container wrote, once `text` is in it."""
        eventually(lambda: text in self.logged(name), what=f"{text!r} in the log of {name}")
        return self.logged(name)

    def await_state(self, name: str, state: str) -> None:
        """Wait until a container is in a state."""
        eventually(lambda: self.state(name) == state, what=f"{name} to be {state}")
