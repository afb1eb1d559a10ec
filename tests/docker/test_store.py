"""Where images and containers' files are: with the engine's own drivers, or in the supervisor."""

from __future__ import annotations

from tests.compat.program import eventually
from tests.docker.conftest import IMAGE
from tests.docker.docker import Docker
from tests.docker.engine import NAMESPACE, Engine


def test_images_are_where_the_engine_says(engine: Engine, docker: Docker, store: str) -> None:
    ours = engine.target.ctr(NAMESPACE)
    docker.detached("--name=box", IMAGE, "sleep", "1000")
    images, snapshots = ours.out("images", "ls", "-q"), ours.table("snapshots", "ls")
    assert docker.out("info", "--format={{.Driver}}").strip() == {"containerd": "overlayfs"}.get(
        store, "overlay2"
    )
    if store == "containerd":
        assert f"docker.io/library/{IMAGE}:latest" in images
        assert docker.inspect("box", "Id") in [row[0] for row in snapshots]
    else:
        assert (images, snapshots) == ("", [])


def test_a_removed_image_leaves_nothing(engine: Engine, docker: Docker, store: str) -> None:
    """What the supervisor keeps for the engine goes with it: content and snapshots, by collection."""
    ours = engine.target.ctr(NAMESPACE)

    def kept() -> tuple[set[str], set[str]]:
        return set(ours.out("content", "ls", "-q").split()), {row[0] for row in ours.table("snapshots", "ls")}

    before = kept()
    docker.run("run", "--name=box", IMAGE, "sh", "-c", "echo new >/new")
    docker.run("commit", "box", "kept:1")
    docker.run("rm", "box")
    assert (kept() != before) == (store == "containerd")
    docker.run("rmi", "kept:1")
    eventually(lambda: kept() == before, what=f"what is kept to be {before} again")
