from pathlib import Path

import pytest


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder for mounts and for a driver's root."""
    return tmp_path
