"""Daemons to measure: ours and Debian's containerd, each on fresh private folders below one parent.

One parent, because on some file systems the cost of a file depends on the folder it is made in.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

OURS = "container-supervisor"
THEIRS = "containerd"

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_CONTAINERD_CONFIG = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'


def _command(name: str, folder: Path) -> list[str]:
    places = [f"--root={folder}/root", f"--state={folder}/state", f"--address={folder}/d.sock"]
    if name == OURS:
        return [f"{sys.prefix}/bin/container-supervisor", "serve", *places, "--log-level=warning"]
    config = folder / "config.toml"
    config.write_text(_CONTAINERD_CONFIG)
    return [THEIRS, f"--config={config}", *places, "--log-level=warn"]


@contextmanager
def running(name: str, parent: Path, wrapper: tuple[str, ...] = ()) -> Iterator[Path]:
    """Start a daemon and wait until it answers; its socket. Stopped at the end, its folder kept.

    `wrapper` is a command to start it with, for instance a profiler.
    """
    folder = parent / ("ours" if name == OURS else "theirs")  # short: sockets' paths are limited
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*wrapper, *_command(name, folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        address = folder / "d.sock"
        _wait_until_it_answers(process, address, folder / "log")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        with grpc.insecure_channel(f"unix:{address}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
                return
            except grpc.FutureTimeoutError:
                continue
    raise SystemExit(f"{process.args} does not answer within {_START_SECONDS:.0f} s")
