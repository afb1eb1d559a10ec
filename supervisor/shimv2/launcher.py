"""The daemon's end of the launcher: runs our own shim's actions in forks of a warm process.

See `runc/launcher.py`. Losing the launcher costs speed only: `run` then answers None, and the caller
starts the binary instead, until another launcher is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_MESSAGE = 128 << 10
BYTES = "latin-1"
ORDER = struct.Struct("<cI")
RESULT = struct.Struct("<Ii")
START, RUN, KILL = b"s", b"r", b"k"

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds until a launcher that ended is replaced
STEADY_SECONDS = 10.0
"""A launcher that lived for so long was a good one."""
END_SECONDS = 5.0

# An allocation arena for each thread would cost every shim more memory than it saves time.
MALLOC = {"MALLOC_ARENA_MAX": "1"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launched:
    """How an action ended, and what it printed."""

    code: int
    stdout: bytes
    stderr: bytes


class Launcher:
    """Keeps one launcher process running, while inside its `async with`."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Launched | None]] = {}
        self._sending = asyncio.Lock()
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._closing = asyncio.Event()
        self._group = asyncio.TaskGroup()

    @property
    def pid(self) -> int | None:
        """The launcher that is there now."""
        return None if self._channel is None or self._process is None else self._process.pid

    async def __aenter__(self) -> Launcher:
        await self._group.__aenter__()
        await self._start()
        self._group.create_task(self._keep())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing.set()
        if self._channel is not None:
            self._channel.shutdown(socket.SHUT_RDWR)
        await self._group.__aexit__(None, None, None)

    async def run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: bytes
    ) -> Launched | None:
        """Have an action run, the last of `argv`; None when no launcher is there, or it ended too early.

        An action whose caller is cancelled is killed, with what it started.
        """
        self._numbers += 1
        number = self._numbers
        order = {"argv": list(argv[1:]), "env": dict(env), "stdin": stdin.decode(BYTES)}
        title = " ".join((Path(argv[0]).name, *argv[1:]))
        head = f"{title}\0{cwd}\0"
        kind = START if argv[-1] == "start" else RUN
        waiting: asyncio.Future[Launched | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        if not await self._send(ORDER.pack(kind, number) + head.encode() + json.dumps(order).encode()):
            del self._waiting[number]
            return None
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if await self._send(ORDER.pack(KILL, number)):
                await waiting
            raise

    async def _send(self, message: bytes) -> bool:
        """Whether a launcher, should it live, will take the order."""
        if self._channel is None or len(message) > MAX_MESSAGE:
            return False
        try:
            async with self._sending:
                await asyncio.get_running_loop().sock_sendall(self._channel, message)
        except OSError:
            return False
        return True

    async def _keep(self) -> None:
        """Read results, and replace a launcher that has ended; one that keeps ending less and less often."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while self._channel is not None or not self._closing.is_set():
            started = loop.time()
            if self._channel is not None:
                await self._read(self._channel)
                await self._ended()
            if loop.time() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause)
                return
            pause = min(pause * 2, LONGEST_PAUSE)
            await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    str(self._binary),
                    "launch",
                    stdin=theirs.fileno(),
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                log.warning("no launcher, shims start slower: run %s: %s", self._binary, error)
                ours.close()
                return
        self._channel = ours
        if self._closing.is_set():  # nobody will close a launcher that came after the end
            ours.shutdown(socket.SHUT_RDWR)

    async def _read(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while message := await loop.sock_recv(channel, MAX_MESSAGE * 8):
                self._resolve(message)
        self._channel = None
        channel.close()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(None)

    async def _ended(self) -> None:
        assert self._process is not None
        try:
            status = await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        if not self._closing.is_set():
            log.warning("the launcher ended with %d, shims start slower until the next is there", status)

    def _resolve(self, message: bytes) -> None:
        # Each child is told of at its end as well; most, and all shims, have answered long before.
        number, code = RESULT.unpack_from(message)
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting.done():
            told = json.loads(message[RESULT.size :] or b'{"stdout": "", "stderr": ""}')
            waiting.set_result(Launched(code, told["stdout"].encode(BYTES), told["stderr"].encode(BYTES)))


def _environment() -> dict[str, str]:
    # The notification socket is the daemon's own: a shim that wrote to it would speak for the daemon.
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"} | MALLOC
