"""How fast records are written and read: `python -m benchmarks.metadata [--vs containerd]`.

Containers.Create and Get with 1 and with 16 clients at once, and filtered lists of all that was
created. The same client for both daemons: generated stubs of grpcio, in processes of their own, so
that a client's interpreter is not what is measured. Every Create is answered when it is on disk.
The daemons take turns, round by round, on fresh folders below one parent; the figures are those of
the median round. Ratios are of the time per call (ours / theirs): only they are worth comparing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from google.protobuf.any_pb2 import Any

from benchmarks.daemons import OURS, THEIRS, running
from supervisor.api.services.containers.v1 import containers_pb2 as pb
from supervisor.api.services.containers.v1 import containers_pb2_grpc as rpc
from supervisor.model.any import SPEC_TYPE_URL
from supervisor.oci import runtime

NAMESPACE = (("containerd-namespace", "bench"),)
APPLICATIONS = 100
"""Every container belongs to one of these by a label: a filter on it finds a hundredth."""

FILTERS = {
    "one label of 1 in 100": 'labels."example.com/app"==app-7',
    "a label and a prefix": 'labels."example.com/app"==app-7,id~=^bench-',
    "one id": "id==bench-16-0-1-7",
    "nothing": 'labels."example.com/app"==none',
}

_SPEC = json.dumps(
    runtime.default_spec(runtime.process(["/bin/sh", "-c", "sleep 1000"]), cgroups_path="/bench/some")
).encode()


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of calls took: seconds of each call, and of all together."""

    latencies: Sequence[float]
    elapsed: float

    @property
    def per_call(self) -> float:
        """Milliseconds of wall time per call that was answered."""
        return self.elapsed / len(self.latencies) * 1000

    def quantile(self, share: float) -> float:
        """Milliseconds within which this share of the calls was answered."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))] * 1000


def _container(id_: str, number: int) -> pb.Container:
    return pb.Container(
        id=id_,
        image="docker.io/library/busybox:latest",
        runtime=pb.Container.Runtime(name="io.containerd.runc.v2"),
        spec=Any(type_url=SPEC_TYPE_URL, value=_SPEC),
        snapshotter="overlayfs",
        snapshot_key=id_,
        labels={"example.com/app": f"app-{number % APPLICATIONS}", "example.com/id": id_},
    )


def _channel(address: Path) -> grpc.Channel:
    # Threads of one process would share a connection if they could; clients do not.
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 256 << 20))
    return grpc.insecure_channel(f"unix:{address}", options=options)


Call = Callable[[rpc.ContainersStub, str, int], object]


def _create(stub: rpc.ContainersStub, id_: str, number: int) -> object:
    return stub.Create(pb.CreateContainerRequest(container=_container(id_, number)), metadata=NAMESPACE)


def _get(stub: rpc.ContainersStub, id_: str, number: int) -> object:
    return stub.Get(pb.GetContainerRequest(id=id_), metadata=NAMESPACE)


def _client(address: Path, call: Call, ids: Sequence[tuple[str, int]], start: float) -> list[float]:
    with _channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        stub = rpc.ContainersStub(channel)
        time.sleep(max(0.0, start - time.time()))
        latencies = []
        for id_, number in ids:
            before = time.perf_counter()
            call(stub, id_, number)
            latencies.append(time.perf_counter() - before)
        return latencies


def _process(address: Path, call: Call, shares: Sequence[Sequence[tuple[str, int]]], start: float) -> Round:
    """Run one client per share, each in a thread."""
    found: list[list[float]] = [[] for _ in shares]

    def run(place: int) -> None:
        found[place] = _client(address, call, shares[place], start)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Round(list(itertools.chain.from_iterable(found)), time.time() - start)


def _round(
    pool: ProcessPoolExecutor, processes: int, address: Path, call: Call, clients: int, calls: int, name: str
) -> Round:
    """`calls` calls from `clients` clients at once, spread over processes."""
    each = calls // clients
    shares = [[(f"bench-{name}-{c}-{n}", c * each + n) for n in range(each)] for c in range(clients)]
    groups = [group for p in range(processes) if (group := shares[p::processes])]
    start = time.time() + 0.5
    parts = list(pool.map(partial(_process, address, call, start=start), groups))
    latencies = list(itertools.chain.from_iterable(part.latencies for part in parts))
    return Round(latencies, max(part.elapsed for part in parts))


def _median(rounds: Iterable[Round]) -> Round:
    ordered = sorted(rounds, key=lambda one: one.per_call)
    return ordered[len(ordered) // 2]


def _list(address: Path, filters: Sequence[str], times: int) -> tuple[float, int]:
    """The median of some filtered lists in milliseconds, and how many were found."""
    taken, found = [], 0
    with _channel(address) as channel:
        stub = rpc.ContainersStub(channel)
        for _ in range(times):
            before = time.perf_counter()
            # All of them are more than one message may hold.
            request = pb.ListContainersRequest(filters=filters)
            found = sum(1 for _ in stub.ListStream(request, metadata=NAMESPACE))
            taken.append(time.perf_counter() - before)
    return statistics.median(taken) * 1000, found


def _report(title: str, unit: str, figures: dict[str, float], note: str = "") -> None:
    text = "  ".join(f"{name} {value:9.3f} {unit}" for name, value in figures.items())
    ratio = f"  ratio {figures[OURS] / figures[THEIRS]:5.2f}" if THEIRS in figures else ""
    print(f"{title:<34} {text}{ratio}  {note}", flush=True)


def _measure(daemons: dict[str, Path], options: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")  # grpc does not survive a fork
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        for verb, call in (("Create", _create), ("Get", _get)):
            for clients in (1, 16):
                rounds: dict[str, list[Round]] = {name: [] for name in daemons}
                for number in range(options.rounds):
                    for name, address in daemons.items():
                        label = f"{clients}-{number}"
                        calls = options.calls if clients > 1 else options.calls // 4
                        rounds[name].append(
                            _round(pool, options.processes, address, call, clients, calls, label)
                        )
                medians = {name: _median(some) for name, some in rounds.items()}
                per_call = {name: one.per_call for name, one in medians.items()}
                rates = ", ".join(
                    f"{1000 / one.per_call:.0f}/s p50 {one.quantile(0.5):.2f} p99 {one.quantile(0.99):.2f}"
                    for one in medians.values()
                )
                _report(f"{verb}, {clients} client{'s' * (clients > 1)}", "ms/call", per_call, f"({rates})")
    for title, text in ({"all": ""} | FILTERS).items():
        found = {name: _list(address, [text], 9) for name, address in daemons.items()}
        counts = {count for _, count in found.values()}
        assert len(counts) == 1, f"the daemons differ about {text}: {found}"
        _report(
            f"List, {title}", "ms", {name: taken for name, (taken, _) in found.items()}, f"({counts} found)"
        )


def main() -> None:
    """Start the daemons, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vs", choices=(THEIRS,), help="measure this daemon too, in the same run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=3200, help="calls of a round with 16 clients")
    parser.add_argument("--processes", type=int, default=2, help="processes that 16 clients share")
    parser.add_argument("--parent", type=Path, help="folder below which the daemons' folders are made")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="b-", dir=options.parent)))
        names = (OURS, options.vs) if options.vs else (OURS,)
        _measure({name: stack.enter_context(running(name, folder)) for name in names}, options)


if __name__ == "__main__":
    main()
