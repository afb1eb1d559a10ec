"""How fast containers start and how small shims are: `python -m benchmarks.shim [--vs containerd]`.

Three things: the wall time of `ctr run --rm IMAGE /bin/true`, the time of the Create, Start and
Delete calls of one task, and the memory of each shim while fifty containers sleep (PSS: what is
shared counts in shares). The daemons take turns, run by run, with the same client, the same runtime and
fresh folders on a file system of the benchmark's own (`ground`; not with `--here`). Only the ratios (ours /
theirs, of medians) are worth comparing.

The floor is what is left of a run without a daemon: runc's create, start and delete of the same container,
and a start of `ctr`. No daemon can do better, whatever it is made of.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.daemons import OURS, THEIRS, running
from benchmarks.ground import ground
from supervisor.api.services.snapshots.v1 import snapshots_pb2, snapshots_pb2_grpc
from supervisor.api.services.tasks.v1 import tasks_pb2, tasks_pb2_grpc
from supervisor.api.types.mount_pb2 import Mount
from supervisor.kernel.process import wait_for_exit
from tests.images import TAG, busybox_oci_tar

NAMESPACE = "bench"
METADATA = (("containerd-namespace", NAMESPACE),)
SNAPSHOTTER = "overlayfs"
MEMORY = ("Pss", "Private_Dirty")
_IDLE_SECONDS = 10.0
RUN = "ctr run --rm"
FLOOR = "floor"
BARS = {RUN: 0.7, "Pss": 0.8}


@dataclass(frozen=True, slots=True)
class Peer:
    """A daemon that is measured."""

    name: str
    address: Path

    def ctr(self, *arguments: str) -> None:
        """Run one command of `ctr` to its end."""
        command = ["ctr", "--address", str(self.address), "--namespace", NAMESPACE, *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


Samples = dict[str, list[float]]


class _Timer:
    """Adds the milliseconds of its `with` to a list."""

    def __init__(self, samples: list[float]) -> None:
        self._samples = samples
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._samples.append((time.perf_counter() - self._start) * 1000)


def _run(peer: Peer, number: int, found: Samples) -> None:
    with _Timer(found.setdefault(RUN, [])):
        peer.ctr("run", "--rm", "--snapshotter", SNAPSHOTTER, TAG, f"run-{number}", "/bin/true")


def _lives(peer: Peer, number: int, found: Samples) -> None:
    """One task by plain calls, on a container made beforehand."""
    id_ = f"life-{number}"
    peer.ctr("containers", "create", "--snapshotter", SNAPSHOTTER, TAG, id_, "/bin/true")
    with grpc.insecure_channel(f"unix:{peer.address}") as channel:
        tasks = tasks_pb2_grpc.TasksStub(channel)
        rootfs = _rootfs(channel, id_)
        with _Timer(found.setdefault("Create", [])):
            tasks.Create(tasks_pb2.CreateTaskRequest(container_id=id_, rootfs=rootfs), metadata=METADATA)
        exited = tasks.Wait.future(tasks_pb2.WaitRequest(container_id=id_), metadata=METADATA)
        with _Timer(found.setdefault("Start", [])):
            tasks.Start(tasks_pb2.StartRequest(container_id=id_), metadata=METADATA)
        exited.result()
        with _Timer(found.setdefault("Delete", [])):
            tasks.Delete(tasks_pb2.DeleteTaskRequest(container_id=id_), metadata=METADATA)
    peer.ctr("containers", "rm", id_)


def _rootfs(channel: grpc.Channel, key: str) -> Sequence[Mount]:
    request = snapshots_pb2.MountsRequest(snapshotter=SNAPSHOTTER, key=key)
    return list(snapshots_pb2_grpc.SnapshotsStub(channel).Mounts(request, metadata=METADATA).mounts)


@contextmanager
def _bare(peer: Peer, folder: Path) -> Iterator[Path]:
    """A bundle as daemons make them, for the runtime alone: the root is that of a container that sleeps."""
    peer.ctr("run", "--detach", "--snapshotter", SNAPSHOTTER, TAG, "bare", "sleep", "100000")
    made = peer.address.parent / "state/io.containerd.runtime.v2.task" / NAMESPACE / "bare"
    spec = json.loads((made / "config.json").read_text())
    spec["process"]["args"] = ["/bin/true"]
    spec["root"]["path"] = str(made / "rootfs")
    spec["linux"]["cgroupsPath"] = f"/{NAMESPACE}/alone"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(spec))
    try:
        yield folder
    finally:
        peer.ctr("tasks", "rm", "--force", "bare")
        peer.ctr("containers", "rm", "bare")


def _floor(peer: Peer, bundle: Path, found: Samples) -> None:
    """What is left of a run without a daemon."""
    pid_file = bundle / "pid"
    with _Timer(found.setdefault(FLOOR, [])):
        peer.ctr("version")
        _runc(bundle, "create", "--bundle", str(bundle), "--pid-file", str(pid_file), "alone")
        with _pidfd(int(pid_file.read_text())) as init:
            _runc(bundle, "start", "alone")
            wait_for_exit(init)
        _runc(bundle, "delete", "alone")


def _runc(bundle: Path, *arguments: str) -> None:
    command = ["runc", "--root", str(bundle / "runtime"), *arguments]
    null = subprocess.DEVNULL  # the container has the same streams, and a pipe would wait for its end
    subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """A descriptor of a process."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _sleeping(peer: Peer, count: int) -> Iterator[None]:
    """That many containers that do nothing."""
    names = [f"idle-{number}" for number in range(count)]
    try:
        for name in names:
            peer.ctr("run", "--detach", "--snapshotter", SNAPSHOTTER, TAG, name, "sleep", "100000")
        yield
    finally:
        for name in names:
            peer.ctr("tasks", "rm", "--force", name)
            peer.ctr("containers", "rm", name)


