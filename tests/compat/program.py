"""A client program as a test sees it: one method per way of running it, answers as text."""

from __future__ import annotations

import subprocess
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TypeVar

Answer = subprocess.CompletedProcess[str]
Seen = TypeVar("Seen")


def eventually(look: Callable[[], Seen], *, within: float = 20.0, what: str = "") -> Seen:
    """The first true answer of `look`; fails when there is none within so many seconds."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {within} s for {what or 'it'}; last seen: {seen!r}"
        time.sleep(0.02)
    return seen


def rows(table: str) -> list[list[str]]:
    """The words of a table that a program printed, without its heading."""
    return [line.split() for line in table.splitlines()[1:] if line.strip()]


@dataclass(frozen=True, slots=True)
class Program:
    """A program with the words that every call of it begins with."""

    @abstractmethod
    def command(self, *words: str) -> list[str]:
        """The whole command line."""

    def run(
        self,
        *words: str,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 60,
        env: dict[str, str] | None = None,
    ) -> Answer:
        """Run to the end; with `check`, a status other than 0 fails the test with what it said."""
        source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        answer = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout, env=env, **source
        )
        if check:
            assert answer.returncode == 0, f"{words}: {answer.returncode}: {answer.stderr}{answer.stdout}"
        return answer

    def out(self, *words: str, stdin: str | None = None) -> str:
        """What a command that succeeds prints."""
        return self.run(*words, stdin=stdin).stdout

    def table(self, *words: str) -> list[list[str]]:
        """What a command that prints a table prints, without the heading."""
        return rows(self.out(*words))

    def fails(self, *words: str) -> str:
        """What a command that must fail says."""
        answer = self.run(*words, check=False)
        assert answer.returncode != 0, f"{words} succeeded: {answer.stdout}"
        return answer.stderr

    @contextmanager
    def running(
        self, *words: str, stdin: IO[bytes] | int | None = subprocess.DEVNULL, stdout: IO[bytes] | int = -1
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on while the test does something else; killed at the end if need be."""
        with subprocess.Popen(
            self.command(*words), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                process.kill()
