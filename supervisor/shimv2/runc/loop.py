"""The shim's one event loop: descriptors with callbacks, signals, and calls handed over by threads.

A selector and a wake-up socket; nothing here may block. Each key's `data` is called with the mask
of what is ready, which is also what `ttrpc.blocking.Server` expects of the loop it is part of.
"""

from __future__ import annotations

import selectors
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

_WAKE_SIZE = 4096

Ready = Callable[[int], None]


class Loop:
    """Runs in the thread that made it. Only `call` and `stop` may be used by other threads."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._handing_over = threading.Lock()
        self._handed_over: deque[Callable[[], None]] = deque()
        self._on_signal: Mapping[int, Callable[[], None]] = {}
        self._stopping = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.selector.register(self._wake_read, READ, self._woken)

    def handle_signals(self, handlers: Mapping[int, Callable[[], None]]) -> None:
        """Have each signal's handler called by the loop, never in the middle of other work."""
        self._on_signal = handlers
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, _noted_by_wakeup)

    def call(self, function: Callable[[], None]) -> None:
        """Have `function` called by the loop, in order; from any thread."""
        with self._handing_over:
            first = not self._handed_over
            self._handed_over.append(function)
        # One byte for many, because signals share this socket and must never find it full.
        if first:
            self._wake_write.send(b"\0")

    def watch(self, descriptor: int, mask: int, ready: Ready) -> bool:
        """Call `ready` when the descriptor is; False when it is of a kind that is always ready, a file."""
        try:
            self.selector.register(descriptor, mask, ready)
        except PermissionError:
            return False
        return True

    def forget(self, descriptor: int) -> None:
        """Undo `watch`."""
        self.selector.unregister(descriptor)

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            for key, mask in self.selector.select():
                # An earlier callback of this round may have ended this one.
                if self.selector.get_map().get(key.fd) is key:
                    key.data(mask)

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping = True
        self.call(_nothing)

    def close(self) -> None:
        """Release the selector and the wake-up sockets."""
        if self._on_signal:
            signal.set_wakeup_fd(-1)
        self.selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _woken(self, _mask: int) -> None:
        for number in set(self._wake_read.recv(_WAKE_SIZE)) & self._on_signal.keys():
            self._on_signal[number]()
        with self._handing_over:
            handed_over, self._handed_over = self._handed_over, deque()
        for function in handed_over:
            function()


def _noted_by_wakeup(_number: int, _frame: FrameType | None) -> None:
    """Python writes the number to the wake-up descriptor only for signals that have a handler."""


def _nothing() -> None:
    pass
