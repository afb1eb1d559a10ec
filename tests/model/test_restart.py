"""Policies of restart labels, and when attempts are made."""

from __future__ import annotations

import random

import pytest

from supervisor.errors import InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds
from supervisor.model.restart import (
    COUNT_LABEL,
    POLICY_LABEL,
    STOPPED_LABEL,
    Attempts,
    Ended,
    Policy,
    RestartSettings,
    next_at,
    refusal,
    still_in_a_row,
)

SETTINGS = RestartSettings(backoff=1.0, backoff_limit=10.0, jitter=0.0, healthy=5.0)
ZERO = random.Random(1)


def at(seconds: float) -> Nanoseconds:
    return Nanoseconds(int(seconds * SECOND))


@pytest.mark.parametrize(
    ("policy", "status", "runs"),
    [
        ("", 0, True),
        ("always", 0, True),
        ("always", None, True),
        ("no", 1, False),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", None, False),
        ("on-failure", 137, True),
        ("on-failure:3", 1, True),
    ],
)
def test_policies(policy: str, status: int | None, runs: bool) -> None:
    labels = {POLICY_LABEL: policy} if policy else {}
    assert (refusal(labels, Ended(status)) == "") is runs


def test_what_was_stopped_on_purpose_or_often_enough() -> None:
    stopped = {STOPPED_LABEL: "true"}
    assert "on purpose" in refusal({POLICY_LABEL: "unless-stopped", **stopped}, Ended(0))
    assert not refusal({POLICY_LABEL: "always", **stopped}, Ended(0))
    three = {POLICY_LABEL: "on-failure:3", COUNT_LABEL: "3"}
    assert "restarted 3 times" in refusal(three, Ended(1))
    assert not refusal({**three, COUNT_LABEL: "nonsense"}, Ended(1))


@pytest.mark.parametrize("text", ["sometimes", "always:3", "on-failure:", "on-failure:-1", "on-failure:many"])
def test_policies_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="restart policy"):
        Policy.of({POLICY_LABEL: text})


def test_attempts_become_rarer_up_to_a_limit() -> None:
    delays = []
    for count in range(6):
        due = next_at(Attempts(count, at(100)), Ended(1, at(100)), SETTINGS, ZERO)
        assert due is not None
        delays.append((due - at(100)) / SECOND)
    assert delays == [1, 2, 4, 8, 10, 10]
    far = next_at(Attempts(5000, at(100)), Ended(1, at(100)), SETTINGS, ZERO)
    assert far == at(110)


def test_chance_spreads_them() -> None:
    spread = RestartSettings(backoff=1.0, jitter=0.5)
    dues = {next_at(Attempts(0), Ended(1, at(100)), spread, random.Random(seed)) for seed in range(50)}
    assert len(dues) > 40
    assert all(due is not None and at(100.5) <= due <= at(101.5) for due in dues)


def test_a_good_run_ends_the_row() -> None:
    attempts = Attempts(4, at(100))
    assert still_in_a_row(attempts, Ended(1, at(104.9)), SETTINGS) == attempts
    assert still_in_a_row(attempts, Ended(1, at(105)), SETTINGS) == Attempts()
    assert still_in_a_row(attempts, Ended(), SETTINGS) == attempts


def test_a_limit_of_attempts() -> None:
    limited = RestartSettings(start_limit=3)
    assert next_at(Attempts(2, at(1)), Ended(1, at(1)), limited, ZERO) is not None
    assert next_at(Attempts(3, at(1)), Ended(1, at(1)), limited, ZERO) is None


def test_what_never_ran_waits_for_nothing() -> None:
    assert next_at(Attempts(), Ended(), SETTINGS, ZERO) == 0
