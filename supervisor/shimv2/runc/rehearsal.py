"""A container's life, played in the launcher before anybody is forked (no counterpart in containerd).

What Python does for the first time it writes down: counters and caches within the code, caches of
types. Done here, that is shared by all shims; done in the shim it costs each of them two megabytes.
So everything that a shim itself does in the life of a container is done here some times, with a real
loop and real sockets, but with canned answers in place of those of forked children.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

from supervisor.kernel.process import set_child_subreaper, title_of, title_place, write_title
from supervisor.kernel.sockets import Socket
from supervisor.model.instant import now
from supervisor.shimv2.runc import layouts, log
from supervisor.shimv2.runc.forks import Work, answer
from supervisor.shimv2.runc.loop import READ
from supervisor.shimv2.runc.reaper import Exit, Reaper
from supervisor.shimv2.runc.server import Shim
from supervisor.shimv2.runc.start import raise_oom_score
from supervisor.shimv2.runc.task import SERVICES
from supervisor.shimv2.runc.wiring import Wiring
from supervisor.ttrpc.calls import Method
from supervisor.ttrpc.looped import Client, Server
from supervisor.ttrpc.promise import begin
from supervisor.ttrpc.protobuf import Layout, any_of

TIMES = 40
"""How often: the interpreter of 3.11 needs 8 calls of a function to begin, and some more to settle."""

Made = tuple[Any, Iterable[int]]

_SIZE = 64 << 10
_PID = 1
_MOST_SECONDS = 20
_PLACE = "/"


def rehearse() -> None:
    """Play; when this returns nothing of it is left but what it was for."""
    # Should it ever hang, so would each start. Without a launcher they are slower, and that is all.
    signal.alarm(_MOST_SECONDS)
    place = title_place()
    title = title_of(place)
    for _ in range(TIMES):
        _begin(place, title)
        _live()
    signal.alarm(0)


def _begin(place: tuple[int, int], title: bytes) -> None:
    """What a new shim's process does first, as far as that changes nothing here."""
    set_child_subreaper(wanted=False)
    write_title(place, title)
    raise_oom_score(0)
    copy = os.dup(0)
    os.dup2(copy, 0)
    os.close(copy)


def _live() -> None:
    """The life of one shim."""
    address, listener = _listening()
    told_at, events = _listening()
    children = _Children(_prepared(told_at, listener))
    shim = children.shim
    shim.begin()
    sink = Server({layouts.EVENTS: {"Forward": Method(Layout("envelope"), _taken)}}, shim.loop)
    sink.listen(events)
    shim.forks.start(_nothing, stays=True).answered.then(shim.take_over)
    client = Client(shim.loop, address)
    begin(_play(client, shim.reaper)).then(lambda _: shim.end())
    shim.loop.run()
    client.end()
    sink.close()
    children.close()
    shim.close()


class _Children:
    """In place of children: they answer at once, in this process, and end when they have been asked again.

    What they answer is canned: first what a shim is to serve, then the process that was created.
    """

    def __init__(self, prepared: Made) -> None:
        self.shim = Shim(self._begin)
        self._answers = chain((prepared, _made()), repeat(_nothing()))
        self._channels: list[Socket] = []

    def close(self) -> None:
        """Let go of what they have open."""
        for channel in self._channels:
            channel.close()

    def _begin(self, channel: Socket, function: Work | None, _kept: Iterable[int]) -> int:
        theirs = Socket(fileno=os.dup(channel.fileno()))
        self._channels.append(theirs)
        if function is not None:
            self._answer(theirs)
        pid = -len(self._channels)
        self.shim.loop.watch(theirs.fileno(), READ, lambda _: self._asked(theirs, pid))
        return pid

    def _asked(self, channel: Socket, pid: int) -> None:
        self.shim.loop.forget(channel.fileno())
        if channel.recv(_SIZE):
            self._answer(channel)
        channel.close()
        self.shim.reaper.collected(pid, Exit(0, now()))

    def _answer(self, channel: Socket) -> None:
        made = next(self._answers)
        answer(channel, lambda: made)
        for descriptor in made[1]:
            os.close(descriptor)


def _nothing() -> Made:
    return None, ()


def _prepared(events: str, listener: socket.socket) -> Made:
    """What a shim serves, and where."""
    handed = (listener.detach(), os.open(".", os.O_PATH | os.O_CLOEXEC), os.dup(log.STDERR))
    return (("rehearsal", _PLACE, 0, events), False, handed), handed


def _made() -> Made:
    """A process whose output has ended already, and whose input nobody has written to yet."""
    (source, _), (inner, outer) = ends = os.pipe(), os.pipe()
    os.write(outer, b"output")
    wiring = Wiring((), ((inner, ends[0][1]),))
    made = {"private_pids": True, "poststop": False, "drops": False, "pid": _PID, "wiring": wiring.packed()}
    os.close(source)
    os.close(outer)
    watch = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    return made | {"cgroup": {}, "watch": (watch, (0, 0))}, (*wiring.descriptors(), watch)


def _taken(_request: object, _call: object) -> bytes:
    return layouts.EMPTY


async def _play(client: Client, reaper: Reaper) -> None:
    options = any_of(layouts.OPTIONS_NAME, layouts.OPTIONS.encode(root="/run"))
    mount = layouts.MOUNT.encode(type="overlay", source="overlay", options=["lowerdir=/"])
    create = layouts.CREATE_REQUEST.encode(id="1", bundle=_PLACE, rootfs=[mount], options=options)
    named = layouts.PROCESS.encode(id="1")

    async def call(method: str, request: bytes) -> bytes:
        got = await client.call(SERVICES[-1], method, request, 60.0, (("key", "value"),))
        assert isinstance(got.result, bytes), got.result
        return got.result

    await call("Connect", named)
    await call("Create", create)
    waiting = client.call(SERVICES[-1], "Wait", named, 60.0, ())
    await call("Start", named)
    await call("State", named)
    reaper.collected(_PID, Exit(0, now()))
    await waiting
    await call("Delete", named)


def _listening() -> tuple[str, socket.socket]:
    """A socket under a name that the kernel chooses, in no folder (man 7 unix: autobind)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind("")
    listener.listen()
    name = listener.getsockname()
    return os.fsdecode(name), listener
