"""`sctr events --since`: from any place in the journal, and on over a daemon that is killed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import IO, Any

import pytest

from tests.cli.conftest import Sctr, client_of
from tests.compat.target import Target

pytestmark = [pytest.mark.compat, pytest.mark.root]


def lines(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in stream:
        yield json.loads(line)


def create(target: Target, sctr: Sctr, *names: str) -> None:
    """Make leases and containers' records: things that tell events without running anything."""
    for name in names:
        target.ctr(sctr.namespace).run("namespaces", "label", sctr.namespace, f"step={name}")


def steps(events: Iterator[dict[str, Any]], count: int) -> list[tuple[int, str]]:
    found = []
    while len(found) < count:
        event = next(events)
        if event["topic"] == "/namespaces/update":
            found.append((event["sequence"], event["event"]["labels"]["step"]))
    return found


def test_events_go_on_over_a_killed_daemon_each_once(own_target: Target) -> None:
    sctr = client_of(own_target)
    own_target.ctr(sctr.namespace).run("namespaces", "create", sctr.namespace)
    create(own_target, sctr, "a", "b")
    mine = f"event.name=={sctr.namespace}"
    words = ("--output", "json", "events", "--since", "all", "--filter", mine)
    with sctr.running(*words, stdout=subprocess.PIPE) as shown:
        assert shown.stdout is not None
        events = lines(shown.stdout)
        before = steps(events, 2)
        own_target.kill()
        own_target.start()
        create(own_target, sctr, "c")
        after = steps(events, 1)
        own_target.kill()
        own_target.start()
        create(own_target, sctr, "d", "e")
        after += steps(events, 2)
    assert [step for _, step in before + after] == ["a", "b", "c", "d", "e"]
    numbers = [number for number, _ in before + after]
    assert numbers == sorted(set(numbers))
    resumed = ("--output", "json", "events", "--since", str(numbers[1]), "--filter", mine)
    with sctr.running(*resumed, stdout=subprocess.PIPE) as shown:
        assert shown.stdout is not None
        assert steps(lines(shown.stdout), 3) == after


def test_a_cursor_of_another_store_is_refused_with_advice(own_target: Target) -> None:
    sctr = client_of(own_target)
    assert "not one of this store" in sctr.fails("events", "--since", str(2**40))
    assert os.fsencode("invalid") in sctr.run("events", "--since", "yesterday").stderr
