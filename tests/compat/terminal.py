"""A real pseudo-terminal for commands that want one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ


@dataclass(slots=True)
class Terminal:
    """The near end of a terminal, and the command on its far end."""

    master: int
    process: subprocess.Popen[bytes]
    seen: str = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        ioctl(self.master, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))

    def expect(self, text: str, within: float = 20) -> str:
        """Read until `text` was seen; what came up to it, which is not seen again."""
        assert self.shows(text, within), f"waited for {text!r}; on the screen: {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def shows(self, text: str, within: float) -> bool:
        """Whether `text` comes up in time."""
        deadline = time.monotonic() + within
        while text not in self.seen and self._read(deadline):
            pass
        return text in self.seen

    def _read(self, deadline: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self.master, 4096)
        except OSError:  # EIO: nobody holds the far end any more
            return False
        self.seen += data.decode(errors="replace")
        return True

    def wait(self, within: float = 30) -> int:
        """The status of the command, once it has ended."""
        return self.process.wait(timeout=within)


@contextmanager
def terminal(command: list[str], rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """Run `command` on a terminal of its own; it is killed when the test is done with it."""
    master, slave = pty.openpty()
    try:
        ioctl(slave, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))
        # Only the processes of a session that owns the terminal are told of a new size.
        command = ["setsid", "--ctty", *command]
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            try:
                yield Terminal(master, process)
            finally:
                process.kill()
    finally:
        os.close(master)
