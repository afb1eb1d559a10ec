"""Moments as people write them: a time, or how long ago."""

from __future__ import annotations

import re

from supervisor.errors import InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds, now, parse_rfc3339

_UNITS = {"ms": SECOND // 1000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
_PART = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?(ms|s|m|h|d)", re.ASCII)
_SPAN = re.compile(f"(?:{_PART.pattern})+", re.ASCII)


def moment(text: str, option: str) -> Nanoseconds:
    """The moment that an option names, in RFC 3339 or as a span back from now; raises InvalidArgument."""
    if _SPAN.fullmatch(text):
        return Nanoseconds(now() - sum(map(_length, _PART.finditer(text))))
    try:
        return parse_rfc3339(text)
    except InvalidArgument as error:
        spans = "a span back from now, like 10m or 1h30m, is understood too"
        raise InvalidArgument(f"{option}: {error}; {spans}") from None


def _length(part: re.Match[str]) -> int:
    whole, fraction, unit = part.groups()
    length = _UNITS[unit]
    return int(whole) * length + int((fraction or "0").ljust(9, "0")) * length // SECOND
