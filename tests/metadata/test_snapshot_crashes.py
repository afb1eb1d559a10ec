"""The order of durability (architecture 4): SIGKILL at any moment, then reconcile, and all agrees."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supervisor.errors import AlreadyExists
from supervisor.metadata.database import Database
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.metadata.snapshots import Snapshots
from supervisor.snapshots.overlay import OverlaySnapshotter
from supervisor.snapshots.snapshotter import Kind
from tests.metadata.snapshot_worker import PLACE

WORKER = Path(__file__).with_name("snapshot_worker.py")


def run_until_killed(root: Path, start: int, lines: int, *dying: str) -> set[str]:
    """Let the worker print some lines, kill it if it lives, and say which snapshots were promised."""
    command = [sys.executable, str(WORKER), str(root), str(start), *dying]
    promised: set[str] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for count, line in enumerate(worker.stdout, 1):
            if count == lines:
                worker.kill()
            for word in line.split():
                if line.endswith("\n"):
                    promised.add(word[1:]) if word[0] == "+" else promised.discard(word[1:])
    return promised


def check(root: Path, promised: set[str]) -> None:
    driver = OverlaySnapshotter(root / "overlayfs")
    with Database(root / "metadata.db") as database:
        snapshots = Snapshots(database, [driver])
        snapshots.reconcile()
        infos = {info.name: info for info in snapshots.list(PLACE)}
        # The last commit may have happened without its answer being heard.
        moved = {name for name in promised if name[0] == "a" and f"c{name[1:]}" in infos}
        assert promised - moved <= set(infos)
        assert len(driver.numbers()) == len(infos)
        assert list((root / "overlayfs/trash").iterdir()) == []
        for info in infos.values():
            if info.kind is Kind.COMMITTED:
                assert snapshots.usage(PLACE, info.name).inodes == 2
        for name in sorted(infos, key=lambda name: (name[0] == "c", -int(name[1:]))):
            snapshots.remove(PLACE, name)
        assert driver.numbers() == set()


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("method", ["create", "commit", "remove", "cleanup"])
def test_killed_between_files_and_row(tmp_path: Path, method: str, calls: int) -> None:
    check(tmp_path, run_until_killed(tmp_path, 0, 1000, method, str(calls)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    promised: set[str] = set()
    for start in (0, 1000):
        promised |= run_until_killed(tmp_path, start, choose.randint(1, 40))
    check(tmp_path, promised)


def test_many_threads_prepare_commit_and_remove(database: Database, tmp_path: Path) -> None:
    """Each name is given once, each folder has its row, and nothing is left when all is removed."""
    driver = OverlaySnapshotter(tmp_path / "overlayfs")
    snapshots = Snapshots(database, [driver])
    snapshots.prepare(PLACE, New("base"))
    snapshots.commit(PLACE, Finished("base", "root"))
    won: list[str] = []
    failed: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(10):
                key = f"{thread}-{number}"
                snapshots.prepare(PLACE, New(key, "root"))
                if number % 2:
                    snapshots.remove(PLACE, key)
                else:
                    snapshots.commit(PLACE, Finished(key, f"done {key}"))
            won.extend(_race(snapshots))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(won) == [f"shared {number}" for number in range(5)]
    names = [info.name for info in snapshots.list(PLACE)]
    assert len(names) == 16 * 5 + 5 + 1 == len(driver.numbers())
    for name in names:
        if name != "root":
            snapshots.remove(PLACE, name)
    snapshots.remove(PLACE, "root")
    assert driver.numbers() == set()


def _race(snapshots: Snapshots) -> list[str]:
    """All threads ask for the same keys; which ones this thread got."""
    got = []
    for number in range(5):
        try:
            snapshots.prepare(PLACE, New(f"shared {number}", "root"))
        except AlreadyExists:
            continue
        got.append(f"shared {number}")
    return got
