"""Programs that are asked for their version: found, runnable, answering in time."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 5.0
"""Seconds; these answer within some tens of milliseconds."""


class Unusable(Exception):
    """A program that cannot be run, or that does not do what it is asked; the text says how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended, and all that it printed."""

    code: int
    text: str


def found(name: str, path: str) -> Path | None:
    """Where a program is on a search path."""
    place = shutil.which(name, path=path)
    return Path(place) if place else None


def asked(program: Path, *words: str, seconds: float = PATIENCE) -> Answer:
    """Run a program to its end; raises Unusable when it cannot be run or takes too long.

    Raises PermissionError where root might be able to.
    """
    try:
        done = subprocess.run(
            [program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        if os.geteuid() and isinstance(error, PermissionError):
            raise
        raise Unusable(f"{program} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise Unusable(
            f"{program} {' '.join(words)} gave no answer within {seconds:g} s, and was killed"
        ) from None
    return Answer(done.returncode, done.stdout.decode(errors="replace").strip())
