"""What a check answers: how bad it is, what was seen, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

_NAMED = 3


class Verdict(StrEnum):
    """`note` is worth knowing, `warning` will hurt some day, `failure` does not work, or not safely."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer; `advice` may be empty where nothing is to be done."""

    verdict: Verdict
    seen: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A question with a name; `look` answers None where it does not arise.

    It may block, and may break: it gets a process of its own, and so many `seconds`.
    """

    theme: str
    name: str
    look: Callable[[], Finding | None]
    seconds: float = 10.0


def ok(seen: str) -> Finding:
    """As it should be."""
    return Finding(Verdict.OK, seen)


def note(seen: str, advice: str = "") -> Finding:
    """Works, with something to know."""
    return Finding(Verdict.NOTE, seen, advice)


def warning(seen: str, advice: str) -> Finding:
    """Works now, and will hurt."""
    return Finding(Verdict.WARNING, seen, advice)


def failure(seen: str, advice: str) -> Finding:
    """Does not work, or not safely."""
    return Finding(Verdict.FAILURE, seen, advice)


def some(items: Iterable[object]) -> str:
    """The first of many in words, with the number of the others."""
    words = [str(item) for item in items]
    more = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def size(count: int) -> str:
    """Bytes with a unit that keeps them short."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
