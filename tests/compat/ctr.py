"""Debian's `ctr` as a test sees it: one method per way of running it, answers as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.compat.program import Answer, Program, eventually, rows

__all__ = ["Answer", "Ctr", "eventually", "rows"]


@dataclass(frozen=True, slots=True)
class Ctr(Program):
    """`ctr --address A --namespace N`."""

    address: Path
    namespace: str

    def command(self, *words: str) -> list[str]:
        """The whole command line."""
        return ["ctr", "--address", str(self.address), "--namespace", self.namespace, *words]

    def status(self, container: str) -> str:
        """A task's status as `tasks ls` shows it; empty when there is no task."""
        return next((row[2] for row in self.table("tasks", "ls") if row[0] == container), "")

    def pid(self, container: str) -> int:
        """The pid of a task's first process."""
        return next(int(row[1]) for row in self.table("tasks", "ls") if row[0] == container)

    def remove(self, container: str) -> None:
        """Kill and remove one container, whatever its state."""
        self.run("tasks", "kill", "--all", "--signal", "KILL", container, check=False)
        eventually(lambda: self.status(container) in ("STOPPED", "CREATED", ""), what=f"end of {container}")
        self.run("tasks", "rm", "--force", container, check=False)
        self.run("containers", "rm", container)
