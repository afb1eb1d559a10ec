"""Much of it: a long stream, many containers one after the other, many at once."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.compat.ctr import Ctr

MEGABYTES = 100
IN_A_ROW = 50
AT_ONCE = 20


@pytest.mark.timeout(300)
def test_a_long_stream_comes_whole(ctr: Ctr, image: str) -> None:
    pattern = "yes 0123456789abcdef | head -c $((100 * 1024 * 1024))"
    expected = hashlib.sha256((b"0123456789abcdef\n" * (MEGABYTES << 16))[: MEGABYTES << 20]).hexdigest()
    with ctr.running("run", "--rm", image, "c", "sh", "-c", pattern) as run:
        assert run.stdout is not None
        received = hashlib.sha256()
        while data := run.stdout.read(1 << 20):
            received.update(data)
        assert run.wait(timeout=60) == 0
    assert received.hexdigest() == expected


@pytest.mark.timeout(300)
def test_many_in_a_row(ctr: Ctr, image: str) -> None:
    for number in range(IN_A_ROW):
        status = number % 3
        answer = ctr.run("run", "--rm", image, "c", "sh", "-c", f"echo {number}; exit {status}", check=False)
        assert (answer.returncode, answer.stdout, answer.stderr) == (status, f"{number}\n", "")


@pytest.mark.timeout(300)
def test_many_at_once(ctr: Ctr, image: str) -> None:
    def run(number: int) -> tuple[int, str, str]:
        answer = ctr.run(
            "run", "--rm", image, f"c{number}", "sh", "-c", f"echo {number}; exit 3", check=False
        )
        return answer.returncode, answer.stdout, answer.stderr

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(run, range(AT_ONCE))) == [(3, f"{number}\n", "") for number in range(AT_ONCE)]


@pytest.mark.timeout(300)
def test_many_running_side_by_side(ctr: Ctr, image: str) -> None:
    names = [f"c{number}" for number in range(AT_ONCE)]
    for name in names:
        ctr.run("run", "-d", image, name, "sleep", "1000")
    assert sorted(row[0] for row in ctr.table("tasks", "ls") if row[2] == "RUNNING") == sorted(names)
    for name in names:
        ctr.remove(name)
