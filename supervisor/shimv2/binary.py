"""Running a shim's binary: `start`, `delete`, `-info` (containerd: core/runtime/v2/binary.go).

Contract 2.2, 2.6, 2.7. Each is a short-lived process in a session of its own, so that no signal to
the daemon's group reaches the shim that it leaves behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from supervisor.api.runtime.task.v3.shim_pb2 import DeleteResponse
from supervisor.blocking import in_thread
from supervisor.errors import SupervisorError
from supervisor.kernel.process import exit_code
from supervisor.model.any import Any
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.task import Exit
from supervisor.shimv2.bootstrap import LOG_LEVELS, BootstrapParams, ShimAddress, encode_params, parse_answer
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.launcher import Launcher
from supervisor.shimv2.naming import is_own, own_binary
from supervisor.shimv2.settings import ShimSettings

INFO_TIMEOUT = 10.0  # seconds

CLEANUP_ATTEMPTS = 3
"""A clean-up that is killed, for want of memory perhaps, has to be done all the same."""
KILLED = 128
"""Codes above it are of processes that a signal has ended."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Finished:
    code: int
    stdout: bytes
    stderr: bytes

    def told(self) -> str:
        """What it printed and how it ended, on one line."""
        text = (self.stdout + self.stderr).decode(errors="replace").strip()
        return f"{text}: exit status {self.code}"


class ShimBinaries:
    """Runs shim binaries on behalf of tasks; remembers which form of stdin each takes."""

    def __init__(self, settings: ShimSettings) -> None:
        self._settings = settings
        self._takes_params: dict[Path, bool] = {}
        self._launcher: Launcher | None = None

    async def __aenter__(self) -> ShimBinaries:
        """Start the launcher of our own shim, which costs memory once and saves time for each task."""
        own = own_binary()
        if own is not None:
            self._launcher = await Launcher(own).__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._launcher is not None:
            await self._launcher.__aexit__(*error)

    async def start(self, binary: Path, bundle: Bundle, options: Any | None) -> ShimAddress:
        """Have a shim started, or one found that serves the container's group; answers where it listens."""
        if await self._knows_params(binary):
            stdin = encode_params(self._params(bundle, options))
        else:
            stdin = _encode_any(options)
        finished = await self._run(binary, bundle, (*self._debug(), "start"), stdin)
        if finished.code:
            raise SupervisorError(f"{binary} start failed: {finished.told()}")
        if finished.stderr:
            log.warning("%s start: %s", binary, finished.stderr.decode(errors="replace").strip())
        return parse_answer(finished.stdout)

    async def delete(self, binary: Path, bundle: Bundle) -> Exit:
        """Clean up after a shim that is gone: runtime state, processes, mounts. Idempotent.

        Answers how the task ended, as far as that can be known. Raises SupervisorError.
        """
        cwd = bundle.path if bundle.path.is_dir() else self._settings.bundles
        arguments = ("-bundle", str(bundle.path), *self._debug(), "delete")
        try:
            async with asyncio.timeout(self._settings.timeouts.shim_cleanup):
                for _ in range(CLEANUP_ATTEMPTS):
                    finished = await self._run(binary, bundle, arguments, b"", cwd)
                    if finished.code <= KILLED:
                        break
        except TimeoutError:
            raise SupervisorError(f"{binary} delete of {bundle.id} took too long and was killed") from None
        if finished.code:
            raise SupervisorError(f"{binary} delete failed: {finished.told()}")
        return _parse_deleted(finished.stdout)

    async def _knows_params(self, binary: Path) -> bool:
        """Whether the binary is of a generation that reads parameters; others read options (2.6)."""
        if is_own(binary):
            return True
        if binary not in self._takes_params:
            async with asyncio.timeout(INFO_TIMEOUT):
                finished = await _run((str(binary), "-info"), self._settings.state, dict(os.environ), b"")
            self._takes_params[binary] = finished.code == 0
        return self._takes_params[binary]

    def _params(self, bundle: Bundle, options: Any | None) -> BootstrapParams:
        return BootstrapParams(
            instance_id=bundle.id,
            namespace=bundle.namespace,
            log_level=LOG_LEVELS.get(self._settings.log_level, 0),
            daemon_version=self._settings.version,
            ttrpc_address=self._settings.ttrpc_address,
            grpc_address=self._settings.grpc_address,
            daemon_binary=self._settings.daemon_binary,
            options=options,
            socket_dir=str(self._settings.socket_dir),
        )

    def _debug(self) -> tuple[str, ...]:
        return ("-debug",) if LOG_LEVELS.get(self._settings.log_level, 0) < 0 else ()

    async def _run(
        self, binary: Path, bundle: Bundle, action: tuple[str, ...], stdin: bytes, cwd: Path | None = None
    ) -> _Finished:
        argv = (
            str(binary),
            *("-namespace", bundle.namespace),
            *("-address", self._settings.grpc_address),
            *("-publish-binary", self._settings.daemon_binary),
            *("-id", bundle.id),
            *action,
        )
        environment = self._environment(bundle)
        if self._launcher is not None and is_own(binary):
            launched = await self._launcher.run(argv, cwd or bundle.path, environment, stdin)
            if launched is not None:
                return _Finished(launched.code, launched.stdout, launched.stderr)
        return await _run(argv, cwd or bundle.path, environment, stdin)

    def _environment(self, bundle: Bundle) -> dict[str, str]:
        # The notification socket is the daemon's own: a shim that wrote to it would speak for the daemon.
        kept = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        return kept | {
            "GOMAXPROCS": "2",
            "MAX_SHIM_VERSION": "2",
            "TTRPC_ADDRESS": self._settings.ttrpc_address,
            "GRPC_ADDRESS": self._settings.grpc_address,
            "NAMESPACE": bundle.namespace,
        }


async def _run(argv: tuple[str, ...], cwd: Path, environment: dict[str, str], stdin: bytes) -> _Finished:
    """Run a program to its end; a caller that is cancelled kills it, with what it started.

    Not by asyncio: uvloop leaves a child the other ends of its pipes, and a shim that `start` leaves
    behind would hold them open for ever.
    """
    try:
        process = subprocess.Popen(  # noqa: ASYNC220  # takes a millisecond
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SupervisorError(f"run {argv[0]}: {error.strerror}") from error
    try:
        stdout, stderr = await in_thread(process.communicate, stdin or None)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await in_thread(process.wait)
        raise
    return _Finished(exit_code(process.returncode), stdout, stderr)


def _encode_any(options: Any | None) -> bytes:
    if options is None:
        return b""
    return AnyMessage(type_url=options.type_url, value=options.value).SerializeToString()


def _parse_deleted(stdout: bytes) -> Exit:
    try:
        answer = DeleteResponse.FromString(stdout)
    except DecodeError as error:
        raise SupervisorError(f"the shim's delete printed no DeleteResponse: {error}") from error
    moment = Nanoseconds(answer.exited_at.seconds * SECOND + answer.exited_at.nanos)
    return Exit(answer.pid, answer.exit_status, moment)
