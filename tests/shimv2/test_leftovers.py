"""What shims leave: those that a killed daemon was just starting, and sockets."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.leftovers import kill_starting, remove_socket

ADDRESS = "/run/nobody/d.sock"
WORDS = ("-namespace", "blue", "-address", ADDRESS, "-id")


def process(*words: str) -> subprocess.Popen[bytes]:
    """Something with these words in its command line."""
    return subprocess.Popen(["sh", "-c", "read never", "sh", *words], stdin=subprocess.PIPE)


@pytest.mark.parametrize("titled", [False, True])
def test_only_those_of_the_task_are_killed(tmp_path: Path, titled: bool) -> None:
    """Known by their command lines; a fork of the launcher shows a title, one string with blanks."""

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


def test_only_a_socket_at_which_nobody_listens_is_removed(tmp_path: Path) -> None:
    """A shim may have begun anew there; one that is busy listens too."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(path))
        listener.listen(1)
        caller.settimeout(5)
        remove_socket(path)
        caller.connect(str(path))
        remove_socket(path)
        assert path.is_socket()
    remove_socket(path)
    assert not path.exists()
    remove_socket(path)
    path.touch()
    remove_socket(path)
    assert path.exists()
    remove_socket(tmp_path / "no/folder")