def _shims(peer: Peer) -> list[Path]:
    """The folders in /proc of a daemon's shims: each stands in its bundle."""
    bundles = f"{peer.address.parent}/state/io.containerd.runtime.v2.task/"
    return [place for place in Path("/proc").glob("[0-9]*") if _cwd(place).startswith(bundles)]


def _cwd(process: Path) -> str:
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return ""


def _memory(peer: Peer, count: int) -> Samples:
    """KiB of each shim, once they are idle: what works for one stands in its bundle as well."""
    deadline = time.monotonic() + _IDLE_SECONDS
    while len(places := _shims(peer)) != count and time.monotonic() < deadline:
        time.sleep(0.1)
    if len(places) != count:
        raise SystemExit(f"{peer.name} has {len(places)} shims for {count} containers")
    rollups = [_rollup(place) for place in places]
    return {name: [rollup[name] for rollup in rollups] for name in MEMORY}


def _rollup(place: Path) -> Mapping[str, float]:
    lines = (place / "smaps_rollup").read_text().splitlines()[1:]
    return {name: float(size.split()[0]) for name, size in (line.split(":", 1) for line in lines)}


def _print(name: str, unit: str, found: Mapping[str, Sequence[float]]) -> None:
    medians = {peer: statistics.median(samples) for peer, samples in found.items()}
    figures = "  ".join(f"{peer} {median:8.1f} {unit}" for peer, median in medians.items())
    if len(medians) == 2:
        ratio = medians[OURS] / medians[THEIRS]
        bar = f"  (bar {BARS[name]})" if name in BARS else ""
        figures += f"  ratio {ratio:.2f}{bar}"
    print(f"{name:14}{figures}", flush=True)


def _print_floor(floor: float, found: Mapping[str, Samples]) -> None:
    shares = [
        f"{floor / statistics.median(samples[RUN]):.2f} of {peer}'s run" for peer, samples in found.items()
    ]
    print(f"{FLOOR:14}ctr and runc alone {floor:8.1f} ms  {'  '.join(shares)}", flush=True)


def main() -> None:
    """Measure, and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vs", choices=[THEIRS], help="compare with this daemon")
    parser.add_argument("--runs", type=int, default=20, help="runs of each kind for each daemon")
    parser.add_argument("--here", action="store_true", help="on the file system of /var/tmp, as it is")
    parser.add_argument("--idle", type=int, default=50, help="containers at once for the memory")
    options = parser.parse_args()
    with ExitStack() as stack:
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp")))
        place = stack.enter_context(ground(parent / "g", here=options.here))
        image = busybox_oci_tar(parent / "image.tar")
        names = [OURS, options.vs] if options.vs else [OURS]
        peers = [Peer(name, stack.enter_context(running(name, place))) for name in names]
        for peer in peers:
            peer.ctr("images", "import", "--snapshotter", SNAPSHOTTER, str(image))
        with _bare(peers[0], parent / "bare") as bundle:
            _measure_times(peers, options.runs, bundle)
        _measure_memory(peers, options.idle)


def _measure_times(peers: Sequence[Peer], runs: int, bundle: Path) -> None:
    found: dict[str, Samples] = {peer.name: {} for peer in peers}
    floor: Samples = {}
    for number in range(runs + 1):  # the first warms the caches up
        for peer in peers:
            into = found[peer.name] if number else {}
            _run(peer, number, into)
            _lives(peer, number, into)
        _floor(peers[0], bundle, floor)
    for name in found[OURS]:
        _print(name, "ms", {peer: samples[name] for peer, samples in found.items()})
    _print_floor(statistics.median(floor[FLOOR]), found)


def _measure_memory(peers: Sequence[Peer], count: int) -> None:
    with ExitStack() as stack:
        for peer in peers if count else ():
            stack.enter_context(_sleeping(peer, count))
        found = {peer.name: _memory(peer, count) for peer in peers}
        for name in MEMORY if count else ():
            _print(name, "KiB", {peer: samples[name] for peer, samples in found.items()})


if __name__ == "__main__":
    main()
