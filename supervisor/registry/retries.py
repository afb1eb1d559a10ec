"""When to try again: exponential back-off with jitter, or what the host asks for (RFC 9110, Retry-After)."""

from __future__ import annotations

import email.utils
import random
from datetime import UTC, datetime

import requests

from supervisor.registry.deadline import Deadline
from supervisor.registry.settings import RegistrySettings

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which the same request may succeed."""


class Retries:
    """The attempts of one request, counted over all its hosts and challenges."""

    def __init__(self, settings: RegistrySettings, deadline: Deadline, allowed: int | None = None) -> None:
        """Allow `settings.attempts`, or `allowed`, of them."""
        self._settings = settings
        self._deadline = deadline
        self._allowed = max(1, settings.attempts if allowed is None else allowed)
        self.used = 1
        self.status = 0
        """Of the last answer, 0 when there was none."""

    def again(self, response: requests.Response | None = None) -> bool:
        """Wait before the next attempt; False when there is none, or the host asks for too long a wait."""
        self.status = response.status_code if response is not None else self.status
        if self.used >= self._allowed:
            return False
        wait = self._backoff()
        asked = retry_after(response.headers.get("Retry-After")) if response is not None else None
        if asked is not None:
            if asked > self._settings.retry_after_limit:
                return False
            wait = asked
        if response is not None:
            response.close()
        self.used += 1
        self._deadline.sleep(wait)
        return True

    def succeeded(self) -> None:
        """Something came through: count anew."""
        self.used = 1

    def _backoff(self) -> float:
        full = min(self._settings.backoff * 2.0 ** (self.used - 1), self._settings.backoff_limit)
        return full * random.uniform(0.5, 1.0)  # noqa: S311  # spreads requests, hides nothing


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait, in either of its forms; None for anything else."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value[:10])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds: float = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds)
