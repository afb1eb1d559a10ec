"""Conditional references: `gc.cond.snapshot.NAME = usedat<720h|KEY` (contract 11.2).

The reference holds while any of its conditions, separated by commas, holds for the time in the
snapshot's label `gc.cond.value-usedat`. SQLite asks this module through a function of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal

from sqlalchemy import Connection

from supervisor.errors import InvalidArgument
from supervisor.metadata.statements import driver
from supervisor.model.instant import SECOND, Nanoseconds, parse_rfc3339

SQL_FUNCTION = "condition_holds"
"""`condition_holds(condition, labels of the snapshot as JSON, now)`."""

VALUE_LABEL = "containerd.io/gc.cond.value-usedat"

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND}
_UNITS |= {"h": 3600 * SECOND}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)", re.ASCII)
_CONDITION = re.compile(r"usedat([<>])([^=].*)", re.DOTALL)


def install(connection: Connection) -> None:
    """Make the function known to a connection; again is harmless."""
    driver(connection).create_function(SQL_FUNCTION, 3, _holds, deterministic=True)


def holds(condition: str, labels: dict[str, str], now: Nanoseconds) -> bool:
    """Whether any of the conditions holds for any of the times that the labels tell; other words never do."""
    ages = [now - instant for instant in _times(labels)]
    for match in map(_CONDITION.fullmatch, condition.split(",")):
        limit = duration(match[2]) if match else None
        if match is None or limit is None:
            continue
        if any(age < limit if match[1] == "<" else age > limit for age in ages):
            return True
    return False


def duration(text: str) -> int | None:
    """Nanoseconds of a duration as Go writes it, like `1h30m` or `-1.5s`; None for other text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    parts = _PART.findall(match[2])
    length = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in parts)
    return -length if match[1] == "-" else length


def _times(labels: dict[str, str]) -> Iterator[Nanoseconds]:
    for key, value in labels.items():
        if key.startswith(VALUE_LABEL):
            try:
                yield parse_rfc3339(value)
            except InvalidArgument:
                continue


def _holds(condition: str, labels: str | None, now: int) -> bool:
    return labels is not None and holds(condition, json.loads(labels), Nanoseconds(now))
