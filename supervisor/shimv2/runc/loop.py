"""The shim's one event loop: descriptors with callbacks, signals, timers, and calls for later.

It is epoll itself, because every layer above it would cost each shim memory. Nothing here may block.
The process has one thread; only `call` may come from another, for the sake of a log's writer.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from _thread import allocate_lock  # not of threading, which makes each fork dearer
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from supervisor.ttrpc.promise import Promise

READ = 1
WRITE = 2

_WAKE_SIZE = 4096
_NOT_READ = ~select.EPOLLIN
_NOT_WRITE = ~select.EPOLLOUT

Ready = Callable[[int], None]


class Timer:
    """A call that is due at a moment, until it is cancelled."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Have nothing called."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at


class Loop:
    """Runs in the thread that made it, once it is open."""

    _epoll: select.epoll
    _wake_read = _wake_write = -1

    def __init__(self) -> None:
        self._watched: dict[int, Ready] = {}
        self._timers: list[Timer] = []
        self._handing_over = allocate_lock()
        self._handed_over: deque[Callable[[], None]] = deque()
        self._on_signal: Mapping[int, Callable[[], None]] = {}
        self._stopping = False

    def open(self) -> Loop:
        """Open what it waits with; apart, so that a loop can be made before a fork. Answers itself."""
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._wake_read, READ, self._woken)
        return self

    def handle_signals(self, handlers: Mapping[int, Callable[[], None]]) -> None:
        """Have each signal's handler called by the loop, never in the middle of other work."""
        self._on_signal = handlers
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        note_signals(*handlers)

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called by the loop, in order; from any thread."""
        with self._handing_over:
            first = not self._handed_over
            self._handed_over.append(function)
        # One byte for many, because signals share this pipe and must never find it full.
        if first:
            os.write(self._wake_write, b"\0")

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Have `call` called when so much time has passed."""
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    async def settled(self, promise: Promise[Any], seconds: float) -> bool:
        """Wait until a promise is settled; False when the time ran out first."""
        if not promise.done():
            either: Promise[None] = Promise()
            timer = self.after(seconds, either.settle_once)
            promise.then(either.settle_once)
            await either
            timer.cancel()
            promise.forget(either.settle_once)
        return promise.done()

    async def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        over: Promise[None] = Promise()
        self.after(seconds, lambda: over.settle(None))
        await over

    def watch(self, descriptor: int, mask: int, ready: Ready) -> bool:
        """Call `ready` when the descriptor is; False when it is of a kind that is always ready, a file."""
        try:
            self._epoll.register(descriptor, _events(mask))
        except PermissionError:
            return False
        self._watched[descriptor] = ready
        return True

    def change(self, descriptor: int, mask: int) -> None:
        """Wait for something else on a watched descriptor."""
        self._epoll.modify(descriptor, _events(mask))

    def forget(self, descriptor: int) -> None:
        """Undo `watch`. Before the descriptor is closed: a child that still has it would keep it watched."""
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            ready = [(number, events, self._watched[number]) for number, events in self._poll()]
            for number, events, call in ready:
                # An earlier callback of this round may have ended this one.
                if self._watched.get(number) is call:
                    call(_mask(events))
            self._call_timers()

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping = True
        self.call(_nothing)

    def close(self) -> None:
        """Release what the loop has open."""
        if self._on_signal:
            signal.set_wakeup_fd(-1)
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _poll(self) -> list[tuple[int, int]]:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return self._epoll.poll()
        return self._epoll.poll(max(0.0, self._timers[0].at - time.monotonic()))

    def _call_timers(self) -> None:
        while self._timers and self._timers[0].at <= time.monotonic():
            call = heapq.heappop(self._timers).call
            if call is not None:
                call()

    def _woken(self, _mask: int) -> None:
        for number in set(os.read(self._wake_read, _WAKE_SIZE)) & self._on_signal.keys():
            self._on_signal[number]()
        # Those that come meanwhile have their turn in the next round, with a byte of their own.
        with self._handing_over:
            handed_over, self._handed_over = self._handed_over, deque()
        for function in handed_over:
            function()


def _events(mask: int) -> int:
    return (select.EPOLLIN if mask & READ else 0) | (select.EPOLLOUT if mask & WRITE else 0)


def _mask(events: int) -> int:
    """A hang-up or an error is for whoever waits, in either direction."""
    return (READ if events & _NOT_WRITE else 0) | (WRITE if events & _NOT_READ else 0)


_noted: set[int] = set()


def note_signals(*numbers: int) -> None:
    """Have signals written to the wake-up descriptor, as Python does for those that have a handler.

    Those of a parent that had the same need nothing more.
    """
    for number in numbers:
        if number not in _noted:
            _noted.add(number)
            signal.signal(number, _noted_by_wakeup)


def default_signals() -> None:
    """Give every noted signal its own meaning back; for a child that does something else."""
    signal.set_wakeup_fd(-1)
    while _noted:
        signal.signal(_noted.pop(), signal.SIG_DFL)


def _noted_by_wakeup(_number: int, _frame: FrameType | None) -> None:
    """Python writes the number to the wake-up descriptor only for signals that have a handler."""


def _nothing() -> None:
    pass
