"""What the shim has to say: lines on its stderr, which is the log of its bundle (containerd: pkg/shim, log).

Not the standard library's logging: that loads threading, and then each fork costs a shim half as much again.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

STDERR = 2

_debugging = False


def set_debugging(wanted: bool) -> None:
    """Whether `debug` says anything."""
    global _debugging
    _debugging = wanted


def debug(text: str, *values: object) -> None:
    """Something for whoever looks for a fault."""
    if _debugging:
        _say("debug", text, values)


def info(text: str, *values: object) -> None:
    """Something in the ordinary course."""
    _say("info", text, values)


def warning(text: str, *values: object) -> None:
    """Something that is not as it should be, and can be lived with."""
    _say("warning", text, values)


def error(text: str, *values: object) -> None:
    """Something that went wrong."""
    _say("error", text, values)


def exception(text: str, *values: object) -> None:
    """Something that went wrong, with where in the code; within an `except`."""
    import traceback

    _say("error", f"{text % values if values else text}\n{traceback.format_exc()}", ())


def _say(level: str, text: str, values: tuple[object, ...]) -> None:
    line = f"{level}: {text % values if values else text}\n"
    sys.stderr.flush()
    # A log that is full or gone stops nothing.
    with suppress(OSError):
        os.write(STDERR, line.encode(errors="replace"))
