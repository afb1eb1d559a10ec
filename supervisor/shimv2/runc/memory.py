"""Telling that the kernel has killed in a container for want of memory (containerd: pkg/oom).

An end and its cause reach us on two ways, so before a process's end is told, the cause is looked
for: who reads the events in order knows of an end whether it was for want of memory.
"""

from __future__ import annotations

from supervisor.kernel.oom import OomWatch
from supervisor.shimv2.runc.happenings import OutOfMemory, Tell
from supervisor.shimv2.runc.loop import READ, Loop, Timer

# How long a kill may follow the warning of it; should it take longer, the process's end makes us look.
_LOOKS, _PAUSE = 10, 0.02  # times, seconds


class MemoryTeller:
    """Tells of each time, from `begin` to `end`."""

    def __init__(self, container: str, loop: Loop, tell: Tell) -> None:
        self.watch: OomWatch | None = None
        self._container = container
        self._loop = loop
        self._tell = tell
        self._begun = False
        self._looks_left = 0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Tell from now on, if there is something to watch: its start has been told."""
        self._begun = True
        if self.watch is not None:
            self._loop.watch(self.watch.descriptor, READ, self._woken)

    def look(self) -> None:
        """Tell what there is to tell now."""
        if self.watch is not None and self.watch.happened():
            self._tell(OutOfMemory(self._container))

    def end(self) -> None:
        """Stop watching."""
        if self.watch is not None:
            if self._begun:
                self._loop.forget(self.watch.descriptor)
            self.watch.close()
            self.watch = None
        if self._timer is not None:
            self._timer.cancel()

    def _woken(self, _mask: int) -> None:
        self.look()
        if self.watch is not None and self.watch.is_early and not self._looks_left:
            self._looks_left = _LOOKS
            self._look_again()

    def _look_again(self) -> None:
        self._timer = self._loop.after(_PAUSE, self._look_on)

    def _look_on(self) -> None:
        self.look()
        self._looks_left -= 1
        if self._looks_left:
            self._look_again()
