"""What an OCI runtime wrote into its JSON log about a failure (containerd: process/utils.go).

The log of a container grows with each command. Only what was appended since a command began may
explain its failure, otherwise an old message would be shown for a new cause.
"""

from __future__ import annotations

import json
import os


class RuntimeLog:
    """The file that the runtime is given as `--log`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def end(self) -> int:
        """Where the next entry will begin."""
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def last_error(self, since: int) -> str:
        """The message of the last entry of level error after `since`, or nothing; raises OSError."""
        message = ""
        with open(self.path, "rb") as file:
            file.seek(since)
            for line in file:
                message = _error_message(line) or message
        return message


def _error_message(line: bytes) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(entry, dict) or entry.get("level") != "error":
        return ""
    return str(entry.get("msg", ""))
