"""Sockets, locks and units, without a daemon; with one, see test_command."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.doctor import serving
from supervisor.doctor.finding import Verdict
from supervisor.doctor.place import Place, ScopedSocket
from supervisor.kernel.files import locked


@contextmanager
def listening(path: Path, mode: int = 0o660) -> Iterator[None]:
    """A socket at which nobody ever answers."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(mode)
        yield


def test_no_daemon_is_a_note(place: Place) -> None:
    assert serving.process(place).verdict is Verdict.NOTE
    assert serving.answer(place) is None
    assert serving.socket_file(place, place.address) is None


def test_a_root_of_one_and_a_state_of_another(place: Place) -> None:
    place.root.mkdir()
    place.state.mkdir()
    with locked(place.root / "lock"):
        found = serving.process(place)
        assert found.verdict is Verdict.FAILURE
        assert f"process {os.getpid()}" in found.seen
        with locked(place.state / "lock"):
            assert serving.process(place).verdict is Verdict.OK


def test_a_daemon_that_nobody_can_connect_to(place: Place) -> None:
    place.root.mkdir()
    with locked(place.root / "lock"):
        found = serving.answer(place)
        assert found.verdict is Verdict.FAILURE
        assert f"process {os.getpid()} holds the root" in found.seen
        assert serving.socket_file(place, place.address).verdict is Verdict.FAILURE


def test_a_daemon_that_hangs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_PATIENCE", 0.5)
    with listening(place.address):
        found = serving.answer(place)
    assert found.verdict is Verdict.FAILURE
    assert "no answer within 0.5 s" in found.seen


@pytest.mark.parametrize(
    ("mode", "verdict"),
    [(0o600, Verdict.OK), (0o660, Verdict.OK), (0o666, Verdict.FAILURE), (0o662, Verdict.FAILURE)],
)
def test_the_mode_of_the_socket(place: Place, mode: int, verdict: Verdict) -> None:
    with listening(place.address, mode):
        assert serving.socket_file(place, place.address).verdict is verdict


def test_a_socket_in_a_folder_that_others_write_to(place: Place) -> None:
    with listening(place.address):
        place.state.chmod(0o777)
        found = serving.socket_file(place, place.address)
    assert found.verdict is Verdict.FAILURE
    assert "in place of supervisor.sock" in found.seen


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"mode": 0o660}, None),
        ({"mode": 0o660, "uid": os.getuid(), "gid": os.getgid()}, None),
        ({"mode": 0o600}, "mode 0660, not 0600"),
        ({"mode": 0o660, "gid": 54321}, f"group {os.getgid()}, not 54321"),
    ],
)
def test_scoped_sockets_are_as_configured(place: Place, wanted: dict[str, int], words: str | None) -> None:
    path = place.state / "ci.sock"
    scoped = ScopedSocket("ci", path, **wanted)
    assert serving.scoped_socket(place, scoped) is None
    with listening(path):
        found = serving.scoped_socket(place, scoped)
    if words is None:
        assert found.verdict is Verdict.OK
    else:
        assert found.verdict is Verdict.FAILURE
        assert words in found.seen


@pytest.mark.root
def test_somebody_else_with_the_store_open(place: Place) -> None:
    place.root.mkdir()
    assert serving.store_users(place) is None
    with place.store.open("w"):
        found = serving.store_users(place)
        assert found.verdict is Verdict.WARNING
        assert f"process {os.getpid()}" in found.seen
        with locked(place.root / "lock"):
            assert serving.store_users(place).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("shown", "verdict", "words"),
    [
        ({"LoadState": "not-found"}, Verdict.OK, "no unit"),
        ({"LoadState": "loaded", "KillMode": "process", "Delegate": "yes"}, Verdict.OK, "Delegate=yes"),
        ({"LoadState": "loaded", "KillMode": "process", "Delegate": "no"}, Verdict.WARNING, "Delegate"),
        ({"LoadState": "loaded", "KillMode": "control-group", "Delegate": "yes"}, Verdict.FAILURE, "shim"),
        ({"LoadState": "loaded", "KillMode": "mixed", "Delegate": "yes"}, Verdict.FAILURE, "mixed"),
    ],
)
def test_units(shown: dict[str, str], verdict: Verdict, words: str) -> None:
    found = serving.unit_finding("s.service", shown)
    assert found.verdict is verdict
    assert words in found.seen


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/container-supervisor.service\n", "container-supervisor.service"),
        ("4:memory:/a\n1:name=systemd:/system.slice/own.service\n0::/\n", "own.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("4:memory:/system.slice/other.service\n0::/\n", ""),
    ],
)
def test_the_unit_of_a_process(tmp_path: Path, text: str, unit: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(text)
    assert serving.unit_of(7, tmp_path) == unit
