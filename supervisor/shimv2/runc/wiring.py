"""How a process's streams run, once they are open: what a child that opened them tells the shim."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.model.record import record

STDIN, STDOUT, STDERR = 0, 1, 2

Line = tuple[int, ...]
"""Descriptors: where bytes are read, where they are written, and what has to be held open meanwhile."""

PlainPaths = tuple[str, str, str, bool]
"""The fields of StdioPaths."""


@record
class StdioPaths:
    """Where the client wants a process's streams, exactly as it said; empty means nowhere."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False

    def packed(self) -> PlainPaths:
        """As a plain value."""
        return self.stdin, self.stdout, self.stderr, self.terminal


@record
class Wiring:
    """The lines of one process. With a `log` its outputs have no end to write to: all go there.

    The first output of a `terminal` is read from its master side, which is a line's first descriptor.
    `logger` is the pid of a program of the client's that reads the output; it is nobody's child yet.
    """

    stdin: Line = ()
    outputs: tuple[Line, ...] = ()
    terminal: bool = False
    logger: int = 0
    log: str = ""

    def descriptors(self) -> list[int]:
        """All of them."""
        found = list(self.stdin)
        for line in self.outputs:
            found += line
        return found

    def packed(self) -> tuple[Line, tuple[Line, ...], bool, int, str]:
        """As a plain value."""
        return self.stdin, self.outputs, self.terminal, self.logger, self.log

    def renumbered(self, numbers: Mapping[int, int]) -> Wiring:
        """The same, where the descriptors have other numbers."""
        outputs = tuple([_renumbered(line, numbers) for line in self.outputs])
        return Wiring(_renumbered(self.stdin, numbers), outputs, self.terminal, self.logger, self.log)


def _renumbered(line: Line, numbers: Mapping[int, int]) -> Line:
    return tuple([numbers[one] for one in line])
