import socket
from pathlib import Path

import pytest

from supervisor.kernel.sockets import within_limit


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_a_socket_is_bound_and_reached_whatever_its_path(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["x" * 100] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with within_limit(path) as short:
            listener.bind(short)
        listener.listen()
        assert path.is_socket()
        with within_limit(path) as short:
            client.connect(short)
        accepted, _ = listener.accept()
        accepted.close()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    missing = tmp_path / ("y" * 120)
    with pytest.raises(FileNotFoundError, match="yyy"), within_limit(missing / "s"):
        pass
