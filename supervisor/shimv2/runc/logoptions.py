"""What the query of a `file://` target asks of a log (no counterpart in containerd, which ignores it).

Without any of our words a target is containerd's: a file that is appended to. With one of them all
words have to be ours, because a setting that is silently ignored is a trap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import InvalidArgument
from supervisor.shimv2.runc.plumbing import file_path

KNOWN = ("buffer-size", "index", "overflow", "rotate-count", "rotate-size")

_ROTATE_SIZE = 10 << 20
_ROTATE_COUNT = 5
_BUFFER_SIZE = 1 << 20

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST_SIZE = 4 << 10
_MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a log is kept. Sizes are in bytes; `rotate_count` counts the file that is written to as well."""

    path: str
    rotate_size: int = _ROTATE_SIZE
    rotate_count: int = _ROTATE_COUNT
    buffer_size: int = _BUFFER_SIZE
    drops: bool = True
    indexed: bool = True


def log_options(uri: str) -> LogOptions | None:
    """The options in a target's query; None when there are none of ours. Raises InvalidArgument."""
    query = uri.partition("#")[0].partition("?")[2]
    words = {name: value for name, _, value in (word.partition("=") for word in query.split("&") if word)}
    if not words.keys() & set(KNOWN):
        return None
    for name in words:
        if name not in KNOWN:
            raise InvalidArgument(f"log {uri}: option {name} is not known; known are {', '.join(KNOWN)}")
    return LogOptions(
        path=file_path(uri),
        rotate_size=_size(words, "rotate-size", _ROTATE_SIZE),
        rotate_count=_count(words),
        buffer_size=_size(words, "buffer-size", _BUFFER_SIZE),
        drops=_choice(words, "overflow", ("drop", "block")) == "drop",
        indexed=_choice(words, "index", ("yes", "no")) == "yes",
    )


def _size(words: Mapping[str, str], name: str, default: int) -> int:
    if name not in words:
        return default
    text = words[name].lower()
    unit = _UNITS.get(text[-1:], 1)
    digits = text[:-1] if unit > 1 else text
    size = int(digits) * unit if digits.isdecimal() and len(digits) < 16 else 0
    if size < _LEAST_SIZE:
        raise InvalidArgument(f"log option {name}={words[name]}: a size of 4k or more is wanted, like 10m")
    return size


def _count(words: Mapping[str, str]) -> int:
    text = words.get("rotate-count", str(_ROTATE_COUNT))
    count = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 1 <= count <= _MOST_FILES:
        raise InvalidArgument(f"log option rotate-count={text}: 1 to {_MOST_FILES} files are possible")
    return count


def _choice(words: Mapping[str, str], name: str, allowed: tuple[str, str]) -> str:
    value = words.get(name, allowed[0])
    if value not in allowed:
        raise InvalidArgument(f"log option {name}={value}: {' or '.join(allowed)} is wanted")
    return value
