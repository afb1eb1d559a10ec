"""Programs that are run: by posix_spawn, with a stated list of descriptors, and waited for.

Whatever is not named stays closed: every descriptor of this process is close-on-exec. The shim
ignores SIGPIPE and handles others; a child begins with the defaults, in a process group of its own,
so that it can be killed together with what it has started.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from supervisor.kernel.process import exit_code, wait_for_exit

_RESET = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1)


class Child:
    """A program that this process started, and waits for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code, or 128 and the signal that ended it; None when the time ran out first."""
        if self._status is None and seconds is not None and not self._ends_within(seconds):
            return None
        if self._status is None:
            self._status = exit_code(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
        return self._status

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Signal it unless its end has been seen."""
        if self._status is None:
            os.kill(self.pid, signal_number)

    def kill_group(self) -> None:
        """Kill it with all that it has started, and wait for its end."""
        if self._status is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def _ends_within(self, seconds: float) -> bool:
        pidfd = os.pidfd_open(self.pid)
        try:
            return wait_for_exit(pidfd, seconds)
        finally:
            os.close(pidfd)


def spawn(argv: Sequence[str], *, env: Mapping[str, str], descriptors: Mapping[int, int]) -> Child:
    """Start `argv`, looked up on PATH; raises OSError.

    `descriptors` maps each number in the child to the one here; of 0, 1 and 2 those not named are /dev/null.
    """
    with ExitStack() as stack:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
        # Above every target first, so that no source is overwritten before its turn.
        floor = max((2, *descriptors)) + 1
        for target, source in descriptors.items():
            copy = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, floor)
            stack.callback(os.close, copy)
            actions.append((os.POSIX_SPAWN_DUP2, copy, target))
        for target in {0, 1, 2} - descriptors.keys():
            actions.append((os.POSIX_SPAWN_OPEN, target, os.devnull, os.O_RDWR, 0))
        return Child(
            os.posix_spawnp(
                argv[0], list(argv), env, file_actions=actions, setpgroup=0, setsigdef=_RESET, setsigmask=()
            )
        )
