"""`launch`: the shim's actions without the start of an interpreter (no counterpart in containerd).

The daemon starts one launcher. It loads the shim's modules once, freezes what the collector sees,
so that its children share those pages, and then forks a child for each order. It has one thread, which
is what makes forking safe; the daemon itself, with its threads, never forks.

The child of a `start` becomes the shim, and so does next to nothing itself: what it touches, each shim
has for itself as long as it lives. A child of its own reads the order, does what `start` does, and
hands it the listening socket. Both are forked ahead: one such shim is kept ready, so that a start waits
for no fork. For the same reason an order's beginning is fixed, and not JSON:

    kind, number of the order, title \\0 folder \\0 {"argv", "env", "stdin"}

The result goes on the same SOCK_SEQPACKET socket, which the launcher gets as its stdin: number, exit
code, {"stdout", "stderr"}, told by whoever did the action. The launcher tells of each child's end too,
for those that came to no result. When the socket ends it ends; shims live on, as children of init.
Without a launcher the binary does the same.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

from supervisor.errors import SupervisorError
from supervisor.kernel.process import exit_code, own_pages, title_place, write_title
from supervisor.kernel.sockets import Socket, is_ready, packet_pair
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.flags import parse
from supervisor.shimv2.runc.loop import default_signals, note_signals
from supervisor.shimv2.runc.packing import fill_holes, pack_code_of
from supervisor.shimv2.runc.rehearsal import rehearse
from supervisor.shimv2.runc.server import Shim
from supervisor.shimv2.runc.start import Prepared, detach, enter, prepare

ORDER = struct.Struct("<cI")
RESULT = struct.Struct("<Ii")
START, RUN, KILL = b"s", b"r", b"k"
NOBODY = 0
"""In place of an order's number: nobody has ordered it yet. The daemon counts from 1."""

MAX_MESSAGE = 1 << 20
SETTLED_MILLISECONDS = 150
"""Without an order for so long, the next shim is forked ahead. A short container is over by then: to make
the next shim costs more than it saves when it takes a processor from the runtime."""
MAX_TOLD = 32 << 10
"""Bytes of each stream that a result holds: a message has to fit into the socket's buffer."""

# Bytes travel in JSON as the characters of the same numbers.
BYTES = "latin-1"

Act = Callable[[Sequence[str]], int]


def launch(act: Act) -> None:
    """Take orders until the daemon is gone; `act` does what the binary does with a command line."""
    channel = socket.socket(fileno=os.dup(0))
    _replace_stdin()
    _keep_environment()
    load()
    pack_code_of(rehearse)
    rehearse()
    fill_holes()
    launcher = _Launcher(channel, act, Shim())
    fill_holes()
    gc.freeze()
    launcher.run()


def load() -> None:
    """Load what any action may need, so that no child has to."""
    from supervisor.shimv2.runc import (
        checkpoint,
        console,
        delete,
        logger,
        logio,
        metrics_v1,
        metrics_v2,
        placement,
        stray,
        terminal,
    )

    del checkpoint, console, delete, logger, logio, metrics_v1, metrics_v2, placement, stray, terminal


def _replace_stdin() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def _keep_environment() -> None:
    """Copy the environment to where a new title does not overwrite it."""
    for name, value in os.environ.items():
        os.environ[name] = value


class _Spare:
    """A shim that waits for its order, and the launcher's end of the socket on which that comes."""

    def __init__(self, pid: int, orders: Socket) -> None:
        self.pid = pid
        self._orders = orders

    def become(self, order: bytes) -> bool:
        """Whether it is there to take the order."""
        try:
            self._orders.send(order)
        except OSError:
            return False
        finally:
            self._orders.close()
        return True


