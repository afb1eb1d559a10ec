"""A snapshot's folders, and a canary beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.diff.layers import Layers


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    return Layers(tmp_path)


@pytest.fixture
def outside(tmp_path: Path) -> Callable[[], dict[str, object]]:
    """A canary beside the layer; calling it tells its state."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("untouched")

    def state() -> dict[str, object]:
        found = (canary / "file").lstat()
        return {
            "names": sorted(p.name for p in canary.iterdir()),
            "beside": sorted(p.name for p in tmp_path.iterdir() if p.name != "tmpmounts"),
            "text": (canary / "file").read_text(),
            "status": (found.st_mode, found.st_uid, found.st_nlink, found.st_mtime_ns),
        }

    return state
