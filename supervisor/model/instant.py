"""Points in time as whole nanoseconds since 1970 UTC; datetime would lose the last three digits."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import NewType

from supervisor.errors import InvalidArgument

Nanoseconds = NewType("Nanoseconds", int)

SECOND = 1_000_000_000
EPOCH = Nanoseconds(0)

# What Go's zero time.Time becomes as a protobuf Timestamp: year 1. "Has not exited yet" on the wire.
GO_ZERO_SECONDS = -62_135_596_800
GO_ZERO = Nanoseconds(GO_ZERO_SECONDS * SECOND)

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")


def now() -> Nanoseconds:
    """The present, by the system's clock."""
    return Nanoseconds(time.time_ns())


def parse_rfc3339(text: str) -> Nanoseconds:
    """The instant that RFC 3339 text names; raises InvalidArgument."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"time {text[:64]!r} is not RFC 3339, like 2006-01-02T15:04:05Z")
    day, clock, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise InvalidArgument(f"time {text[:64]!r} is not RFC 3339: {error}") from None
    return Nanoseconds(int(whole.timestamp()) * SECOND + int((fraction or "0")[:9].ljust(9, "0")))


def format_rfc3339(instant: Nanoseconds) -> str:
    """RFC 3339 text in UTC, with as many digits of the fraction as are needed."""
    seconds, nanos = divmod(instant, SECOND)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{whole}{fraction}Z"
