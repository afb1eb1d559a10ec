"""Back-off, Retry-After, bandwidth and time, without waiting for any of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests

from supervisor.errors import Cancelled, DeadlineExceeded, InvalidArgument
from supervisor.registry.bandwidth import Bandwidth
from supervisor.registry.deadline import Deadline
from supervisor.registry.retries import Retries, retry_after
from supervisor.registry.settings import RegistrySettings


class Sleepless(Deadline):
    """Time that is asked for and does not pass."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def asking(value: str) -> requests.Response:
    response = requests.Response()
    response.status_code = 429
    response.headers["Retry-After"] = value
    response.raw = type("Raw", (), {"close": lambda self: None, "release_conn": lambda self: None})()
    return response


def test_waits_double_up_to_a_bound_and_are_never_quite_the_same():
    deadline = Sleepless()
    settings = RegistrySettings(attempts=8, backoff=1.0, backoff_limit=10.0)
    retries = Retries(settings, deadline)
    while retries.again():
        pass
    assert retries.used == 8
    for slept, full in zip(deadline.slept, (1, 2, 4, 8, 10, 10, 10), strict=True):
        assert full / 2 <= slept <= full
    assert len(set(deadline.slept)) == 7


def test_a_host_may_ask_for_its_own_wait_within_a_limit():
    deadline = Sleepless()
    retries = Retries(RegistrySettings(retry_after_limit=60.0), deadline)
    assert retries.again(asking("60"))
    assert deadline.slept == [60.0]
    assert not retries.again(asking("61"))


def test_success_gives_all_attempts_back():
    retries = Retries(RegistrySettings(attempts=2), Sleepless())
    assert retries.again()
    assert not retries.again()
    retries.succeeded()
    assert retries.again()


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "Wed, 99 Foo 2000", "1.5"])
def test_a_retry_after_that_is_none_is_none(value):
    assert retry_after(value) is None


def test_a_retry_after_may_be_a_date():
    later = datetime.now(UTC) + timedelta(seconds=1000)
    found = retry_after(format_datetime(later, usegmt=True))
    assert found is not None
    assert 900 < found <= 1000
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 0.0
    assert retry_after("120") == 120.0


def test_bytes_beyond_the_bandwidth_wait_for_their_turn():
    deadline = Sleepless()
    bandwidth = Bandwidth(1000.0)
    for _ in range(10):
        bandwidth.take(1000, deadline)
    assert 9.0 <= max(deadline.slept) <= 10.0
    assert bandwidth.piece(10**6) == 100


def test_no_bound_is_no_wait():
    deadline = Sleepless()
    bandwidth = Bandwidth()
    bandwidth.take(10**12, deadline)
    assert deadline.slept == []
    assert bandwidth.piece(10**6) == 10**6


def test_time_that_is_over_is_told():
    over = Deadline(1e-9)
    with pytest.raises(DeadlineExceeded, match="longer than 1e-09 s"):
        over.sleep(100.0)
    assert over.remaining() == 0.0
    given_up = Deadline()
    given_up.cancel()
    with pytest.raises(Cancelled):
        given_up.sleep(100.0)
    Deadline().check()


def test_settings_that_make_no_sense_are_refused_by_name():
    RegistrySettings(total=0.0, stall_window=0.0, stall_rate=0.0, dial_timeout=0.0)
    for name, value in (("attempts", 0), ("parallel_layers", 0), ("backoff", -1.0), ("total", float("nan"))):
        with pytest.raises(InvalidArgument, match=rf"registry\.{name} is"):
            RegistrySettings(**{name: value})
