"""`launch`: the shim's actions without the start of an interpreter (no counterpart in containerd).

The daemon starts one launcher. It loads the shim's modules once, freezes what the collector sees,
so that its children share those pages, and then forks a child for each order: the child runs the
same action that the binary would have run, in the same folder and environment. It has one thread,
which is what makes forking safe; the daemon itself, with grpc's threads, never forks.

An order and its result are one JSON message each on a SOCK_SEQPACKET socket, which the launcher
gets as its stdin. The child sends the result itself, and then a `start` becomes the shim: one fork
and no further process stands between order and answer. The launcher tells of each child's end too,
for those that came to none. When the socket ends it ends; shims live on, as children of init.
Without a launcher the binary does the same.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from supervisor.kernel.process import set_name, set_title

MAX_MESSAGE = 1 << 20
MAX_TOLD = 32 << 10
"""Bytes of each stream that a result holds: a message has to fit into the socket's buffer."""

# Bytes travel in JSON as the characters of the same numbers.
BYTES = "latin-1"

NAME = "containerd-shim-oci-v2"

Act = Callable[[Sequence[str], Callable[[], None]], int]


def launch(act: Act) -> None:
    """Take orders until the daemon is gone; `act` does what the binary does with a command line."""
    channel = socket.socket(fileno=os.dup(0))
    _replace_stdin()
    _keep_environment()
    _load()
    launcher = _Launcher(channel, act)
    gc.collect()
    gc.freeze()
    launcher.run()


def _load() -> None:
    """Load what any action may need, so that no child has to."""
    from supervisor.shimv2.runc import delete, logger, server, start, stray, terminal

    del delete, logger, server, start, stray, terminal
    logging.basicConfig()


def _replace_stdin() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def _keep_environment() -> None:
    """Copy the environment to where a new title does not overwrite it."""
    for name, value in os.environ.items():
        os.environ[name] = value


class _Launcher:
    def __init__(self, channel: socket.socket, act: Act) -> None:
        self._channel = channel
        self._act = act
        self._children: dict[int, int] = {}
        self._environment: Mapping[str, str] = {}
        self._ended, ending = socket.socketpair()
        for end in (self._ended, ending):
            end.setblocking(False)
        self._ending = ending
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, self._take)
        self._selector.register(self._ended, selectors.EVENT_READ, self._collect)

    def run(self) -> None:
        """Serve until the daemon is gone."""
        signal.set_wakeup_fd(self._ending.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noted_by_wakeup)
        with suppress(ConnectionError):
            while all(key.data() for key, _ in self._selector.select()):
                pass

    def _take(self) -> bool:
        message = self._channel.recv(MAX_MESSAGE)
        if not message or self._is_abandoned():
            return False
        order = json.loads(message)
        if order.get("kill"):
            self._kill(order["number"])
        else:
            self._fork(order)
        return True

    def _fork(self, order: Mapping[str, Any]) -> None:
        # Here rather than in the child, which would pay for it with memory of its own.
        if order["env"] != self._environment:
            self._environment = order["env"]
            os.environ.clear()
            os.environ.update(self._environment)
        pid = os.fork()
        if not pid:
            self._become(order)
        self._children[pid] = order["number"]

    def _is_abandoned(self) -> bool:
        """Whether the daemon is gone: then what it has ordered is no longer wanted."""
        poller = select.poll()
        poller.register(self._channel, 0)
        return bool(poller.poll(0))

    def _kill(self, number: int) -> None:
        """End an order that its owner has given up, with all that it started."""
        for pid, of in self._children.items():
            if of == number:
                with suppress(ProcessLookupError):  # it has no group of its own yet
                    os.killpg(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)

    def _collect(self) -> bool:
        """Reap the children that have ended, shims among them, and tell of each."""
        with suppress(BlockingIOError):
            self._ended.recv(MAX_TOLD)
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            code = os.waitstatus_to_exitcode(status)
            self._send(self._children.pop(pid), code if code >= 0 else 128 - code)
        return True

    def _send(self, number: int, code: int, stdout: str = "", stderr: str = "") -> None:
        result = {"number": number, "code": code, "stdout": stdout, "stderr": stderr}
        self._channel.send(json.dumps(result).encode())

    def _become(self, order: Mapping[str, Any]) -> NoReturn:
        """In the child: stand where the binary would have been started, act, and end."""
        code, stdout, stderr = 1, -1, -1

        def answer(code: int = 0) -> None:
            sys.stdout.flush()
            sys.stderr.flush()
            self._send(order["number"], code, _content(stdout), _content(stderr))

        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stdout, stderr = _memory(), _memory()
            for number, descriptor in enumerate((_memory(order["stdin"].encode(BYTES)), stdout, stderr)):
                os.dup2(descriptor, number)
            os.chdir(order["cwd"])
            set_name(NAME)
            set_title(" ".join((NAME, *order["argv"])))
            code = self._act(order["argv"], answer)
        # The last stop of a process: there is nobody above to tell.
        except BaseException:
            logging.exception("the action failed because of an error of its own")
        finally:
            with suppress(OSError):
                answer(code)
            os._exit(code)


def _noted_by_wakeup(_number: int, _frame: FrameType | None) -> None:
    """A handler there must be, else nothing is written to the wake-up descriptor."""


def _memory(content: bytes = b"") -> int:
    descriptor = os.memfd_create("stream")
    if content:
        os.pwrite(descriptor, content, 0)
    return descriptor


def _content(descriptor: int) -> str:
    return os.pread(descriptor, MAX_TOLD, 0).decode(BYTES)
