"""`start`: become the shim of a container, or find the one that serves its group (containerd: pkg/shim).

The caller reads stdout and stderr together until their end, and takes all of it for the answer. So
the parent prints the address and nothing else, and the forked child lets go of both before it
serves. Forking saves a second start of the interpreter; this process has one thread only. A child
of the launcher is forked already: it has its answer passed on, and serves itself.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from supervisor.errors import SupervisorError
from supervisor.kernel.sockets import within_limit
from supervisor.shimv2.bootstrap import (
    UNIX,
    BootstrapParams,
    ShimAddress,
    encode_answer,
    parse_params,
    socket_path,
)
from supervisor.shimv2.runc.bundle import ADDRESS_FILE, read_spec, write_private
from supervisor.shimv2.runc.flags import Flags

# Where every containerd has its shims' sockets; our own daemon names another place.
DEFAULT_SOCKET_DIR = "/run/containerd/s"
TASK_API_VERSION = 3

_ALIVE_SECONDS = 0.1
_BACKLOG = 128
_MOST_OOM_SCORE = 1000


def start(flags: Flags, answered: Callable[[], None] | None = None) -> None:
    """Serve the container whose bundle is the current folder; prints where.

    With `answered`, this process becomes the server, after it has called that; else a child of it does.
    """
    if not flags.namespace:
        raise SupervisorError("shim namespace cannot be empty")
    stdin = sys.stdin.buffer.read() if not sys.stdin.isatty() else b""
    params = parse_params(stdin, flags.namespace, flags.id) if stdin else None
    group = read_spec(".").group or flags.id
    socket_dir = (params and params.socket_dir) or DEFAULT_SOCKET_DIR
    _join_cgroup(stdin, params)
    path = socket_path(socket_dir, flags.address, flags.namespace, group)
    listener = _listen(path)
    write_private(ADDRESS_FILE, f"{UNIX}{path}".encode())
    answer = _answer(path, params)
    if listener is None:
        _say(answer)
        return
    events = (params and params.ttrpc_address) or os.environ.get("TTRPC_ADDRESS", "")
    if answered is None:
        # The parent returns at once, because the socket listens already.
        if os.fork():
            listener.close()
            _say(answer)
            return
        os.setsid()
    else:
        _say(answer)
        _hand_over(path, answered)
    _become_server(flags, path, events, listener)


def _say(answer: bytes) -> None:
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def _hand_over(path: str, answered: Callable[[], None]) -> None:
    """A daemon that is gone cannot take the answer: then nobody would ever know of the server."""
    try:
        answered()
    except OSError:
        os.unlink(path)
        os.unlink(ADDRESS_FILE)
        raise


def _join_cgroup(stdin: bytes, params: BootstrapParams | None) -> None:
    """Move into the cgroup that the runtime options on stdin name, in either form; the server inherits it."""
    if not stdin:
        return
    from supervisor.shimv2.runc.messages import options_in, options_of

    if params is None:
        chosen = options_in(stdin)
    elif params.options is None:
        return
    else:
        chosen = options_of(params.options.type_url, params.options.value)
    if chosen.shim_cgroup:
        from supervisor.shimv2.runc.placement import join_cgroup

        join_cgroup(chosen.shim_cgroup)


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
            if _answers(path):
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


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ALIVE_SECONDS)
        try:
            with within_limit(path) as short:
                probe.connect(short)
        except OSError:
            return False
        return True


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


def _become_server(flags: Flags, path: str, events: str, listener: socket.socket) -> NoReturn:
    status = 1
    try:
        _detach(listener.fileno(), debug=flags.debug)
        _raise_oom_score()
        # Imported here, so that a caller has its answer while the server gets ready.
        from supervisor.shimv2.runc.server import Identity, serve

        serve(Identity(flags.namespace, path, events), listener)
        status = 0
    # The last stop of a process: there is nobody above to tell.
    except BaseException:
        logging.exception("the shim ends because of an error of its own")
    finally:
        os._exit(status)


def _detach(kept: int, *, debug: bool) -> None:
    """Leave the caller's streams and whatever else was inherited; log into the bundle's fifo."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1):
        os.dup2(null, number)
    os.dup2(_log_descriptor(null), 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):
                os.close(int(name))
    logging.raiseExceptions = False
    logging.basicConfig()
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)


def _log_descriptor(otherwise: int) -> int:
    """The fifo that the daemon reads logs from, opened so that neither its absence nor its slowness stops us.

    Open for reading too, so that what is logged while the daemon is away waits for the next one.
    """
    try:
        return os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return otherwise


def _raise_oom_score() -> None:
    """One more than the daemon's, so that the kernel takes a shim before the daemon."""
    descriptor = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        value = min(int(os.read(descriptor, 16)) + 1, _MOST_OOM_SCORE)
        os.pwrite(descriptor, b"%d" % value, 0)
    finally:
        os.close(descriptor)
