from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.metadata.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "metadata.db") as opened:
        yield opened
