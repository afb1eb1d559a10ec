"""Exit codes and the texts of errors, as people and scripts know them from docker."""

from __future__ import annotations

import json
import sys

from supervisor.errors import SupervisorError

# Ours: the container did not get to run, or a command failed.
FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
USAGE = 2
INTERRUPTED = 130

# What runtimes say, in words that docker looks for as well.
_NOT_FOUND_WORDS = ("executable file not found", "no such file or directory")
_NOT_EXECUTABLE_WORDS = ("permission denied", "is a directory", "not a directory", "exec format error")


def tell(error: SupervisorError, *, as_json: bool = False) -> None:
    """Say what went wrong on standard error."""
    if as_json:
        print(json.dumps({"error": str(error), "class": type(error).__name__}), file=sys.stderr)
    else:
        print(f"sctr: {error}", file=sys.stderr)


def start_code(error: SupervisorError) -> int:
    """The exit code for a process that did not start: 127, 126, or 125 when it is not its own fault."""
    text = str(error).lower()
    if "runtime" not in text and "exec" not in text:
        return FAILED
    if any(words in text for words in _NOT_FOUND_WORDS):
        return NOT_FOUND
    if any(words in text for words in _NOT_EXECUTABLE_WORDS):
        return NOT_EXECUTABLE
    return FAILED
