"""When a container that ended is to run again (containerd: core/runtime/restart, its labels and policies).

Beyond containerd: attempts become rarer, with some chance in it, have a limit if one is set, and are
forgotten once the container has run well for a while.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.errors import InvalidArgument
from supervisor.model.instant import SECOND, Nanoseconds

STATUS_LABEL = "containerd.io/restart.status"
"""`running` or `stopped`: what the container is to do. Without it nothing here concerns the container."""
POLICY_LABEL = "containerd.io/restart.policy"
COUNT_LABEL = "containerd.io/restart.count"
STOPPED_LABEL = "containerd.io/restart.explicitly-stopped"
LOG_URI_LABEL = "containerd.io/restart.loguri"
LOG_PATH_LABEL = "containerd.io/restart.logpath"

DEFAULT_POLICY = "always"
POLICIES = ("no", "always", "on-failure", "unless-stopped")


@dataclass(frozen=True, slots=True)
class RestartSettings:
    """Times in seconds. Between two looks at everything lie `interval`; events are acted on at once.

    The first attempt follows after `backoff`, each next after twice as long, at most `backoff_limit`, more
    or less by the share `jitter`. After `start_limit` attempts in a row there are no more (0: no limit); a
    run of `healthy` seconds ends the row.
    """

    enabled: bool = True
    interval: float = 10.0
    backoff: float = 0.1
    backoff_limit: float = 60.0
    jitter: float = 0.2
    healthy: float = 10.0
    start_limit: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What labels ask for: its name, and for `on-failure` how many restarts at most (0: any number)."""

    name: str = DEFAULT_POLICY
    most: int = 0

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Policy:
        """The policy in a container's labels, `always` without one; raises InvalidArgument."""
        text = labels.get(POLICY_LABEL) or DEFAULT_POLICY
        name, colon, most = text.partition(":")
        if name not in POLICIES or (colon and (name != "on-failure" or not _is_count(most))):
            raise InvalidArgument(
                f"restart policy {text[:100]!r} must be one of {', '.join(POLICIES)}, or on-failure:COUNT"
            )
        return cls(name, int(most) if colon else 0)


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts in a row so far, and when the last one was made."""

    count: int = 0
    last: Nanoseconds | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """That the container does not run: with which status and when it ended, None if it never ran here."""

    status: int | None = None
    at: Nanoseconds | None = None


def refusal(labels: Mapping[str, str], ended: Ended) -> str:
    """Why a container that ended is left alone, empty when it is to run; raises InvalidArgument."""
    policy = Policy.of(labels)
    match policy.name:
        case "no":
            return "its policy is no"
        case "unless-stopped" if labels.get(STOPPED_LABEL) == "true":
            return "it was stopped on purpose"
        case "on-failure" if not ended.status:
            return "it ended well" if ended.status == 0 else "it has not failed"
        case "on-failure" if policy.most and restarts(labels) >= policy.most:
            return f"it was restarted {policy.most} times, as often as its policy allows"
    return ""


def restarts(labels: Mapping[str, str]) -> int:
    """How often it was restarted, by its own label."""
    text = labels.get(COUNT_LABEL, "")
    return int(text) if _is_count(text) else 0


def still_in_a_row(attempts: Attempts, ended: Ended, settings: RestartSettings) -> Attempts:
    """The attempts that count: none after a run that was long enough."""
    if attempts.last is None or ended.at is None:
        return attempts
    ran = ended.at - attempts.last
    return Attempts() if ran >= settings.healthy * SECOND else attempts


def next_at(
    attempts: Attempts, ended: Ended, settings: RestartSettings, chance: random.Random
) -> Nanoseconds | None:
    """When the next attempt is due, None for never: the limit is reached. 0 for what has never run."""
    if settings.start_limit and attempts.count >= settings.start_limit:
        return None
    since = max(ended.at or Nanoseconds(0), attempts.last or Nanoseconds(0))
    if not since:
        return Nanoseconds(0)
    delay = min(settings.backoff * 2 ** min(attempts.count, 40), settings.backoff_limit)
    delay *= 1 + settings.jitter * (2 * chance.random() - 1)
    return Nanoseconds(since + int(delay * SECOND))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
