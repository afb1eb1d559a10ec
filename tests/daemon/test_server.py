"""The daemon as a process: its socket, its locks, its end."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from supervisor.api.services.containers.v1 import containers_pb2, containers_pb2_grpc

pytestmark = pytest.mark.root

COMMAND = [sys.executable, "-c", "from supervisor.daemon.command import main; raise SystemExit(main())"]


def serve(folder: Path, *more: str) -> list[str]:
    return [*COMMAND, "serve", "--root", str(folder / "root"), "--state", str(folder / "state"), *more]


def is_serving(folder: Path) -> bool:
    with grpc.insecure_channel(f"unix:{folder}/state/supervisor.sock") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30
        )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def running(
    folder: Path, *more: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        serve(folder, *more), stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_socket_is_for_owner_and_group_only(tmp_path: Path) -> None:
    with running(tmp_path):
        assert is_serving(tmp_path)
        for name in ("supervisor.sock", "supervisor.sock.ttrpc"):
            assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o660


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_success(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as process:
        assert is_serving(tmp_path)
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_a_second_daemon_on_the_same_folders_says_who_holds_them(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        assert is_serving(tmp_path)
        second = subprocess.run(serve(tmp_path), capture_output=True, text=True, timeout=30)
        assert second.returncode == 1
        assert f"locked by process {process.pid}" in second.stderr
        assert "another daemon uses" in second.stderr
        assert is_serving(tmp_path)


def test_messages_have_sixteen_mebibytes_at_most(tmp_path: Path) -> None:
    """Contract 1.1: each way; gRPC itself would refuse more than four."""
    with running(tmp_path):
        assert is_serving(tmp_path)
        with grpc.insecure_channel(f"unix:{tmp_path}/state/supervisor.sock") as channel:
            stub = containers_pb2_grpc.ContainersStub(channel)
            for mebibytes, code in ((15, "NOT_FOUND"), (17, "RESOURCE_EXHAUSTED")):
                request = containers_pb2.GetContainerRequest(id="x" * (mebibytes << 20))
                with pytest.raises(grpc.RpcError) as raised:
                    stub.Get(request, metadata=(("containerd-namespace", "blue"),))
                assert raised.value.code().name == code


def test_after_a_kill_the_next_one_takes_the_socket(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        assert is_serving(tmp_path)
        process.kill()
        process.wait()
    with running(tmp_path):
        assert is_serving(tmp_path)


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        with running(tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            assert manager.recv(100) == b"READY=1"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            process.communicate(timeout=30)


def test_a_damaged_store_is_set_aside_and_said(tmp_path: Path) -> None:
    rubbish = b"no database" * 1000
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "metadata.db").write_bytes(rubbish)
    with running(tmp_path) as process:
        assert is_serving(tmp_path)
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert "metadata.db is lost: it is damaged: file is not a database" in log
    assert "Traceback" not in log
    (aside,) = (tmp_path / "root" / "set-aside").glob("*/metadata.db")
    assert aside.read_bytes() == rubbish


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--address", "/" + "x" * 200), "at most 101 bytes"),
        (("--address", "relative.sock"), "must be an absolute path"),
        (("--state", "relative"), "state folder 'relative' must be an absolute path"),
        (("--root", "relative"), "root folder 'relative' must be an absolute path"),
    ],
)
def test_paths_that_cannot_work_are_refused_at_once(
    tmp_path: Path, flags: tuple[str, str], complaint: str
) -> None:
    done = subprocess.run(serve(tmp_path, *flags), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
