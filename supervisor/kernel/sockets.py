"""Unix sockets below folders of any depth, and those that a small process can do with (man 7 unix).

The kernel takes only 107 bytes of a path. And the standard library's `socket` looks each number up in an
enumeration, which costs a forked process fifty pages for each socket that it makes: `Socket` is the
class that it is made of, with plain numbers.
"""

from __future__ import annotations

import _socket
import os
import select
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MAX_PATH = 107

Socket = _socket.socket
SHUT_RD: int = _socket.SHUT_RD

_RECEIVE_SIZE = 64 << 10
_MOST_DESCRIPTORS = 64
_INT = 4  # bytes


@contextmanager
def within_limit(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path for the socket at `path` that bind and connect take, valid inside the context.

    Too long a one is named through a descriptor of its folder. Raises OSError when that is missing.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        yield os.fspath(path)
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def pair() -> tuple[Socket, Socket]:
    """Two connected stream sockets."""
    return _socket.socketpair()


def packet_pair() -> tuple[Socket, Socket]:
    """Two connected sockets that keep messages apart."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def is_ready(channel: Socket, seconds: float) -> bool:
    """Wait until something can be read, an end among it; False when the time ran out first."""
    poller = select.poll()
    poller.register(channel.fileno(), select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def accepted(listener: Socket) -> Socket:
    """The next connection of a listening socket; raises BlockingIOError when there is none."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.accept calls
    return Socket(fileno=descriptor)


def connected(path: str) -> Socket:
    """A stream connection to the socket at `path`, made at once or not; raises OSError."""
    connection = Socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        if len(os.fsencode(path)) <= MAX_PATH:
            connection.connect(path)
        else:
            with within_limit(path) as short:
                connection.connect(short)
    except OSError:
        connection.close()
        raise
    return connection


def is_listened_at(path: str) -> bool:
    """Whether somebody listens at the socket `path`, also one who has more callers than he has accepted."""
    try:
        connected(path).close()
    except BlockingIOError:
        return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    return True


def send(channel: Socket, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
    """Send bytes with descriptors; answers how many of the bytes were sent."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", descriptors))
    return channel.sendmsg([data], [rights] if descriptors else [])


def received(channel: Socket) -> tuple[bytes, list[int]]:
    """Bytes, none at the end, with the descriptors that came along."""
    room = _socket.CMSG_SPACE(_MOST_DESCRIPTORS * _INT)
    data, rights, _flags, _ = channel.recvmsg(_RECEIVE_SIZE, room, _socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for _level, _kind, sent in rights:
        descriptors += memoryview(sent[: len(sent) // _INT * _INT]).cast("i")
    return data, descriptors
