"""Figures from cgroup v1's hierarchies, also of hybrid hosts (containerd: cgroups/cgroup1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from supervisor.api.cgroups.v1 import metrics_pb2 as pb
from supervisor.kernel.cgroup import UNLIMITED, Cgroup, figure

M = TypeVar("M", pb.MemoryStat, pb.MemoryOomControl)

_NANOSECONDS = 10**9

# The kernel's names where ours differ.
_MEMORY_NAMES = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}

# Our list, and the kernel's file less what stands around it; which files there are is up to the scheduler.
_BLOCK_FILES = {
    "io_service_bytes_recursive": "io_service_bytes",
    "io_serviced_recursive": "io_serviced",
    "io_queued_recursive": "io_queued",
    "io_service_time_recursive": "io_service_time",
    "io_wait_time_recursive": "io_wait_time",
    "io_merged_recursive": "io_merged",
    "io_time_recursive": "time",
    "sectors_recursive": "sectors",
}
_BLOCK_VARIANTS = (
    "blkio.{}_recursive",
    "blkio.bfq.{}_recursive",
    "blkio.throttle.{}_recursive",
    "blkio.throttle.{}",
)


def metrics(cgroup: Cgroup, network: Iterable[tuple[str, Mapping[str, int]]]) -> pb.Metrics:
    """Everything that this host counts of a container."""
    return pb.Metrics(
        hugetlb=_hugetlb(cgroup),
        pids=_pids(cgroup),
        cpu=pb.CPUStat(usage=_cpu_usage(cgroup), throttling=_throttling(cgroup)),
        memory=_memory(cgroup),
        blkio=_block_io(cgroup),
        rdma=pb.RdmaStat(current=_rdma(cgroup, "rdma.current"), limit=_rdma(cgroup, "rdma.max")),
        network=[pb.NetworkStat(name=name, **counters) for name, counters in network],
        memory_oom_control=_known(pb.MemoryOomControl, cgroup.table("memory", "memory.oom_control")),
    )


def _pids(cgroup: Cgroup) -> pb.PidsStat:
    limit = cgroup.number("pids", "pids.max")
    return pb.PidsStat(
        current=cgroup.number("pids", "pids.current"), limit=0 if limit == UNLIMITED else limit
    )


def _cpu_usage(cgroup: Cgroup) -> pb.CPUUsage:
    ticks = cgroup.table("cpuacct", "cpuacct.stat")
    tick = _NANOSECONDS // os.sysconf("SC_CLK_TCK")
    return pb.CPUUsage(
        total=cgroup.number("cpuacct", "cpuacct.usage"),
        kernel=ticks.get("system", 0) * tick,
        user=ticks.get("user", 0) * tick,
        per_cpu=map(int, cgroup.text("cpuacct", "cpuacct.usage_percpu").split()),
    )


def _throttling(cgroup: Cgroup) -> pb.Throttle:
    figures = cgroup.table("cpu", "cpu.stat")
    return pb.Throttle(
        periods=figures.get("nr_periods", 0),
        throttled_periods=figures.get("nr_throttled", 0),
        throttled_time=figures.get("throttled_time", 0),
    )


def _memory(cgroup: Cgroup) -> pb.MemoryStat:
    figures = {_memory_name(name): value for name, value in cgroup.table("memory", "memory.stat").items()}
    message = _known(pb.MemoryStat, figures)
    for entry, prefix in (
        (message.usage, "memory."),
        (message.swap, "memory.memsw."),
        (message.kernel, "memory.kmem."),
        (message.kernel_tcp, "memory.kmem.tcp."),
    ):
        entry.CopyFrom(_memory_entry(cgroup, prefix))
    return message


def _memory_name(name: str) -> str:
    total, bare = ("total_", name[6:]) if name.startswith("total_") else ("", name)
    return total + _MEMORY_NAMES.get(bare, bare)


def _memory_entry(cgroup: Cgroup, prefix: str) -> pb.MemoryEntry:
    return pb.MemoryEntry(
        limit=cgroup.number("memory", f"{prefix}limit_in_bytes"),
        usage=cgroup.number("memory", f"{prefix}usage_in_bytes"),
        max=cgroup.number("memory", f"{prefix}max_usage_in_bytes"),
        failcnt=cgroup.number("memory", f"{prefix}failcnt"),
    )


def _known(kind: type[M], figures: Mapping[str, Any]) -> M:
    """A message with those of the kernel's figures that it has a field of a number for."""
    fields = {field.name for field in kind.DESCRIPTOR.fields if field.message_type is None}
    return kind(**{name: value for name, value in figures.items() if name in fields})


def _block_io(cgroup: Cgroup) -> pb.BlkIOStat:
    return pb.BlkIOStat(**{ours: list(_block_entries(cgroup, file)) for ours, file in _BLOCK_FILES.items()})


def _block_entries(cgroup: Cgroup, file: str) -> Iterator[pb.BlkIOEntry]:
    """Lines `MAJOR:MINOR [OPERATION] FIGURE` of the first variant that has any; the sums are left out."""
    texts = (cgroup.text("blkio", variant.format(file)) for variant in _BLOCK_VARIANTS)
    for line in next((text for text in texts if ":" in text), "").splitlines():
        device, *operation, value = line.split()
        major, separator, minor = device.partition(":")
        if separator:
            yield pb.BlkIOEntry(
                op="".join(operation),
                device=_device_path(device),
                major=int(major),
                minor=int(minor),
                value=figure(value),
            )


def _device_path(numbers: str) -> str:
    try:
        return f"/dev/{os.path.basename(os.readlink(f'/sys/dev/block/{numbers}'))}"
    except OSError:
        return ""


def _hugetlb(cgroup: Cgroup) -> Iterator[pb.HugetlbStat]:
    folder = cgroup.folder("hugetlb")
    for name in sorted(os.listdir(folder)) if folder else ():
        if not name.endswith(".usage_in_bytes") or ".rsvd." in name:
            continue
        prefix = name.removesuffix("usage_in_bytes")
        yield pb.HugetlbStat(
            usage=cgroup.number("hugetlb", name),
            max=cgroup.number("hugetlb", f"{prefix}max_usage_in_bytes"),
            failcnt=cgroup.number("hugetlb", f"{prefix}failcnt"),
            pagesize=name.split(".")[1],
        )


def _rdma(cgroup: Cgroup, file: str) -> Iterator[pb.RdmaEntry]:
    for line in cgroup.text("rdma", file).splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        yield pb.RdmaEntry(
            device=device,
            hca_handles=_of_32_bits(values.get("hca_handle", "")),
            hca_objects=_of_32_bits(values.get("hca_object", "")),
        )


def _of_32_bits(text: str) -> int:
    return min(figure(text), 2**32 - 1)
