"""Sizes, ages and digests in the words of people."""

from __future__ import annotations

from supervisor.model.instant import SECOND, Nanoseconds, now

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def size(count: int) -> str:
    """`count` bytes with a unit that keeps it short."""
    amount = float(count)
    for unit in _UNITS[:-1]:
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_UNITS[-1]}"


def age(instant: Nanoseconds | None) -> str:
    """How long ago `instant` was, in its largest unit."""
    if instant is None:
        return "-"
    seconds = max(0, (now() - instant) // SECOND)
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return "0s"


def cut(text: str, limit: int = 40) -> str:
    """Text of any length on one line of a table."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def short(digest: str) -> str:
    """A digest cut to what people compare."""
    return digest.partition(":")[2][:12]
