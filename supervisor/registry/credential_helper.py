"""Docker's credential helpers: `docker-credential-NAME get`, the server on stdin, JSON on stdout.

(Docker: docker-credential-helpers, "Development".) A helper is a stranger's program: it gets a time and
an amount of output, and whatever it started is killed with it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import signal
import subprocess
import time
from contextlib import suppress

from supervisor.errors import InvalidArgument, Unavailable

log = logging.getLogger(__name__)

TIMEOUT = 30.0
MAX_OUTPUT = 64 << 10
TOKEN_USER = "<token>"  # noqa: S105  # the name that marks an identity token
_NOT_FOUND = "credentials not found"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def get(name: str, server: str, timeout: float = TIMEOUT) -> tuple[str, str] | None:
    """User and secret that the helper `name` has for `server`; None when it has none.

    Raises InvalidArgument for a name that cannot be a helper's, Unavailable when the helper fails.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"credential helper {name[:64]!r}: a name has letters, digits, . _ and - only")
    status, output = _run(f"docker-credential-{name}", server, timeout)
    if status != 0:
        if _NOT_FOUND in output.decode(errors="replace"):
            return None
        raise Unavailable(f"credential helper {name}: it failed with status {status} for {server}")
    try:
        found = json.loads(output)
        username, secret = found["Username"], found["Secret"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _nonsense(name) from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _nonsense(name)
    return (username, secret) if secret else None


def _nonsense(name: str) -> Unavailable:
    return Unavailable(f"credential helper {name}: its answer is not JSON with a Username and a Secret")


def _run(program: str, server: str, timeout: float) -> tuple[int, bytes]:
    """Exit status and output; raises Unavailable when it is not there, too slow, or says too much."""
    try:
        process = subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"credential helper {program}: {error.strerror}; is it on PATH?") from error
    with process:
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # a helper that knows already need not read
                process.stdin.write(server.encode())
                process.stdin.close()
            return _finish(process, program, time.monotonic() + timeout)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _finish(process: subprocess.Popen[bytes], program: str, ends: float) -> tuple[int, bytes]:
    assert process.stdout is not None
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, ends - time.monotonic())):
                raise Unavailable(f"credential helper {program}: no answer in time")
            piece = os.read(process.stdout.fileno(), MAX_OUTPUT)
            output += piece
            if len(output) > MAX_OUTPUT:
                raise Unavailable(f"credential helper {program}: it says more than {MAX_OUTPUT} bytes")
            if not piece:
                break
    try:
        return process.wait(max(0.1, ends - time.monotonic())), output
    except subprocess.TimeoutExpired:
        raise Unavailable(f"credential helper {program}: no end in time") from None
