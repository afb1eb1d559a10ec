"""Shims that a killed daemon was just starting are known by their command lines, in either form."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.leftovers import kill_starting

ADDRESS = "/run/nobody/d.sock"
WORDS = ("-namespace", "blue", "-address", ADDRESS, "-id")


def process(*words: str) -> subprocess.Popen[bytes]:
    """Something with these words in its command line."""
    return subprocess.Popen(["sh", "-c", "read never", "sh", *words], stdin=subprocess.PIPE)


@pytest.mark.parametrize("titled", [False, True])
def test_only_those_of_the_task_are_killed(tmp_path: Path, titled: bool) -> None:
    """A fork of the launcher shows a title: one string with blanks."""

    def words(id_: str) -> tuple[str, ...]:
        whole = (*WORDS, id_, "start")
        return (" ".join(whole),) if titled else whole

    bundle = Bundle(Namespace("blue"), ContainerId("c1"), tmp_path, tmp_path)
    with process(*words("c1")) as meant, process(*words("c1")) as kept, process(*words("c11")) as other:
        kill_starting(bundle, ADDRESS, {kept.pid})
        assert meant.wait(10) == -9
        assert (kept.poll(), other.poll()) == (None, None)
        kept.kill()
        other.kill()
