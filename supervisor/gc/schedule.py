"""When to collect: containerd's rules, without a clock and without threads (contract 11.4).

    startup          a run after `startup_delay`, whatever happened
    a deletion       the next tick collects; ticks are a pause apart, the first after a pause
    enough changes   the same
    asked for        a run after `schedule_delay`; also when there were `deletion_threshold` deletions

The pause between runs is so long that they take `pause_threshold` of the time. Times are seconds of any
clock that does not jump. (containerd: plugins/gc/scheduler.go. A tick that has nothing to do does not
happen here, so an idle daemon sleeps.)
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_AVERAGE = 0.005
"""A run counts with five milliseconds at least, so that short ones do not follow each other at once."""

LONGEST_SHARE = 0.5
FIXED_PAUSE = 1.0
"""The pause when `pause_threshold` is 0, and before the first run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """containerd's settings; times in seconds."""

    pause_threshold: float = 0.02
    deletion_threshold: int = 0
    mutation_threshold: int = 100
    schedule_delay: float = 0.0
    startup_delay: float = 0.1


class Schedule:
    """Told of changes and runs, it says when the next run is due."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        self._share = min(max(settings.pause_threshold, 0.0), LONGEST_SHARE)
        self._last = now
        self._pause = FIXED_PAUSE
        self._runs = 0
        self._spent = 0.0
        self._deletions = 0
        self._mutations = 0
        self._forced: float | None = None
        self._startup = now + max(settings.startup_delay, 0.0) if settings.startup_delay > 0 else None
        self._tick: float | None = None

    @property
    def due(self) -> float | None:
        """When to run next; None as long as there is no need to."""
        times = [at for at in (self._startup, self._forced, self._tick) if at is not None]
        return min(times) if times else None

    def wrote(self, writes: int, deletions: int, now: float) -> None:
        """Changes were committed; `deletions` of them freed something."""
        self._mutations += writes
        self._deletions += deletions
        settings = self._settings
        if 0 < settings.deletion_threshold <= self._deletions:
            self._force(now)
        if self._tick is None and self._wanted():
            self._tick = self._next_tick(now)

    def asked(self, now: float) -> None:
        """Somebody waits for a run."""
        self._force(now)

    def started(self) -> None:
        """A run begins: it sees all changes so far."""
        self._startup = self._forced = self._tick = None
        self._deletions = self._mutations = 0

    def finished(self, spent: float, now: float) -> None:
        """A run ended, having spent that long on records."""
        self._last = now
        self._runs += 1
        self._spent += spent
        if self._share > 0:
            average = max(self._spent / self._runs, SHORTEST_AVERAGE)
            self._pause = average / self._share - average
        self._rearm(now)

    def failed(self, now: float) -> None:
        """A run failed: another one is made a second after the pause."""
        self._last = now
        self._forced = now + self._pause + FIXED_PAUSE

    def _wanted(self) -> bool:
        enough = self._settings.mutation_threshold
        return self._deletions > 0 or 0 < enough <= self._mutations

    def _rearm(self, now: float) -> None:
        """Changes made during the run want another one."""
        if self._wanted():
            self._tick = self._next_tick(now)

    def _next_tick(self, now: float) -> float:
        elapsed = max(0.0, now - self._last)
        return self._last + (int(elapsed / self._pause) + 1) * self._pause

    def _force(self, now: float) -> None:
        at = now + max(self._settings.schedule_delay, 0.0)
        self._forced = at if self._forced is None else min(self._forced, at)
