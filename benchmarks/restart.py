"""How long a killed daemon is away: N containers run, the next daemon is started, all of them are asked for.

    python -m benchmarks.restart [--containers 100] [--rounds 5]

Prints, per round, seconds from starting the daemon's process until it answers, and until it lists every
container; and at the end whether any exit event was lost or doubled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import grpc

from supervisor.api.services.tasks.v1 import tasks_pb2 as pb
from supervisor.api.services.tasks.v1.tasks_pb2_grpc import TasksStub
from supervisor.api.types.task.task_pb2 import Status
from supervisor.kernel.sockets import is_listened_at
from tests.conformance.driving import Bench
from tests.faults import records
from tests.faults.conftest import a_bench


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with a_bench() as bench:
        boxes = [bench.running(f"c{number}", "sleep", "100000") for number in range(args.containers)]
        times = [_restart(bench, args.containers) for _ in range(args.rounds)]
        for answered, listed, used in times:
            print(
                f"answers after {answered:.2f} s, lists {args.containers} running after {listed:.2f} s,"
                f" having used {used:.2f} s of processor time"
            )
        for box in boxes:
            box.end()
            box.delete()
        told = Counter(container for container, _, _ in records.exits(bench.target.root))
    lost = args.containers - len(told)
    doubled = sum(count - 1 for count in told.values())
    median = statistics.median(listed for _, listed, _ in times)
    print(f"median: {median:.2f} s; exits lost {lost}, doubled {doubled}")


def _restart(bench: Bench, wanted: int) -> tuple[float, float, float]:
    """Kill the daemon, start another; when it answers, when all are listed as running, what that took."""
    bench.target.kill()
    began = time.monotonic()
    bench.target.launch()
    while not is_listened_at(str(bench.target.address)):
        time.sleep(0.005)
    answered = 0.0
    # A channel of its own: one that was there before waits for a second until it connects again.
    with grpc.insecure_channel(f"unix:{bench.target.address}") as channel:
        tasks = TasksStub(channel)
        while True:
            found = tasks.List(pb.ListTasksRequest(), metadata=bench.api.metadata())
            answered = answered or time.monotonic() - began
            if sum(one.status == Status.RUNNING for one in found.tasks) == wanted:
                return answered, time.monotonic() - began, _used(bench)


def _used(bench: Bench) -> float:
    """Processor time of the daemon so far: what counts on a machine that others use too."""
    assert bench.target.process is not None
    words = Path(f"/proc/{bench.target.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
