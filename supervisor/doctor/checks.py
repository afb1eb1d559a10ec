"""All checks, in the order in which one would look."""

from __future__ import annotations

from supervisor.doctor import (
    cgroups,
    folders,
    leftovers,
    limits,
    machine,
    neighbours,
    overlay,
    runtimes,
    serving,
    software,
)
from supervisor.doctor.finding import Check
from supervisor.doctor.place import Place

_THEMES = (software, machine, cgroups, overlay, runtimes, folders, serving, leftovers, limits, neighbours)


def all_checks(place: Place) -> list[Check]:
    """What there is to ask of an installation."""
    return [check for theme in _THEMES for check in theme.checks(place)]
