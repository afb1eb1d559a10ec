"""The daemon of the demo: a real one, on folders of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

BINARIES = Path(sys.executable).parent
_READY_SECONDS = 30.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


class Trouble(Exception):
    """Something that the demo promised did not hold."""


class Daemon:
    """`container-supervisor serve` below `folder`; may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = folder / "state" / "supervisor.sock"
        self.log = folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        """How it is started."""
        folders = ["--root", str(self.folder / "root"), "--state", str(self.folder / "state")]
        return [str(BINARIES / "container-supervisor"), "serve", *folders, "--address", str(self.address)]

    @property
    def pid(self) -> int:
        """Its process, 0 when there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it and return when it answers."""
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C ends the demo, and the demo ends the daemon.
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _READY_SECONDS
        while sctr(self, "version", check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"the daemon did not come up; its last words:\n{self.last_words()}")
            time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say or save anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Trouble(f"the daemon did not stop within {_STOP_SECONDS:.0f} s of SIGTERM") from None
        self._process = None

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def sctr(daemon: Daemon, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `sctr` against the daemon; with `check`, failing is trouble."""
    command = [str(BINARIES / "sctr"), "--address", str(daemon.address), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise Trouble(f"sctr {' '.join(words)} answered {done.returncode}: {done.stderr.strip()}")
    return done
