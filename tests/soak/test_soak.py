"""A daemon that works for long: what it and its launcher hold must not grow with what they have done.

Clients come and go, containers are run, executed in, paused, killed and removed, images come and are
collected. When all is removed again the daemon is measured; rounds of this follow each other for
`SOAK` seconds, and what was measured half-way must hold at the end. The short form is part of every run of
the tests; `make soak` runs for an hour.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from supervisor.api.services.supervisor import gc_pb2, gc_pb2_grpc
from tests.compat.conftest import a_target
from tests.compat.ctr import Ctr
from tests.compat.program import eventually
from tests.compat.target import CONTAINERD, Target
from tests.images import TAG, busybox_oci_tar

SECONDS = float(os.environ.get("SOAK", "20"))
CLIENTS = 4
LIVES = 5
"""What each client does in one round, so many times."""
NAMESPACE = "soak"

MOST_THREADS = 40
"""The event loop's, the store's writer's, and the pool's, which has 32."""
GROWTH_KIB = 4096
"""What memory may differ by: the allocator's arenas are not given back one by one."""
CONFIG = "[events]\nkeep = 200\n[tasks]\nkeep_exits = 100\n"
"""Little is kept of what has been, so that the store is soon as large as it gets."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.compat,
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 300),
    pytest.mark.skipif(CONTAINERD, reason="it is our own daemon that is measured"),
]


@dataclass(frozen=True, slots=True)
class Held:
    """What the daemon's processes hold while there is nothing to do."""

    descriptors: dict[str, int]
    threads: dict[str, int]
    memory_kib: dict[str, int]
    state_files: int
    root_files: int


@pytest.fixture
def target() -> Iterator[Target]:
    """A daemon that has loaded an image."""
    with a_target(config=CONFIG) as made:
        yield made


def test_nothing_grows(target: Target, tmp_path: Path) -> None:
    archive = busybox_oci_tar(tmp_path / "image.tar")
    start = time.monotonic()
    # Threads are made, SQLite's and the allocator's caches are filled: that takes hundreds of containers.
    half_way = after_some_rounds(target, archive, start + SECONDS / 2)
    end = after_some_rounds(target, archive, start + SECONDS)
    assert end.descriptors == half_way.descriptors
    assert end.state_files == half_way.state_files
    assert end.root_files == half_way.root_files
    assert end.threads["launcher"] == 1
    assert end.threads["daemon"] < MOST_THREADS
    grown = {name: end.memory_kib[name] - before for name, before in half_way.memory_kib.items()}
    assert max(grown.values()) < GROWTH_KIB, grown


def after_some_rounds(target: Target, archive: Path, until: float) -> Held:
    """What is held after one round at least, and as many as there is time for."""
    while True:
        work_for_a_round(target, archive)
        found = held(target)
        print(found, flush=True)
        if time.monotonic() > until:
            return found


def work_for_a_round(target: Target, archive: Path) -> None:
    """Have some clients live some lives at the same time, and an image come and go meanwhile."""
    ctr = target.ctr(NAMESPACE)
    ctr.run("images", "import", str(archive))
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda number: some_lives(ctr, f"c{number}"), range(CLIENTS)))
    ctr.run("images", "rm", TAG)


def some_lives(ctr: Ctr, name: str) -> None:
    """Output is not looked at: under load `ctr` itself loses some, whatever daemon it talks to."""
    for _ in range(LIVES):
        assert ctr.run("run", "--rm", TAG, name, "sh", "-c", "echo here; exit 3", check=False).returncode == 3
        assert ctr.run("run", "--rm", TAG, name, "/nonexistent", check=False).returncode
        ctr.run("run", "--detach", TAG, name, "sleep", "1000")
        ctr.run("tasks", "exec", "--exec-id", "e", name, "echo", "in")
        ctr.run("tasks", "metrics", name)
        ctr.run("tasks", "pause", name)
        ctr.run("tasks", "resume", name)
        ctr.remove(name)


def held(target: Target) -> Held:
    """Measure, when what goes on in the background has come to its end."""
    collect(target)
    eventually(lambda: not target.leftovers(NAMESPACE), what="an end without leftovers")
    eventually(lambda: counted(target.root) == counted(target.root, later=0.3), what="a root at rest")
    assert target.process is not None
    processes = {"daemon": target.process.pid, "launcher": launcher_of(target.process.pid)}
    return Held(
        {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in processes.items()},
        {name: len(os.listdir(f"/proc/{pid}/task")) for name, pid in processes.items()},
        {name: private_kib(pid) for name, pid in processes.items()},
        counted(target.state),
        counted(target.root),
    )


def collect(target: Target) -> None:
    with grpc.insecure_channel(f"unix:{target.address}") as channel:
        gc_pb2_grpc.CollectorStub(channel).Run(gc_pb2.RunRequest(), timeout=60)


def counted(folder: Path, *, later: float = 0) -> int:
    """How many files there are."""
    time.sleep(later)
    return sum(len(files) + len(folders) for _, folders, files in os.walk(folder))


def launcher_of(daemon: int) -> int:
    """The one child of the daemon that stays."""
    children = {
        int(pid)
        for task in Path(f"/proc/{daemon}/task").iterdir()
        for pid in (task / "children").read_text().split()
    }
    (launcher,) = [pid for pid in children if b"launch" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return launcher


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
