"""Conditions of `gc.cond` labels, and Go's durations (contract 11.2)."""

from __future__ import annotations

import pytest

from supervisor.gc.conditions import VALUE_LABEL, duration, holds
from supervisor.model.instant import SECOND, Nanoseconds

NOW = Nanoseconds(100_000 * SECOND)
USED_AT_10 = {VALUE_LABEL: "1970-01-01T00:00:10Z"}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("720h", 720 * 3600 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("-2ms", -2_000_000),
        ("+3us", 3000),
        ("3µs", 3000),
        ("7ns", 7),
        ("0", 0),
        ("", None),
        ("5", None),
        ("1d", None),
        ("1h 2m", None),
        ("h", None),
    ],
)
def test_durations(text: str, nanoseconds: int | None) -> None:
    assert duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("usedat<99991s", True),
        ("usedat<99990s", False),
        ("usedat>99989s", True),
        ("usedat>99990s", False),
        ("nonsense,usedat>1s", True),
        ("usedat>=1s", False),
        ("usedat==1s", False),
        ("usedat!=1s", False),
        (" usedat>1s", False),
        ("usedat>", False),
        ("", False),
    ],
)
def test_conditions(condition: str, expected: bool) -> None:
    assert holds(condition, USED_AT_10, NOW) is expected


def test_the_time_is_a_label_of_the_snapshot() -> None:
    assert not holds("usedat>1s", {}, NOW)
    assert not holds("usedat>1s", {VALUE_LABEL: "yesterday"}, NOW)
    assert holds("usedat>1s", {f"{VALUE_LABEL}.x": "1970-01-01T00:00:10Z"}, NOW)
