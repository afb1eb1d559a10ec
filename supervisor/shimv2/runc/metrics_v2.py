"""Figures from cgroup v2's one hierarchy (containerd: cgroups/cgroup2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from supervisor.kernel.cgroup import UNIFIED, Cgroup, figure
from supervisor.ttrpc.protobuf import Layout

NAME = "io.containerd.cgroups.v2.Metrics"

METRICS = Layout("pids cpu - memory rdma io hugetlb memory_events network")
PIDS = Layout("current limit")
CPU = Layout(
    "usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec psi nr_bursts burst_usec"
)
MEMORY = Layout(
    "anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp inactive_anon"
    " active_anon inactive_file active_file unevictable slab_reclaimable slab_unreclaimable"
    " pgfault pgmajfault workingset_refault workingset_activate workingset_nodereclaim"
    " pgrefill pgscan pgsteal pgactivate"
    " pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc usage usage_limit swap_usage"
    " swap_limit max_usage swap_max_usage psi"
)
MEMORY_EVENTS = Layout("low high max oom oom_kill oom_group_kill")
RDMA = Layout("current limit")
RDMA_ENTRY = Layout("device hca_handles hca_objects")
IO = Layout("usage psi")
IO_ENTRY = Layout("major minor rbytes wbytes rios wios")
HUGETLB = Layout("current max pagesize failcnt")
NETWORK = Layout("name rx_bytes rx_packets rx_errors rx_dropped tx_bytes tx_packets tx_errors tx_dropped")
PRESSURE = Layout("some full")
PRESSURE_DATA = Layout("avg10 avg60 avg300 total")

# Newer kernels count these for anonymous memory and for files apart.
_IN_HALVES = ("workingset_refault", "workingset_activate")


def metrics(cgroup: Cgroup, network: Iterable[tuple[str, Mapping[str, int]]]) -> bytes:
    """Everything that this host counts of a container, as an encoded Metrics."""
    return METRICS.encode(
        pids=PIDS.encode(current=_number(cgroup, "pids.current"), limit=_number(cgroup, "pids.max")),
        cpu=CPU.encode_known(cgroup.table(UNIFIED, "cpu.stat")) + CPU.encode(psi=_pressure(cgroup, "cpu")),
        memory=_memory(cgroup),
        rdma=RDMA.encode(current=_rdma(cgroup, "rdma.current"), limit=_rdma(cgroup, "rdma.max")),
        io=IO.encode(usage=_io(cgroup), psi=_pressure(cgroup, "io")),
        hugetlb=_hugetlb(cgroup),
        memory_events=MEMORY_EVENTS.encode_known(cgroup.table(UNIFIED, "memory.events")),
        network=[NETWORK.encode(name=name, **counters) for name, counters in network],
    )


def _memory(cgroup: Cgroup) -> bytes:
    figures = cgroup.table(UNIFIED, "memory.stat")
    for name in _IN_HALVES:
        figures.setdefault(name, figures.get(f"{name}_anon", 0) + figures.get(f"{name}_file", 0))
    return MEMORY.encode_known(figures) + MEMORY.encode(
        usage=_number(cgroup, "memory.current"),
        usage_limit=_number(cgroup, "memory.max"),
        max_usage=_number(cgroup, "memory.peak"),
        swap_usage=_number(cgroup, "memory.swap.current"),
        swap_limit=_number(cgroup, "memory.swap.max"),
        swap_max_usage=_number(cgroup, "memory.swap.peak"),
        psi=_pressure(cgroup, "memory"),
    )


def _number(cgroup: Cgroup, file: str) -> int:
    return cgroup.number(UNIFIED, file)


def _pressure(cgroup: Cgroup, what: str) -> bytes | None:
    """Lines `some|full avg10=F avg60=F avg300=F total=N`; none where the kernel does not measure it."""
    text = cgroup.text(UNIFIED, f"{what}.pressure")
    if not text:
        return None
    words = (line.split() for line in text.splitlines())
    return PRESSURE.encode(**{name: _pressure_data(_pairs(pairs)) for name, *pairs in words})


def _pressure_data(values: Mapping[str, str]) -> bytes:
    averages = {name: float(value) for name, value in values.items() if name.startswith("avg")}
    return PRESSURE_DATA.encode(**averages, total=figure(values.get("total", "")))


def _io(cgroup: Cgroup) -> Iterator[bytes]:
    for line in cgroup.text(UNIFIED, "io.stat").splitlines():
        device, *pairs = line.split()
        major, separator, minor = device.partition(":")
        if separator:
            figures = {name: figure(value) for name, value in _pairs(pairs).items()}
            yield IO_ENTRY.encode(major=int(major), minor=int(minor)) + IO_ENTRY.encode_known(figures)


def _hugetlb(cgroup: Cgroup) -> Iterator[bytes]:
    folder = cgroup.folder(UNIFIED)
    for name in sorted(os.listdir(folder)) if folder else ():
        kind, _, rest = name.partition(".")
        size, _, figure_ = rest.partition(".")
        if kind == "hugetlb" and figure_ == "current":
            yield HUGETLB.encode(
                current=_number(cgroup, name),
                max=_number(cgroup, f"hugetlb.{size}.max"),
                failcnt=cgroup.table(UNIFIED, f"hugetlb.{size}.events").get("max", 0),
                pagesize=size,
            )


def _rdma(cgroup: Cgroup, file: str) -> Iterator[bytes]:
    for line in cgroup.text(UNIFIED, file).splitlines():
        device, *pairs = line.split()
        values = {name: min(figure(value), 2**32 - 1) for name, value in _pairs(pairs).items()}
        yield RDMA_ENTRY.encode(
            device=device, hca_handles=values.get("hca_handle"), hca_objects=values.get("hca_object")
        )


def _pairs(words: Iterable[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)
