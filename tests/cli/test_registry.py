"""`sctr images` and registries."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Sctr
from tests.images import TAG
from tests.registries import PASSWORD, USER, Registry, needs_registry
from tests.registry.conftest import login_registry, registry

__all__ = ["login_registry", "registry"]
pytestmark = [pytest.mark.compat, pytest.mark.root, needs_registry]


def test_pull_push_tag_and_export(sctr: Sctr, image_tar: Path, registry: Registry, tmp_path: Path) -> None:
    """What was pushed is pulled under its name and runs; without a terminal, plain lines say how."""
    sctr.ok("images", "import", str(image_tar))
    place = f"{registry.host}/tests/sctr:1"
    assert sctr.ok("images", "tag", TAG, place).strip() == place
    done = sctr.run("images", "push", place)
    assert done.returncode == 0, done.stderr
    assert b"Completed push" in done.stderr
    sctr.ok("images", "rm", "--sync", TAG, place)
    done = sctr.run("images", "pull", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith(f"{place} (sha256:")
    assert b"fetching image content" in done.stderr
    assert b"\x1b" not in done.stderr
    assert sctr.ok("run", "--rm", place, "/bin/echo", "pulled").strip() == "pulled"
    sctr.ok("images", "export", str(tmp_path / "out.tar"), place)
    sctr.ok("images", "rm", place)
    assert place in sctr.ok("images", "import", str(tmp_path / "out.tar"))
    assert sctr.json("images", "pull", place)["name"] == place
    assert [path.name for path in tmp_path.iterdir()] == ["out.tar"]


def test_a_terminal_shows_bars(sctr: Sctr, image_tar: Path, registry: Registry) -> None:
    place = f"{registry.host}/tests/bars:1"
    sctr.ok("images", "import", "--name", place, str(image_tar))
    sctr.ok("images", "push", place)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        sctr.command("images", "pull", place), stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how a terminal says that its other side is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    assert b"[########################]" in shown
    assert b"layer " in shown


def test_logins(sctr: Sctr, image_tar: Path, login_registry: Registry, tmp_path: Path) -> None:
    """By option, or from Docker's config.json; an error names host and reference, never the secret."""
    place = f"{login_registry.host}/tests/login:1"
    sctr.ok("images", "import", "--name", place, str(image_tar))
    said = sctr.fails("images", "push", place)
    assert login_registry.host in said
    said = sctr.fails("images", "push", "--user", f"{USER}:wrong", place)
    assert "wrong" not in said
    sctr.ok("images", "push", "--user", f"{USER}:{PASSWORD}", place)


def test_what_is_not_there(sctr: Sctr, registry: Registry) -> None:
    assert f"{registry.host}/tests/nothing:1" in sctr.fails(
        "images", "pull", f"{registry.host}/tests/nothing:1"
    )
