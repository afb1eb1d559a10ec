"""A daemon, and `sctr` in a namespace of the test's own. `COMPAT_TARGET=containerd` takes containerd."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import a_target
from tests.compat.target import Target
from tests.images import TAG, busybox_oci_tar


@dataclass(frozen=True, slots=True)
class Sctr:
    """`sctr --address A --namespace N`."""

    address: Path
    namespace: str

    def command(self, *words: str) -> list[str]:
        place = ["--address", str(self.address), "--namespace", self.namespace]
        return [f"{sys.prefix}/bin/sctr", *place, *words]

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.command(*words), input=stdin, capture_output=True, timeout=90)

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.returncode}: {done.stderr.decode()}"
        return done.stdout.decode()

    def json(self, *words: str) -> Any:
        return json.loads(self.ok("--output", "json", *words))

    def fails(self, *words: str, code: int = 125) -> str:
        done = self.run(*words)
        assert done.returncode == code, f"{words}: {done.returncode}: {done.stderr.decode()}"
        return done.stderr.decode()

    @contextmanager
    def running(self, *words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on; killed at the end if it has not ended."""
        with subprocess.Popen(self.command(*words), **streams) as process:
            try:
                yield process
            finally:
                process.kill()


def emptied(sctr: Sctr) -> None:
    for name in sctr.ok("ps", "-aq").split():
        sctr.run("rm", "-f", name)
    for name in sctr.ok("images", "ls", "-q").split():
        sctr.ok("images", "rm", "--sync", name)


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The daemon that most tests of this folder share."""
    with a_target() as target:
        yield target


@pytest.fixture
def own_target() -> Iterator[Target]:
    """A daemon for a test that kills it."""
    with a_target() as target:
        yield target


@pytest.fixture(scope="session")
def image_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ordinary image."""
    return busybox_oci_tar(tmp_path_factory.mktemp("images") / "busybox.tar")


def client_of(target: Target) -> Sctr:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    target.namespaces.append(name)
    return Sctr(target.address, name)


@pytest.fixture
def sctr(target: Target) -> Iterator[Sctr]:
    """A client in an empty namespace, which is emptied again."""
    client = client_of(target)
    yield client
    emptied(client)
    assert not list(target.folder.glob("fifo/*"))
    assert not list(target.root.glob("logs/*"))


@pytest.fixture
def image(sctr: Sctr, image_tar: Path) -> str:
    """The ordinary image, imported; its name."""
    sctr.ok("images", "import", str(image_tar))
    return TAG
