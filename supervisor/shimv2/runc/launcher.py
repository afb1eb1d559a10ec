"""`launch`: the shim's actions without the start of an interpreter (no counterpart in containerd).

The daemon starts one launcher. It loads the shim's modules once, freezes what the collector sees,
so that its children share those pages, and then forks a child for each order: the child runs the
same action that the binary would have run, in the same folder and environment. It has one thread,
which is what makes forking safe; the daemon itself, with grpc's threads, never forks.

An order and its result are one JSON message each on a SOCK_SEQPACKET socket, which the launcher
gets as its stdin. When that ends it ends too; shims live on. Without it the binary does the same.
"""

from __future__ import annotations

import gc
import json
import os
import select
import selectors
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MAX_MESSAGE = 1 << 20

# Bytes travel in JSON as the characters of the same numbers.
BYTES = "latin-1"

Action = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class _Order:
    """What to run, and the files in memory that take the place of its streams."""

    number: int
    streams: tuple[int, int, int]


def launch(act: Action) -> None:
    """Take orders until the daemon is gone; `act` does what the binary does with a command line."""
    channel = socket.socket(fileno=os.dup(0))
    _replace_stdin()
    _load()
    gc.collect()
    gc.freeze()
    _Launcher(channel, act).run()


def _load() -> None:
    """Load what any action may need, so that no child has to."""
    from supervisor.shimv2.runc import delete, logger, server, start, terminal

    del delete, logger, server, start, terminal


def _replace_stdin() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


class _Launcher:
    def __init__(self, channel: socket.socket, act: Action) -> None:
        self._channel = channel
        self._act = act
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.data, _Order):
                    self._finish(key.fd, key.data)
                elif not self._take():
                    return

    def _take(self) -> bool:
        message = self._channel.recv(MAX_MESSAGE)
        if not message or self._is_abandoned():
            return False
        fields = json.loads(message)
        streams = (_memory(fields["stdin"].encode(BYTES)), _memory(), _memory())
        pid = os.fork()
        if not pid:
            self._become(fields, streams)
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, _Order(fields["number"], streams))
        return True

    def _is_abandoned(self) -> bool:
        """Whether the daemon is gone: then what it has ordered is no longer wanted."""
        poller = select.poll()
        poller.register(self._channel, 0)
        return bool(poller.poll(0))

    def _finish(self, pidfd: int, order: _Order) -> None:
        self._selector.unregister(pidfd)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
        stdout, stderr = (_content(descriptor) for descriptor in order.streams[1:])
        os.close(order.streams[0])
        result = {"number": order.number, "code": code, "stdout": stdout, "stderr": stderr}
        self._channel.send(json.dumps(result).encode())

    def _become(self, fields: Mapping[str, str], streams: tuple[int, int, int]) -> None:
        """In the child: stand where the binary would have been started, act, and end."""
        code = 1
        try:
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
            os.setsid()
            os.chdir(fields["cwd"])
            os.environ.clear()
            os.environ.update(fields["env"])  # type: ignore[arg-type]
            code = self._act(fields["argv"])
        except OSError as error:
            os.write(2, f"{error}\n".encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _memory(content: bytes = b"") -> int:
    descriptor = os.memfd_create("stream")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _content(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(BYTES)
