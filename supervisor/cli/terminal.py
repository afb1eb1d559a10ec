"""The terminal that somebody sits at: raw while a process has it, and always put back."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.errors import FailedPrecondition


@contextmanager
def raw() -> Iterator[None]:
    """Hand every key to the process; needs a terminal on standard input."""
    fd = sys.stdin.fileno()
    if not os.isatty(fd):
        raise FailedPrecondition(
            "-t together with -i needs a terminal on standard input; leave out one of them"
        )
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def size() -> tuple[int, int] | None:
    """Columns and rows of the terminal, or None when there is none."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        try:
            dimensions = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            continue
        return dimensions.columns, dimensions.lines
    return None
