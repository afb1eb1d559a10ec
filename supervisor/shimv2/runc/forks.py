"""Functions that run in forked children, because they wait for others or use much memory.

A shim is one process per container, of which most only wait; what it once has written to it keeps for
ever. So whatever waits for a runtime or a disk, and whatever needs more than a little memory, happens
in a child that ends with it: it begins with all that the shim knows, and its pages go with it. What it
answers comes over a socket: plain values, and descriptors that it has opened.

A child dies with the shim, and it has none of the shim's descriptors but those it was given: a pipe
that is kept open by a child that waits would not end for the one at its other side.
"""

from __future__ import annotations

import marshal
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from supervisor.errors import Unavailable
from supervisor.kernel.process import set_parent_death_signal
from supervisor.kernel.sockets import Socket, pair, received, send
from supervisor.shimv2.runc import limits, log
from supervisor.shimv2.runc.loop import READ, Loop, default_signals
from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.ttrpc import status
from supervisor.ttrpc.promise import Promise

T = TypeVar("T")

_END = os.sysconf("SC_OPEN_MAX")

Handed = Mapping[int, int]
"""Descriptors from a child: its own number of each, and the number that it has here."""


class Fork:
    """A child at work; `answered` is its result, or the error that it ended with."""

    def __init__(self, pid: int, channel: Socket, loop: Loop, reaper: Reaper) -> None:
        self.pid = pid
        self.answered: Promise[tuple[Any, Handed]] = Promise()
        self._channel = channel
        self._loop = loop
        self._reaper = reaper
        self._data = bytearray()
        self._descriptors: list[int] = []
        loop.watch(channel.fileno(), READ, self._receive)

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Signal the child, if it has not ended."""
        self._reaper.kill(self.pid, signal_number)

    def _receive(self, _mask: int) -> None:
        data, descriptors = received(self._channel)
        self._data += data
        self._descriptors += descriptors
        if not data:
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            self._conclude()

    def _conclude(self) -> None:
        try:
            # Written by a child of ours, from plain values.
            failure, value, numbers = marshal.loads(self._data)  # noqa: S302
        except (EOFError, ValueError, TypeError):
            self._refuse(Unavailable("the shim's child that worked on this was killed"))
        else:
            if failure is None:
                self.answered.settle((value, dict(zip(numbers, self._descriptors))))
            else:
                self._refuse(status.to_error(*failure))

    def _refuse(self, error: Exception) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.answered.fail(error)


class Forks:
    """Makes them. The process must have one thread."""

    def __init__(self, loop: Loop, reaper: Reaper) -> None:
        self._loop = loop
        self._reaper = reaper

    async def run(self, function: Callable[[], Any], limit: float | None = None) -> Any:
        """What `function` answers in a child: a number, text, bytes, or tuples, lists, dicts of these.

        Its runtime's commands are given `limit` seconds. Raises what it raises, as that would cross a
        wire, and Unavailable when the child was killed.
        """
        value, _ = await self.start(lambda: (_within(limit, function), ())).answered
        return value

    async def open(
        self, function: Callable[[], tuple[Any, Iterable[int]]], limit: float | None = None
    ) -> tuple[Any, Handed]:
        """As `run`, for a function that answers a value and descriptors, which its value may name."""
        return await self.start(lambda: _within(limit, function)).answered

    def start(self, function: Callable[[], tuple[Any, Iterable[int]]], kept: Iterable[int] = ()) -> Fork:
        """Have `function` run in a child which has the descriptors `kept`."""
        ours, theirs = pair()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            _work(theirs, parent, function, kept)
        theirs.close()
        ours.setblocking(False)
        self._reaper.claim(pid, _unasked)
        return Fork(pid, ours, self._loop, self._reaper)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor but the standard streams and `kept`."""
    after = 3
    for descriptor in sorted(kept):
        if descriptor >= after:
            os.closerange(after, descriptor)
            after = descriptor + 1
    os.closerange(after, _END)


def _within(limit: float | None, function: Callable[[], T]) -> T:
    with limits.within(limit):
        return function()


def _work(
    channel: Socket,
    parent: int,
    function: Callable[[], tuple[Any, Iterable[int]]],
    kept: Iterable[int],
) -> NoReturn:
    code = 1
    try:
        default_signals()
        close_all_but((channel.fileno(), *kept))
        set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == parent:
            answer(channel, function)
            code = 0
    # The last stop of a process: there is nobody above to tell.
    except BaseException:
        log.exception("a child of the shim ends because of an error of its own")
    finally:
        os._exit(code)


def answer(channel: Socket, function: Callable[[], tuple[Any, Iterable[int]]]) -> None:
    """Tell the parent what `function` answers, or raises."""
    failure: tuple[int, str] | None = None
    value: Any = None
    numbers: list[int] = []
    try:
        value, descriptors = function()
        numbers += descriptors
    # The border to the parent: whatever is raised becomes its answer.
    except Exception as error:
        log.debug("a child of the shim failed: %r", error)
        failure = status.from_error(error)
    data = memoryview(marshal.dumps((failure, value, numbers)))
    sent = send(channel, data, numbers)
    channel.sendall(data[sent:])


def _unasked(_exit: Exit) -> None:
    """A child tells of its end by the end of its socket."""
