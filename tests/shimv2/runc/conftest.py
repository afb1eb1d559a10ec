"""Fixtures around the shim's binary: a folder, a daemon's event socket, a root filesystem, the shim."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.shimv2.runc.driving import APPLETS, Events, Listening, Shim, Stdio


@pytest.fixture
def listening() -> Iterator[Listening]:
    running = Listening()
    yield running
    running.end()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name of 64 digits."""
    path = Path("/run") / f"shimtest-{uuid4().hex[:8]}"
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def event_sink(short_dir: Path) -> Iterator[Events]:
    sink = Events(short_dir / "d.ttrpc")
    yield sink
    sink.vanish()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem with nothing but busybox."""
    root = tmp_path_factory.mktemp("busybox")
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    return root


@pytest.fixture
def shim(short_dir: Path, busybox: Path, event_sink: Events) -> Iterator[Shim]:
    driven = Shim(short_dir, busybox, event_sink)
    try:
        yield driven
    finally:
        driven.end()


@pytest.fixture
def fifos(tmp_path: Path) -> Callable[..., Stdio]:
    """Makes a client's fifos."""
    return lambda *names: Stdio(tmp_path).with_fifos(*names)
