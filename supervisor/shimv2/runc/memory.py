"""Telling that the kernel has killed in a container for want of memory (containerd: pkg/oom).

An end and its cause reach us on two ways, so before a process's end is told, the cause is looked
for: who reads the events in order knows of an end whether it was for want of memory.
"""

from __future__ import annotations

import logging
import threading
import time

from supervisor.kernel.cgroup import Cgroup
from supervisor.kernel.oom import OomWatch
from supervisor.shimv2.runc.happenings import OutOfMemory, Tell
from supervisor.shimv2.runc.loop import READ, Loop

# How long a kill may follow the warning of it; should it take longer, the process's end makes us look.
_LOOKS, _PAUSE = 10, 0.02  # times, seconds

log = logging.getLogger(__name__)


class MemoryTeller:
    """Tells of each time, from `begin` to `end`; any method may be called from any thread."""

    def __init__(self, container: str, loop: Loop, tell: Tell) -> None:
        self._container = container
        self._loop = loop
        self._tell = tell
        self._lock = threading.Lock()
        self._watch: OomWatch | None = None
        self._looking = False

    def begin(self, cgroup: Cgroup) -> None:
        """Watch a cgroup. A host that does not tell is no reason to do without the container."""
        try:
            self._watch = OomWatch(cgroup)
        except OSError as error:
            log.warning("kills for want of memory in %s will not be told: %s", self._container, error)
        else:
            self._loop.call(self._listen)

    def look(self) -> None:
        """Tell what there is to tell now."""
        with self._lock:
            if self._watch is not None and self._watch.happened():
                self._tell(OutOfMemory(self._container))

    def end(self) -> None:
        """Stop watching."""
        self._loop.call(self._stop)

    def _listen(self) -> None:
        if self._watch is not None:
            self._loop.watch(self._watch.descriptor, READ, self._woken)

    def _woken(self, _mask: int) -> None:
        self.look()
        if not self._looking and self._watch is not None and self._watch.is_early:
            self._looking = True
            threading.Thread(target=self._look_on, name="memory", daemon=True).start()

    def _look_on(self) -> None:
        for _ in range(_LOOKS):
            time.sleep(_PAUSE)
            self.look()
        self._looking = False

    def _stop(self) -> None:
        with self._lock:
            watch, self._watch = self._watch, None
        if watch is not None:
            self._loop.forget(watch.descriptor)
            watch.close()
