"""One check in a process of its own: it may hang, crash or be killed, and the others go on.

A hung disk stops whoever touches it, for ever and beyond the reach of signals, so a thread or a timer
would not do. What a check has started is ended with it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from contextlib import suppress
from typing import NoReturn

from supervisor.doctor.finding import Check, Finding, Verdict, failure, note, warning

_REAPING_SECONDS = 1.0
_READ_SIZE = 64 << 10


def examine(check: Check) -> Finding | None:
    """The check's finding, or one that says how it broke; takes `check.seconds` and a little more at most."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _answer(check, writer)
    os.close(writer)
    try:
        said = _read(reader, time.monotonic() + check.seconds)
    finally:
        os.close(reader)
        _end(child)
    if said is None:
        return failure(
            f"no answer within {check.seconds:g} s: something that this looks at hangs",
            "look for a disk or a network mount that does not answer (`dmesg`, `cat /proc/*/stack`)",
        )
    if not said:
        return warning("this check ended without an answer", "please report it as a defect")
    return _read_back(json.loads(said))


def _read_back(words: list[str] | None) -> Finding | None:
    return None if words is None else Finding(Verdict(words[0]), *words[1:])


def _answer(check: Check, writer: int) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):  # libraries that print would spoil the report
            os.dup2(null, number)
        finding = looked(check)
        words = finding and [finding.verdict, finding.seen, finding.advice]
        os.write(writer, json.dumps(words).encode())
        status = 0
    # The last stop of a process: its parent tells of an end without an answer.
    finally:
        os._exit(status)


def looked(check: Check) -> Finding | None:
    """The check's finding in this process, also when it raises."""
    try:
        return check.look()
    except PermissionError as error:
        if os.geteuid() == 0:
            return _broke(error)
        what = error.filename or error.strerror or "something"
        return note(f"user {os.geteuid()} may not use {what}", "run this as root to have it checked")
    except Exception as error:  # the border to every check there is: one that breaks is a finding
        return _broke(error)


def _broke(error: Exception) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return warning(
        f"this check broke at {place}: {type(error).__name__}: {error}", "please report it as a defect"
    )


def _read(reader: int, deadline: float) -> bytes | None:
    """All that a child says until its end; None when the time ran out first."""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    pieces: list[bytes] = []
    while poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(reader, _READ_SIZE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None


def _end(child: int) -> None:
    """End a child with what it has started; one that the kernel does not let go of is left behind."""
    with suppress(OSError):  # it has done so itself, or is gone
        os.setpgid(child, child)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    deadline = time.monotonic() + _REAPING_SECONDS
    while not os.waitpid(child, os.WNOHANG)[0] and time.monotonic() < deadline:
        time.sleep(0.005)
