"""The daemon's end of the launcher: runs our own shim's actions in forks of a warm process.

See `runc/launcher.py`. Losing the launcher costs speed only: `run` then answers None, and the caller
starts the binary instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_MESSAGE = 128 << 10
BYTES = "latin-1"

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
    """One launcher process, while inside its `async with`."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Launched | None]] = {}
        self._sending = asyncio.Lock()
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Launcher:
        await self._group.__aenter__()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    str(self._binary),
                    "launch",
                    stdin=theirs.fileno(),
                    env=os.environ | MALLOC,
                    start_new_session=True,
                )
            except OSError as error:
                log.warning("no launcher, shims start slower: run %s: %s", self._binary, error)
                ours.close()
                return self
        self._channel = ours
        self._group.create_task(self._read(ours))
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._channel is not None:
            self._channel.shutdown(socket.SHUT_RDWR)
        await self._group.__aexit__(None, None, None)
        if self._process is not None:
            await self._process.wait()

    async def run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: bytes
    ) -> Launched | None:
        """Have an action run; None when no launcher is there, or it ended before the result was told."""
        if self._channel is None:
            return None
        self._numbers += 1
        order = {
            "number": self._numbers,
            "argv": list(argv[1:]),
            "cwd": str(cwd),
            "env": dict(env),
            "stdin": stdin.decode(BYTES),
        }
        message = json.dumps(order).encode()
        if len(message) > MAX_MESSAGE:
            return None
        waiting: asyncio.Future[Launched | None] = asyncio.get_running_loop().create_future()
        self._waiting[self._numbers] = waiting
        try:
            async with self._sending:
                await asyncio.get_running_loop().sock_sendall(self._channel, message)
        except OSError:
            self._end()
        return await waiting

    async def _read(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while message := await loop.sock_recv(channel, MAX_MESSAGE * 8):
                self._resolve(json.loads(message))
        self._end()
        channel.close()

    def _resolve(self, result: dict[str, str]) -> None:
        waiting = self._waiting.pop(int(result["number"]), None)
        if waiting is not None and not waiting.done():
            stdout, stderr = result["stdout"].encode(BYTES), result["stderr"].encode(BYTES)
            waiting.set_result(Launched(int(result["code"]), stdout, stderr))

    def _end(self) -> None:
        self._channel = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(None)
