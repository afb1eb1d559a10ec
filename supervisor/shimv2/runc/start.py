"""`start`: become the shim of a container, or find the one that serves its group (containerd: pkg/shim).

The caller reads stdout and stderr together until their end, and takes all of it for the answer. So
the parent prints the address and nothing else, and the forked child lets go of both before it
serves. Forking saves a second start of the interpreter; this process has one thread only. Of the
launcher's children one prepares and answers, and another serves (`launcher`).
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from supervisor.errors import SupervisorError
from supervisor.kernel.process import set_child_subreaper
from supervisor.kernel.sockets import is_listened_at, within_limit
from supervisor.shimv2.bootstrap import (
    UNIX,
    BootstrapParams,
    ShimAddress,
    encode_answer,
    parse_params,
    socket_path,
)
from supervisor.shimv2.runc import log
from supervisor.shimv2.runc.bundle import ADDRESS_FILE, read_spec, write_private
from supervisor.shimv2.runc.flags import Flags
from supervisor.shimv2.runc.forks import close_all_but
from supervisor.ttrpc.protobuf import ANY

# Where every containerd has its shims' sockets; our own daemon names another place.
DEFAULT_SOCKET_DIR = "/run/containerd/s"
TASK_API_VERSION = 3

_BACKLOG = 128
_MOST_OOM_SCORE = 1000


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a start comes to. Without a listener another shim serves the group already."""

    answer: bytes
    namespace: str
    socket_path: str
    inode: int
    events_address: str
    listener: socket.socket | None

    def undo(self) -> None:
        """Let nobody find a server that there will not be."""
        if self.listener is not None:
            os.unlink(self.socket_path)
            os.unlink(ADDRESS_FILE)


def start(flags: Flags) -> None:
    """Serve the container whose bundle is the current folder, in a child; prints where."""
    prepared = prepare(flags, os.getpid())
    # The parent returns at once, because the socket listens already.
    if prepared.listener is None or os.fork():
        sys.stdout.buffer.write(prepared.answer)
        sys.stdout.buffer.flush()
        return
    _become_server(prepared, prepared.listener, debug=flags.debug)


def prepare(flags: Flags, server: int) -> Prepared:
    """Find or make the socket; the process `server`, or what it forks, is to serve there.

    Raises SupervisorError, OSError.
    """
    if not flags.namespace:
        raise SupervisorError("shim namespace cannot be empty")
    stdin = sys.stdin.buffer.read() if not sys.stdin.isatty() else b""
    params = parse_params(stdin, flags.namespace, flags.id) if stdin else None
    group = read_spec(".").group or flags.id
    socket_dir = (params and params.socket_dir) or DEFAULT_SOCKET_DIR
    _join_cgroup(stdin, params, server)
    path = socket_path(socket_dir, flags.address, flags.namespace, group)
    listener = _listen(path)
    write_private(ADDRESS_FILE, f"{UNIX}{path}".encode())
    events = (params and params.ttrpc_address) or os.environ.get("TTRPC_ADDRESS", "")
    inode = os.stat(path).st_ino
    return Prepared(_answer(path, params), flags.namespace, path, inode, events, listener)


def _join_cgroup(stdin: bytes, params: BootstrapParams | None, server: int) -> None:
    """Move the server into the cgroup that the runtime options on stdin name, in either form."""
    if not stdin:
        return
    from supervisor.shimv2.runc.messages import options_in

    if params is None:
        chosen = options_in(stdin)
    elif params.options is None:
        return
    else:
        chosen = options_in(ANY.encode(type_url=params.options.type_url, value=params.options.value))
    if chosen.shim_cgroup:
        from supervisor.shimv2.runc.placement import join_cgroup

        join_cgroup(chosen.shim_cgroup, server)


def _answer(path: str, params: BootstrapParams | None) -> bytes:
    """In the form that the caller's generation reads."""
    address = f"{UNIX}{path}"
    return encode_answer(ShimAddress(TASK_API_VERSION, address)) if params else address.encode()


def _listen(path: str) -> socket.socket | None:
    """The listening socket at `path`; None when another shim serves there already."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with _locked(folder):
        if os.path.exists(path):
            if is_listened_at(path):
                return None
            os.unlink(path)
        return _bound(path)


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Two starts of one group must not both find the socket stale."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _bound(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        with within_limit(path) as short:
            listener.bind(short)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _become_server(prepared: Prepared, listener: socket.socket, *, debug: bool) -> NoReturn:
    status = 1
    try:
        os.setsid()
        detach(listener.fileno())
        enter(".")
        log.set_debugging(debug)
        # Imported here, so that a caller has its answer while the server gets ready.
        from supervisor.shimv2.runc.server import Identity, Shim

        faulthandler.register(signal.SIGUSR1)
        shim = Shim()
        shim.begin()
        identity = (prepared.namespace, prepared.socket_path, prepared.inode, prepared.events_address)
        shim.serve(Identity(*identity), listener)
        shim.loop.run()
        status = 0
    # The last stop of a process: there is nobody above to tell.
    except BaseException:
        log.exception("the shim ends because of an error of its own")
    finally:
        os._exit(status)


def detach(*kept: int) -> None:
    """Leave the caller's streams and whatever else was inherited.

    And be the one whom orphans of this process's children go to (containerd: pkg/shim, `setupSignals`).
    """
    set_child_subreaper()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    close_all_but(kept)
    raise_oom_score()


def enter(bundle: str | bytes) -> None:
    """Stand in the bundle, and log into the fifo that the daemon reads; its absence or slowness stops nobody.

    It is opened for reading too, so that what is logged while the daemon is away waits for the next one.
    """
    os.chdir(bundle)
    with suppress(OSError):
        descriptor = os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(descriptor, log.STDERR)
        os.close(descriptor)


def raise_oom_score(step: int = 1) -> None:
    """One more than the daemon's, so that the kernel takes a shim before the daemon."""
    descriptor = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        value = min(int(os.read(descriptor, 16)) + step, _MOST_OOM_SCORE)
        os.pwrite(descriptor, b"%d" % value, 0)
    finally:
        os.close(descriptor)
