"""Containers of one group in one shim, as those of a pod are: contract tasks 2.5."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat.conftest import eventually_clean
from tests.conformance.driving import Bench, Box, holds

POD = {"io.kubernetes.cri.sandbox-id": "pod"}
NAMES = ("pod", "one", "two")
SLEEP = ("sleep", "1000")
JOINS, DELETION_SECONDS = 12, 0.03
"""How often one joins, and over how long a time after the beginning of a deletion."""
UNTIL_TOLD = ("sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 9")


def member(bench: Bench, name: str, *args: str) -> Box:
    """A running container of the pod."""
    return bench.running(name, *(args or SLEEP), annotations=POD)


def shim_of(box: Box) -> int:
    """The parent of the container's first process."""
    return int(Path(f"/proc/{box.get().pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_over(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def sockets(bench: Bench) -> list[Path]:
    """Of our daemon's shims; containerd's are all in one place with those of others."""
    return list((bench.target.state / "s").glob("*"))


def works(box: Box, exec_id: str) -> None:
    """Have it do something new."""
    box.exec(exec_id, "sh", "-c", "exit 3")
    box.start(exec_id)
    assert box.wait(exec_id).exit_status == 3


def test_members_share_a_shim_which_ends_with_the_last(bench: Bench) -> None:
    boxes = [member(bench, name) for name in NAMES]
    (shim,) = {shim_of(box) for box in boxes}
    stranger = bench.running("other", *SLEEP)
    assert shim_of(stranger) != shim
    first, second, third = boxes
    # The first one's bundle is where the shim stands.
    assert (first.end(), first.delete().exit_status) == (137, 137)
    assert [box.status() for box in (second, third)] == ["RUNNING", "RUNNING"]
    works(second, "e")
    late = member(bench, "late")
    assert shim_of(late) == shim
    again = first.create()
    first.start()
    assert (first.get().pid, shim_of(first)) == (again, shim)
    for box in (third, late, first):
        box.end()
        box.delete()
    assert not is_over(shim)
    works(second, "f")
    second.end()
    second.delete()
    holds(lambda: is_over(shim), "the end of the shim with its last container")
    assert stranger.status() == "RUNNING"


def test_members_outlive_the_daemon(bench: Bench) -> None:
    """One ends meanwhile, another is deleted by the next daemon, a new one joins."""
    first, second = member(bench, "pod"), member(bench, "one")
    ends = member(bench, "two", *UNTIL_TOLD)
    shim, pids = shim_of(first), [box.get().pid for box in (first, second, ends)]
    bench.target.kill()
    (bench.rootfs / "tmp/end").touch()
    holds(lambda: is_over(pids[2]), "the end of a container meanwhile")
    (bench.rootfs / "tmp/end").unlink()
    bench.target.start()
    assert [box.get().pid for box in (first, second)] == pids[:2]
    if bench.target.keeps_what_ended:
        assert (ends.status(), ends.delete().exit_status) == ("STOPPED", 9)
    assert first.end() == 137
    first.delete()
    works(second, "e")
    late = member(bench, "late")
    assert {shim_of(late), shim_of(second)} == {shim}
    bench.target.kill()
    bench.target.start()
    for box in (second, late):
        assert box.status() == "RUNNING"
        assert box.end() == 137
        box.delete()
    holds(lambda: is_over(shim), "the end of the shim with its last container")


def test_members_end_with_a_shim_that_is_killed(bench: Bench) -> None:
    before = sockets(bench)
    boxes = [member(bench, name) for name in NAMES]
    shim, pids = shim_of(boxes[0]), [box.get().pid for box in boxes]
    os.kill(shim, signal.SIGKILL)
    holds(lambda: all(map(is_over, pids)), "the end of the containers")
    assert not eventually_clean(bench.target, bench.api.namespace)
    assert sockets(bench) == before
    again = member(bench, "again")
    assert again.status() == "RUNNING"


def test_a_shim_that_is_gone_when_the_daemon_comes(bench: Bench) -> None:
    before = sockets(bench)
    boxes = [member(bench, name) for name in NAMES]
    shim, pids = shim_of(boxes[0]), [box.get().pid for box in boxes]
    bench.target.kill()
    os.kill(shim, signal.SIGKILL)
    bench.target.start()
    holds(lambda: all(map(is_over, pids)), "the end of the containers")
    assert not eventually_clean(bench.target, bench.api.namespace)
    assert sockets(bench) == before


def test_members_come_and_go_at_once(bench: Bench) -> None:
    if bench.cell.containerd or bench.cell.shim != "ours":
        pytest.skip("two starts of one group can both spawn there")
    boxes = [bench.box(f"m{number}", *SLEEP, annotations=POD) for number in range(6)]
    with ThreadPoolExecutor(len(boxes)) as threads:
        list(threads.map(Box.create, boxes))
        list(threads.map(Box.start, boxes))
        (shim,) = {shim_of(box) for box in boxes}
        list(threads.map(Box.end, boxes))
        list(threads.map(Box.delete, boxes))
    holds(lambda: is_over(shim), "the end of the shim with its last container")
    assert not eventually_clean(bench.target, bench.api.namespace)


def test_one_joins_while_the_last_leaves(bench: Bench) -> None:
    """The shim that it finds may end before it can ask anything of it."""
    if bench.cell.containerd or bench.cell.shim != "ours":
        pytest.skip("another shim ends as it was told, whoever joins meanwhile")
    last = member(bench, "m0", *SLEEP)
    with ThreadPoolExecutor(1) as threads:
        for number in range(1, JOINS):
            last.end()
            joining = bench.box(f"m{number}", *SLEEP, annotations=POD)
            leaving = threads.submit(last.delete)
            time.sleep(number / JOINS * DELETION_SECONDS)
            joining.create()
            joining.start()
            leaving.result()
            last = joining
            assert last.status() == "RUNNING"
    last.end()
    last.delete()
    assert not eventually_clean(bench.target, bench.api.namespace)
