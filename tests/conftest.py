"""What holds for every test: the order of the run, and no test that needs root without root."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick and independent tests first; those against other projects' programs last."""
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in ("compat", "slow", "root")])
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
