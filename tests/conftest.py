"""What holds for every test: a folder of the run's own, the order, no test that needs root without root."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Else grpc has threads of its own in each forked child, where they fail: some tests fork this process.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def pytest_configure(config: pytest.Config) -> None:
    """Give each run temporary files of its own.

    pytest keeps those of earlier runs and clears them away in later ones; with mounts among the
    files, and several runs at a time, that is neither safe nor quiet.
    """
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="cs-tests-")
        config.option.basetemp = Path(folder, "t")
        config.add_cleanup(lambda: remove_unless_mounted(Path(folder)))


def remove_unless_mounted(folder: Path) -> None:
    """Remove the files of a run; but never through a mount that a test forgot."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    forgotten = [place for line in mounts if (place := line.split()[1]).startswith(f"{folder}/")]
    if forgotten:
        print(f"kept {folder}: tests left mounts in it: {' '.join(forgotten)}")
        return
    shutil.rmtree(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick and independent tests first; those against other projects' programs last."""
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in ("compat", "slow", "root")])
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
