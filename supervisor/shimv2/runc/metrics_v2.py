"""Figures from cgroup v2's one hierarchy (containerd: cgroups/cgroup2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.message import Message

from supervisor.api.cgroups.v2 import metrics_pb2 as pb
from supervisor.kernel.cgroup import UNIFIED, Cgroup, figure

# Newer kernels count these for anonymous memory and for files apart.
_IN_HALVES = ("workingset_refault", "workingset_activate")


def metrics(cgroup: Cgroup, network: Iterable[tuple[str, Mapping[str, int]]]) -> pb.Metrics:
    """Everything that this host counts of a container."""
    return pb.Metrics(
        pids=pb.PidsStat(current=_number(cgroup, "pids.current"), limit=_number(cgroup, "pids.max")),
        cpu=pb.CPUStat(**_known(pb.CPUStat, cgroup.table(UNIFIED, "cpu.stat")), psi=_pressure(cgroup, "cpu")),
        memory=_memory(cgroup),
        rdma=pb.RdmaStat(current=_rdma(cgroup, "rdma.current"), limit=_rdma(cgroup, "rdma.max")),
        io=pb.IOStat(usage=_io(cgroup), psi=_pressure(cgroup, "io")),
        hugetlb=_hugetlb(cgroup),
        memory_events=pb.MemoryEvents(**_known(pb.MemoryEvents, cgroup.table(UNIFIED, "memory.events"))),
        network=[pb.NetworkStat(name=name, **counters) for name, counters in network],
    )


def _memory(cgroup: Cgroup) -> pb.MemoryStat:
    figures = cgroup.table(UNIFIED, "memory.stat")
    for name in _IN_HALVES:
        figures.setdefault(name, figures.get(f"{name}_anon", 0) + figures.get(f"{name}_file", 0))
    return pb.MemoryStat(
        **_known(pb.MemoryStat, figures),
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


def _known(kind: type[Message], figures: Mapping[str, int]) -> dict[str, int]:
    """Those of the kernel's figures that a message has a field of a number for."""
    fields = {field.name for field in kind.DESCRIPTOR.fields if field.message_type is None}
    return {name: value for name, value in figures.items() if name in fields}


def _pressure(cgroup: Cgroup, what: str) -> pb.PSIStats | None:
    """Lines `some|full avg10=F avg60=F avg300=F total=N`; none where the kernel does not measure it."""
    text = cgroup.text(UNIFIED, f"{what}.pressure")
    if not text:
        return None
    words = (line.split() for line in text.splitlines())
    return pb.PSIStats(**{name: _pressure_data(_pairs(pairs)) for name, *pairs in words})


def _pressure_data(values: Mapping[str, str]) -> pb.PSIData:
    averages = {name: float(value) for name, value in values.items() if name.startswith("avg")}
    return pb.PSIData(**averages, total=figure(values.get("total", "")))


def _io(cgroup: Cgroup) -> Iterator[pb.IOEntry]:
    for line in cgroup.text(UNIFIED, "io.stat").splitlines():
        device, *pairs = line.split()
        major, separator, minor = device.partition(":")
        if separator:
            figures = {name: figure(value) for name, value in _pairs(pairs).items()}
            yield pb.IOEntry(major=int(major), minor=int(minor), **_known(pb.IOEntry, figures))


def _hugetlb(cgroup: Cgroup) -> Iterator[pb.HugeTlbStat]:
    folder = cgroup.folder(UNIFIED)
    for name in sorted(os.listdir(folder)) if folder else ():
        kind, _, rest = name.partition(".")
        size, _, figure_ = rest.partition(".")
        if kind == "hugetlb" and figure_ == "current":
            yield pb.HugeTlbStat(
                current=_number(cgroup, name),
                max=_number(cgroup, f"hugetlb.{size}.max"),
                failcnt=cgroup.table(UNIFIED, f"hugetlb.{size}.events").get("max", 0),
                pagesize=size,
            )


def _rdma(cgroup: Cgroup, file: str) -> Iterator[pb.RdmaEntry]:
    for line in cgroup.text(UNIFIED, file).splitlines():
        device, *pairs = line.split()
        values = {name: min(figure(value), 2**32 - 1) for name, value in _pairs(pairs).items()}
        yield pb.RdmaEntry(
            device=device, hca_handles=values.get("hca_handle"), hca_objects=values.get("hca_object")
        )


def _pairs(words: Iterable[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)
