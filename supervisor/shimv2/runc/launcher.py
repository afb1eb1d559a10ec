"""`launch`: the shim's actions without the start of an interpreter (no counterpart in containerd).

The daemon starts one launcher. It loads the shim's modules once, freezes what the collector sees,
so that its children share those pages, and then forks a child for each order. It has one thread, which
is what makes forking safe; the daemon itself, with its threads, never forks.

The child of a `start` becomes the shim, and so does next to nothing itself: what it touches, each shim
has for itself as long as it lives. A child of its own reads the order, does what `start` does, and
hands it the listening socket. For the same reason an order's beginning is fixed, and not JSON:

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
from supervisor.kernel.process import title_place, write_title
from supervisor.kernel.sockets import Socket
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.flags import parse
from supervisor.shimv2.runc.forks import Fork
from supervisor.shimv2.runc.loop import default_signals, note_signals
from supervisor.shimv2.runc.packing import fill_holes, pack_code_of
from supervisor.shimv2.runc.rehearsal import rehearse
from supervisor.shimv2.runc.server import Identity, Shim
from supervisor.shimv2.runc.start import detach, prepare

ORDER = struct.Struct("<cI")
RESULT = struct.Struct("<Ii")
START, RUN, KILL = b"s", b"r", b"k"

MAX_MESSAGE = 1 << 20
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


class _Launcher:
    def __init__(self, channel: socket.socket, act: Act, shim: Shim) -> None:
        self._shim = shim
        self._channel = channel
        self._act = act
        self._title_place = title_place()
        self._children: dict[int, int] = {}
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
                for ready, _ in self._poller.poll():
                    if not (self._take() if ready == orders else self._noted_signals()):
                        return

    def _take(self) -> bool:
        message = self._channel.recv(MAX_MESSAGE)
        if not message or self._is_abandoned():
            return False
        kind, number = ORDER.unpack_from(message)
        if kind == KILL:
            self._kill(number)
            return True
        pid = os.fork()
        if not pid:
            self._become(kind, number, message[ORDER.size :])
        self._children[pid] = number
        return True

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
            code = os.waitstatus_to_exitcode(status)
            self._channel.send(RESULT.pack(self._children.pop(pid), code if code >= 0 else 128 - code))

    def _become(self, kind: bytes, number: int, order: bytes) -> NoReturn:
        """In the child: stand where the binary would have been started, act, and end."""
        code = 1
        try:
            os.setsid()
            title, folder, rest = order.split(b"\0", 2)
            write_title(self._title_place, title)
            os.chdir(folder)
            if kind != START:
                default_signals()
            code = (self._become_shim if kind == START else self._run)(number, rest)
        except OSError as error:
            self._tell(number, code, b"", f"{error}\n".encode())
        # The last stop of a process: there is nobody above to tell.
        except BaseException:
            log.exception("an action failed because of an error of its own")
        finally:
            os._exit(code)

    def _run(self, number: int, order: bytes) -> int:
        """An action that ends."""
        with _streams(json.loads(order)) as (argv, stdout, stderr):
            code = self._act(argv)
            sys.stdout.flush()
            sys.stderr.flush()
            self._tell(number, code, _content(stdout), _content(stderr))
        return code

    def _become_shim(self, number: int, order: bytes) -> int:
        """Serve, once a child has prepared that."""
        detach(self._channel.fileno())
        shim = self._shim
        shim.begin()
        preparing = shim.forks.start(partial(self._prepare, number, order), (self._channel.fileno(),))
        self._channel.close()
        preparing.answered.then(lambda _: _serve(shim, preparing))
        shim.loop.run()
        return 0

    def _prepare(self, number: int, order: bytes) -> tuple[Any, Sequence[int]]:
        """In a child of the shim: do what `start` does, and answer the daemon."""
        with _streams(json.loads(order)) as (argv, _, _):
            try:
                flags = parse(argv)
                prepared = prepare(flags, os.getppid())
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
        listener = prepared.listener.detach()
        return (identity, listener, flags.debug), (listener,)

    def _tell(self, number: int, code: int, stdout: bytes, stderr: bytes) -> None:
        told = {"stdout": stdout.decode(BYTES), "stderr": stderr.decode(BYTES)}
        self._channel.send(RESULT.pack(number, code) + json.dumps(told).encode())


def _serve(shim: Shim, preparing: Fork) -> None:
    """Begin to serve at the socket that was prepared, if there is one."""
    try:
        value, handed = preparing.answered.result()
    except SupervisorError as error:
        log.error("the start of a shim failed: %s", error)
        value = None
    if value is None:
        shim.loop.stop()
        return
    identity, listener, debugging = value
    log.set_debugging(debugging)
    shim.serve(Identity(*identity), Socket(fileno=handed[listener]))


@contextmanager
def _streams(order: Mapping[str, Any]) -> Iterator[tuple[Sequence[str], int, int]]:
    """Stand in an order's environment, with files in memory as the standard streams."""
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


def _memory(content: bytes = b"") -> int:
    descriptor = os.memfd_create("stream")
    if content:
        os.pwrite(descriptor, content, 0)
    return descriptor


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, MAX_TOLD, 0)