class _Launcher:
    def __init__(self, channel: socket.socket, act: Act, shim: Shim) -> None:
        self._shim = shim
        self._channel = channel
        self._act = act
        self._title_place = title_place()
        self._children: dict[int, int] = {}
        self._spare: _Spare | None = None
        self._wants_spare = True
        self._noted, self._noting = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poller = select.poll()
        self._poller.register(self._noted, select.POLLIN)
        self._poller.register(channel, select.POLLIN)

    def run(self) -> None:
        """Serve until the daemon is gone."""
        signal.set_wakeup_fd(self._noting, warn_on_full_buffer=False)
        note_signals(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
        orders = self._channel.fileno()
        with suppress(ConnectionError):
            while True:
                came = self._poller.poll(SETTLED_MILLISECONDS if self._wants_spare else None)
                if not came:
                    self._spare, self._wants_spare = self._make_spare(), False
                for ready, _ in came:
                    if not (self._take() if ready == orders else self._noted_signals()):
                        return

    def _take(self) -> bool:
        message = self._channel.recv(MAX_MESSAGE)
        if not message or self._is_abandoned():
            return False
        kind, number = ORDER.unpack_from(message)
        if kind == KILL:
            self._kill(number)
        elif kind == START:
            self._start(number, message)
        else:
            self._fork(number, partial(self._become_action, number, message[ORDER.size :]))
        return True

    def _start(self, number: int, order: bytes) -> None:
        """Give an order to the shim that waits for one, or to a new one."""
        spare, self._spare = self._spare, None
        while spare is None or not spare.become(order):
            spare = self._make_spare()
        self._children[spare.pid] = number
        self._wants_spare = True

    def _make_spare(self) -> _Spare:
        ours, theirs = packet_pair()
        pid = self._fork(NOBODY, partial(self._become_shim, theirs))
        theirs.close()
        return _Spare(pid, ours)

    def _fork(self, number: int, become: Callable[[], int]) -> int:
        """Have a child `become` something on behalf of an order, and end with the code that it answers."""
        pid = os.fork()
        if not pid:
            _end_with(become)
        self._children[pid] = number
        return pid

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

    def _noted_signals(self) -> bool:
        numbers = os.read(self._noted, MAX_TOLD)
        if signal.SIGCHLD in numbers:
            self._collect()
        return signal.SIGTERM not in numbers and signal.SIGINT not in numbers

    def _collect(self) -> None:
        """Reap the children that have ended, shims among them, and tell of each."""
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if (number := self._children.pop(pid)) != NOBODY:
                self._channel.send(RESULT.pack(number, exit_code(os.waitstatus_to_exitcode(status))))

    def _become_action(self, number: int, order: bytes) -> int:
        """In a child: stand where the binary would have been started, and act."""
        os.setsid()
        default_signals()
        try:
            title, folder, rest = order.split(b"\0", 2)
            write_title(self._title_place, title)
            os.chdir(folder)
            return self._run(number, rest)
        except OSError as error:
            self._tell(number, 1, b"", f"{error}\n".encode())
            return 1

    def _run(self, number: int, order: bytes) -> int:
        """An action that ends."""
        with _streams(json.loads(order)) as (argv, stdout, stderr):
            code = self._act(argv)
            sys.stdout.flush()
            sys.stderr.flush()
            self._tell(number, code, _content(stdout), _content(stderr))
        return code

    def _become_shim(self, orders: Socket) -> int:
        """In a child: have one of its own wait for the order and prepare to serve, and then serve."""
        os.setsid()
        kept = (self._channel.fileno(), orders.fileno())
        detach(*kept)
        shim = self._shim
        shim.begin()
        preparing = shim.forks.start(partial(self._prepare, orders), kept, stays=True)
        self._channel.close()
        orders.close()
        preparing.answered.then(shim.take_over)
        shim.loop.run()
        return 0

    def _prepare(self, orders: Socket) -> tuple[Any, Sequence[int]]:
        """In a child of the shim: wait for the order, do what `start` does, and answer the daemon."""
        if not is_ready(orders, 0):
            own_pages()
        message = orders.recv(MAX_MESSAGE)
        if not message:
            return None, ()  # the launcher is gone
        _, number = ORDER.unpack_from(message)
        try:
            prepared, debugging = self._prepared(message[ORDER.size :])
        except (SupervisorError, OSError) as error:
            self._tell(number, 1, b"", f"containerd-shim-oci-v2: {error}\n".encode())
            return None, ()
        try:
            self._tell(number, 0, prepared.answer, b"")
        except OSError:
            # A daemon that is gone cannot take the answer: nobody would ever know of the server.
            prepared.undo()
            raise
        if prepared.listener is None:
            return None, ()
        identity = (prepared.namespace, prepared.socket_path, prepared.inode, prepared.events_address)
        bundle = os.open(".", os.O_PATH | os.O_CLOEXEC)
        handed = (prepared.listener.detach(), bundle, log.STDERR)
        return (identity, debugging, handed), handed

    def _prepared(self, order: bytes) -> tuple[Prepared, bool]:
        """Stand where the binary would be started, and do what `start` does; also whether to debug."""
        title, folder, rest = order.split(b"\0", 2)
        for process in ("self", str(os.getppid())):
            write_title(self._title_place, title, process)
        enter(folder)
        with _streams(json.loads(rest)) as (argv, _, _):
            flags = parse(argv)
            log.set_debugging(flags.debug)
            return prepare(flags, os.getppid()), flags.debug

    def _tell(self, number: int, code: int, stdout: bytes, stderr: bytes) -> None:
        told = {"stdout": stdout.decode(BYTES), "stderr": stderr.decode(BYTES)}
        self._channel.send(RESULT.pack(number, code) + json.dumps(told).encode())


def _end_with(become: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        code = become()
    # The last stop of a process: there is nobody above to tell.
    except BaseException:
        log.exception("an action failed because of an error of its own")
    finally:
        os._exit(code)


@contextmanager
def _streams(order: Mapping[str, Any]) -> Iterator[tuple[Sequence[str], int, int]]:
    """Stand in an order's environment, with files in memory as the standard streams."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(order["env"])
    stdin, stdout, stderr = _memory(order["stdin"].encode(BYTES)), _memory(), _memory()
    kept = [os.dup(number) for number in range(3)]
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
    try:
        yield order["argv"], stdout, stderr
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
        os.environ.clear()
        os.environ.update(before)


def _memory(content: bytes = b"") -> int:
    descriptor = os.memfd_create("stream")
    if content:
        os.pwrite(descriptor, content, 0)
    return descriptor


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, MAX_TOLD, 0)
