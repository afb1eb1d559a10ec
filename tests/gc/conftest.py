from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gc.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.opened(tmp_path) as opened:
        yield opened
