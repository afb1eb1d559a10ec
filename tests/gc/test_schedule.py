"""When runs are due: contract 11.4."""

from __future__ import annotations

import pytest

from supervisor.gc.schedule import Schedule, Settings

QUIET = Settings(startup_delay=0)


def after_a_run(settings: Settings = QUIET, spent: float = 0.0, at: float = 10.0) -> Schedule:
    schedule = Schedule(settings, 0.0)
    schedule.started()
    schedule.finished(spent, at)
    return schedule


def test_the_first_run_is_after_the_startup_delay_whatever_happened() -> None:
    assert Schedule(Settings(), 5.0).due == pytest.approx(5.1)
    assert Schedule(QUIET, 5.0).due is None


def test_an_idle_daemon_sleeps() -> None:
    assert after_a_run().due is None


def test_a_deletion_is_collected_within_a_pause() -> None:
    schedule = after_a_run()
    schedule.wrote(1, 1, 10.1)
    assert schedule.due == pytest.approx(10.245), "the pause: 5 ms are a fiftieth of 250"
    late = after_a_run()
    late.wrote(1, 1, 11.0)
    assert late.due is not None
    assert 11.0 < late.due <= 11.245


def test_changes_wait_until_there_are_enough() -> None:
    schedule = after_a_run()
    for _ in range(99):
        schedule.wrote(1, 0, 10.0)
    assert schedule.due is None
    schedule.wrote(1, 0, 10.0)
    assert schedule.due == pytest.approx(10.245)


def test_a_threshold_of_no_mutations_never_collects_for_them() -> None:
    schedule = after_a_run(Settings(startup_delay=0, mutation_threshold=0))
    schedule.wrote(10_000, 0, 10.0)
    assert schedule.due is None
    schedule.wrote(1, 1, 10.0)
    assert schedule.due is not None


def test_a_run_that_is_asked_for_comes_after_the_delay_only() -> None:
    schedule = after_a_run()
    schedule.asked(10.0)
    assert schedule.due == 10.0
    delayed = after_a_run(Settings(startup_delay=0, schedule_delay=0.03))
    delayed.asked(10.0)
    delayed.asked(10.02)
    assert delayed.due == pytest.approx(10.03)


def test_the_deletion_threshold_forces_a_run() -> None:
    schedule = after_a_run(Settings(startup_delay=0, deletion_threshold=3, schedule_delay=0.01))
    schedule.wrote(2, 2, 10.0)
    assert schedule.due == pytest.approx(10.245)
    schedule.wrote(1, 1, 10.1)
    assert schedule.due == pytest.approx(10.11)


@pytest.mark.parametrize(
    ("threshold", "spent", "pause"),
    [
        (0.02, 0.001, 0.245),
        (0.02, 1.0, 49.0),
        (0.5, 0.1, 0.1),
        (0.9, 0.1, 0.1),
        (0.0, 5.0, 1.0),
        (-1, 5.0, 1.0),
    ],
)
def test_the_pause_between_runs(threshold: float, spent: float, pause: float) -> None:
    schedule = after_a_run(Settings(pause_threshold=threshold, startup_delay=0), spent)
    schedule.wrote(1, 1, 10.0)
    assert schedule.due == pytest.approx(10.0 + pause)


def test_the_average_counts() -> None:
    schedule = after_a_run(spent=0.1)
    schedule.started()
    schedule.finished(0.3, 20.0)
    schedule.wrote(1, 1, 20.0)
    assert schedule.due == pytest.approx(20.0 + 0.2 / 0.02 - 0.2)


def test_what_happens_during_a_run_wants_another_one() -> None:
    schedule = after_a_run()
    schedule.started()
    schedule.wrote(1, 1, 10.5)
    schedule.finished(0.0, 11.0)
    assert schedule.due == pytest.approx(11.245)
    schedule.started()
    schedule.finished(0.0, 12.0)
    assert schedule.due is None


def test_a_failed_run_is_made_again() -> None:
    schedule = after_a_run()
    schedule.started()
    schedule.failed(20.0)
    assert schedule.due == pytest.approx(21.245)
