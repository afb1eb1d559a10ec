"""Functions that run in forked children, because they wait for others or use much memory.

A shim is one process per container, of which most only wait; what it once has written to it keeps for
ever. So whatever waits for a runtime or a disk, and whatever needs more than a little memory, happens
in a child that ends with it: it begins with all that the shim knows, and its pages go with it. What it
answers comes over a socket: plain values, and descriptors that it has opened.

To fork, and to have each page for oneself, takes a child milliseconds. As one call often follows upon
another, a worker stays for a moment when its work is done, and the next function is sent to it by name.
It is the worker that ends the moment: in the shim a timer would cost memory for good.

A child dies with the shim, and it has none of the shim's descriptors but those it was given: a pipe
that is kept open by a child that waits would not end for the one at its other side.
"""

from __future__ import annotations

import marshal
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from struct import Struct
from typing import Any, NoReturn

from supervisor.errors import Unavailable
from supervisor.kernel.process import set_parent_death_signal
from supervisor.kernel.sockets import SHUT_RD, Socket, is_ready, pair, received, send
from supervisor.shimv2.runc import limits, log
from supervisor.shimv2.runc.loop import READ, Loop, default_signals
from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.ttrpc import status
from supervisor.ttrpc.promise import Promise

LINGER_SECONDS = 0.5
"""How long a worker waits for more: create, start and a first exec come one upon the other."""

_END = os.sysconf("SC_OPEN_MAX")
_LENGTH = Struct("<I")  # of each message, before it
_RECEIVE_SIZE = 64 << 10

Handed = Mapping[int, int]
"""Descriptors from a child: its own number of each, and the number that it has here."""

Work = Callable[[], tuple[Any, Iterable[int]]]
"""What a child does: it answers a value, and descriptors that the value may name."""


