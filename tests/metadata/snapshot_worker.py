"""Prepares, commits and removes snapshots until it is killed; run by test_snapshot_crashes.

Prints a line for every answer, so that the test knows what was promised.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

from supervisor.metadata.database import Database
from supervisor.metadata.snapshot_rows import Place
from supervisor.metadata.snapshot_rules import Finished, New
from supervisor.metadata.snapshots import Snapshots
from supervisor.model.identifiers import namespace
from supervisor.snapshots.overlay import OverlaySnapshotter

PLACE = Place(namespace("blue"), "overlayfs")


def dying(driver: OverlaySnapshotter, method: str, calls: int) -> OverlaySnapshotter:
    """The driver, made to kill this process inside a method's given call: files done, row not."""
    original = getattr(driver, method)
    left = itertools.count(calls - 1, -1)

    def call(*arguments: object) -> object:
        answer = original(*arguments)
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(driver, method, call)
    return driver


def work(root: Path, start: int, method: str = "", calls: int = 0) -> None:
    driver = OverlaySnapshotter(root / "overlayfs")
    if method:
        dying(driver, method, calls)
    with Database(root / "metadata.db") as database:
        snapshots = Snapshots(database, [driver])
        parent = ""
        for number in itertools.count(start):
            (mount, *_) = snapshots.prepare(PLACE, New(f"a{number}", parent))
            upper = next((o for o in mount.options if o.startswith("upperdir=")), f"upperdir={mount.source}")
            (Path(upper.removeprefix("upperdir=")) / "file").write_text(str(number))
            print(f"+a{number}", flush=True)
            snapshots.commit(PLACE, Finished(f"a{number}", f"c{number}"))
            print(f"-a{number} +c{number}", flush=True)
            parent = f"c{number}"
            snapshots.prepare(PLACE, New(f"r{number}", parent))
            snapshots.remove(PLACE, f"r{number}")
            print(f"-r{number}", flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:4], *map(int, sys.argv[4:]))
