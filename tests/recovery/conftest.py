from pathlib import Path

import pytest

from supervisor.recovery.layout import Layout
from tests.recovery.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty root."""
    root = tmp_path / "root"
    root.mkdir()
    return World(Layout(root))


@pytest.fixture
def filled(world: World) -> World:
    """A root with an image of one unpacked layer, and a container on it."""
    with world.open() as parts:
        parts.image()
        parts.layer("layer")
        parts.container("c", "layer")
    return world