class Fork:
    """A child at work; `answered` is its result, or the error that it ended with."""

    __slots__ = (
        "_channel",
        "_data",
        "_descriptors",
        "_free",
        "_loop",
        "_reaper",
        "answered",
        "ended",
        "pid",
    )

    def __init__(
        self, pid: int, channel: Socket, loop: Loop, reaper: Reaper, free: Callable[[Fork], None]
    ) -> None:
        self.pid = pid
        self.answered: Promise[tuple[Any, Handed]] = Promise()
        self.ended = False
        self._channel = channel
        self._loop = loop
        self._reaper = reaper
        self._free = free
        self._data = b""
        self._descriptors: list[int] = []
        loop.watch(channel.fileno(), READ, self._receive)

    def ask(self, work: bytes) -> bool:
        """Have it do something else, a packed Order; False when it has waited for too long, and ends."""
        self._channel.setblocking(True)
        try:
            self._channel.sendall(_LENGTH.pack(len(work)) + work)
        except OSError:
            return False
        finally:
            self._channel.setblocking(False)
        self.answered = Promise()
        return True

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Signal the child, if it has not ended."""
        self._reaper.kill(self.pid, signal_number)

    def end(self) -> None:
        """Let go of it: a worker ends when nobody will ask it any more."""
        if not self.ended:
            self.ended = True
            self._loop.forget(self._channel.fileno())
            self._channel.close()

    def _receive(self, _mask: int) -> None:
        try:
            data, descriptors = received(self._channel)
        except ConnectionResetError:  # it was killed before it had read what it was asked
            data, descriptors = b"", []
        self._data += data
        self._descriptors += descriptors
        if not data:
            self.end()
            self._lose()
        elif _is_whole(self._data):
            # Its end is not waited for: that takes the kernel most of a millisecond.
            self._conclude()

    def _conclude(self) -> None:
        # Written by a child of ours, from plain values.
        failure, value, numbers = marshal.loads(self._data[_LENGTH.size :])  # noqa: S302
        descriptors, answered = self._descriptors, self.answered
        self._data, self._descriptors = b"", []
        self._free(self)
        if failure is None:
            answered.settle((value, dict(zip(numbers, descriptors))))
        else:
            _close(descriptors)
            answered.fail(status.to_error(*failure))

    def _lose(self) -> None:
        _close(self._descriptors)
        self._free(self)
        if not self.answered.done():
            self.answered.fail(Unavailable("the shim's child that worked on this was killed"))


def fork_child(channel: Socket, function: Work | None, kept: Iterable[int]) -> int:
    """Fork a child that does what it is told, first `function`; its pid."""
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _serve(channel, parent, function, kept)
    return pid


Begin = Callable[[Socket, Work | None, Iterable[int]], int]


class Forks:
    """Makes them. The process must have one thread."""

    def __init__(self, loop: Loop, reaper: Reaper, begin: Begin = fork_child) -> None:
        self._begin = begin
        self._loop = loop
        self._reaper = reaper
        self._free: Fork | None = None
        self._living = 0
        self._none_left: Promise[None] = Promise()

    async def run(self, function: Callable[..., Any], *arguments: Any, limit: float | None = None) -> Any:
        """What `function` answers in a child: a number, text, bytes, or tuples, lists, dicts of these.

        It is a module's function, and its arguments are of these as well. Its runtime's commands are
        given `limit` seconds. Raises what it raises, as that would cross a wire, and Unavailable when
        the child was killed.
        """
        value, _ = await self._work(Order(function, arguments, limit, opens=False))
        return value

    async def open(
        self, function: Callable[..., tuple[Any, Iterable[int]]], *arguments: Any, limit: float | None = None
    ) -> tuple[Any, Handed]:
        """As `run`, for a function that answers a value and descriptors, which its value may name."""
        return await self._work(Order(function, arguments, limit, opens=True))

    def start(self, function: Work, kept: Iterable[int] = (), *, stays: bool = False) -> Fork:
        """Have `function` run in a child which has the descriptors `kept`; if it `stays`, as a worker."""
        return self._fork(function, kept, self._freed if stays else Fork.end)

    def expect(self) -> None:
        """Have a worker ready, because there will soon be something to do."""
        if self._free is None:
            self._freed(self._fork(None, (), self._freed))

    def close(self) -> None:
        """Let the worker end that waits, if there is one."""
        worker, self._free = self._free, None
        if worker is not None:
            worker.end()

    async def ended(self, seconds: float) -> None:
        """After `close`, wait for the end of every child, for so long."""
        if self._living:
            self._none_left = Promise()
            await self._loop.settled(self._none_left, seconds)

    def _work(self, work: Order) -> Promise[tuple[Any, Handed]]:
        worker, self._free = self._free, None
        if worker is None or not worker.ask(work.packed()):
            worker = self._fork(work.done, (), self._freed)
        return worker.answered

    def _fork(self, function: Work | None, kept: Iterable[int], free: Callable[[Fork], None]) -> Fork:
        ours, theirs = pair()
        pid = self._begin(theirs, function, kept)
        theirs.close()
        ours.setblocking(False)
        self._living += 1
        self._reaper.claim(pid, self._reaped)
        return Fork(pid, ours, self._loop, self._reaper, free)

    def _reaped(self, _exit: Exit) -> None:
        """A child tells of its end by the end of its socket; this is when nothing of it is left."""
        self._living -= 1
        if not self._living:
            self._none_left.settle_once()

    def _freed(self, worker: Fork) -> None:
        """Keep a worker that has nothing to do, for as long as it waits; one is enough."""
        if worker.ended:
            self._free = None if self._free is worker else self._free
        elif self._free is None:
            self._free = worker
        else:
            worker.end()


class Order:
    """What a worker is to do, in a form that can be sent."""

    __slots__ = ("_arguments", "_function", "_limit", "_opens")

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], limit: float | None, *, opens: bool
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._limit = limit
        self._opens = opens

    def packed(self) -> bytes:
        """As bytes; the function by its name."""
        function = self._function
        name = (function.__module__, function.__qualname__)
        return marshal.dumps((name, self._arguments, self._limit, self._opens))

    @classmethod
    def unpacked(cls, packed: bytes) -> Order:
        """From bytes that another process of this program has packed."""
        (module, name), arguments, limit, opens = marshal.loads(packed)  # noqa: S302
        return cls(getattr(import_module(module), name), arguments, limit, opens=opens)

    def done(self) -> tuple[Any, Iterable[int]]:
        """Do it: its answer, and the descriptors that go with it."""
        with limits.within(self._limit):
            if self._opens:
                answered: tuple[Any, Iterable[int]] = self._function(*self._arguments)
                return answered
            return self._function(*self._arguments), ()


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor but the standard streams and `kept`."""
    after = 3
    for descriptor in sorted(kept):
        if descriptor >= after:
            os.closerange(after, descriptor)
            after = descriptor + 1
    os.closerange(after, _END)


def _serve(channel: Socket, parent: int, function: Work | None, kept: Iterable[int]) -> NoReturn:
    """In the child: do what it was forked for, then what it is sent, until the other end is closed."""
    code = 1
    try:
        default_signals()
        close_all_but((channel.fileno(), *kept))
        set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == parent:
            _work(channel, function)
            code = 0
    # The last stop of a process: there is nobody above to tell.
    except BaseException:
        log.exception("a child of the shim ends because of an error of its own")
    finally:
        os._exit(code)


def _work(channel: Socket, function: Work | None) -> None:
    while True:
        if function is not None:
            answer(channel, function)
        # What it has opened has been handed over.
        close_all_but((channel.fileno(),))
        sent = _next(channel)
        if not sent:
            return
        function = Order.unpacked(sent).done


def _next(channel: Socket) -> bytes:
    """The next message; empty when there is none, and none can come any more."""
    if not is_ready(channel, LINGER_SECONDS):
        channel.shutdown(SHUT_RD)  # what has come by now is read still
    data = b""
    while not _is_whole(data):
        piece = channel.recv(_RECEIVE_SIZE)
        if not piece:
            return b""
        data += piece
    return data[_LENGTH.size :]


def _is_whole(data: bytes) -> bool:
    return len(data) >= _LENGTH.size and len(data) == _LENGTH.size + _LENGTH.unpack_from(data)[0]


def answer(channel: Socket, function: Work) -> None:
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
    packed = marshal.dumps((failure, value, numbers))
    data = memoryview(_LENGTH.pack(len(packed)) + packed)
    sent = send(channel, data, numbers)
    if sent < len(data):  # who has it all may have closed the other end by now
        channel.sendall(data[sent:])


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
