"""Images moved as Debian's `ctr` asks it of the daemon, where its version does (from 1.7 on)."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.target import Target
from tests.images import TAG
from tests.registries import Registry, needs_registry

pytestmark = [pytest.mark.compat, pytest.mark.root, needs_registry]

Ctr = Callable[..., str]


def _version() -> tuple[int, ...]:
    said = subprocess.run(["ctr", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0, 0)


@pytest.fixture
def ctr(target: Target) -> Ctr:
    if shutil.which("ctr") is None or _version() < (1, 7):
        pytest.skip("this ctr does not ask the daemon to move images; from 1.7 on it does")
    namespace = f"transfer-{uuid.uuid4().hex[:8]}"
    target.namespaces.append(namespace)

    def run(*words: str) -> str:
        command = ["ctr", "--address", str(target.address), "--namespace", namespace, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    return run


def test_ctr_has_images_moved(ctr: Ctr, image_tar: Path, registry: Registry, tmp_path: Path) -> None:
    """Imported, tagged, pushed, pulled, run, exported; what it shows meanwhile is a tree of parts."""
    place = f"{registry.host}/tests/by-ctr:1"
    ctr("images", "import", "--local=false", str(image_tar))
    assert TAG in ctr("images", "ls", "-q").split()
    ctr("images", "tag", "--local=false", TAG, place)
    ctr("images", "push", "--local=false", "--plain-http", place)
    ctr("images", "rm", "--sync", TAG, place)
    shown = ctr("images", "pull", "--local=false", "--plain-http", place)
    assert re.search(r"└──manifest", shown)
    assert re.search(r"├──layer|└──layer", shown)
    assert "hello" in ctr("run", "--rm", place, "one", "/bin/echo", "hello")
    out = tmp_path / "out.tar"
    ctr("images", "export", "--local=false", str(out), place)
    ctr("images", "rm", "--sync", place)
    ctr("images", "import", "--local=false", str(out))
    assert place in ctr("images", "ls", "-q").split()
