"""Figures from cgroup v1's hierarchies, also of hybrid hosts (containerd: cgroups/cgroup1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from supervisor.kernel.cgroup import UNLIMITED, Cgroup, figure
from supervisor.ttrpc.protobuf import Layout

NAME = "io.containerd.cgroups.v1.Metrics"

METRICS = Layout("hugetlb pids cpu memory blkio rdma network cgroup_stats memory_oom_control")
HUGETLB = Layout("usage max failcnt pagesize")
PIDS = Layout("current limit")
CPU = Layout("usage throttling")
CPU_USAGE = Layout("total kernel user per_cpu")
THROTTLE = Layout("periods throttled_periods throttled_time")
_MEMORY_FIGURES = (
    "cache rss rss_huge mapped_file dirty writeback pg_pg_in pg_pg_out pg_fault pg_maj_fault inactive_anon"
    " active_anon inactive_file active_file unevictable hierarchical_memory_limit hierarchical_swap_limit"
    " total_cache total_rss total_rss_huge total_mapped_file total_dirty total_writeback total_pg_pg_in"
    " total_pg_pg_out total_pg_fault total_pg_maj_fault total_inactive_anon total_active_anon"
    " total_inactive_file total_active_file total_unevictable"
)
MEMORY = Layout(f"{_MEMORY_FIGURES} usage swap kernel kernel_tcp")
MEMORY_ENTRY = Layout("limit usage max failcnt")
MEMORY_OOM_CONTROL = Layout("oom_kill_disable under_oom oom_kill")
BLOCK_IO_ENTRY = Layout("op device major minor value")
RDMA = Layout("current limit")
RDMA_ENTRY = Layout("device hca_handles hca_objects")
NETWORK = Layout("name rx_bytes rx_packets rx_errors rx_dropped tx_bytes tx_packets tx_errors tx_dropped")

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
BLOCK_IO = Layout(" ".join(_BLOCK_FILES))
_BLOCK_VARIANTS = (
    "blkio.{}_recursive",
    "blkio.bfq.{}_recursive",
    "blkio.throttle.{}_recursive",
    "blkio.throttle.{}",
)


def metrics(cgroup: Cgroup, network: Iterable[tuple[str, Mapping[str, int]]]) -> bytes:
    """Everything that this host counts of a container, as an encoded Metrics."""
    return METRICS.encode(
        hugetlb=_hugetlb(cgroup),
        pids=_pids(cgroup),
        cpu=CPU.encode(usage=_cpu_usage(cgroup), throttling=_throttling(cgroup)),
        memory=_memory(cgroup),
        blkio=BLOCK_IO.encode(**{ours: _block_entries(cgroup, file) for ours, file in _BLOCK_FILES.items()}),
        rdma=RDMA.encode(current=_rdma(cgroup, "rdma.current"), limit=_rdma(cgroup, "rdma.max")),
        network=[NETWORK.encode(name=name, **counters) for name, counters in network],
        memory_oom_control=MEMORY_OOM_CONTROL.encode_known(cgroup.table("memory", "memory.oom_control")),
    )


def _pids(cgroup: Cgroup) -> bytes:
    limit = cgroup.number("pids", "pids.max")
    return PIDS.encode(
        current=cgroup.number("pids", "pids.current"), limit=0 if limit == UNLIMITED else limit
    )


def _cpu_usage(cgroup: Cgroup) -> bytes:
    ticks = cgroup.table("cpuacct", "cpuacct.stat")
    tick = _NANOSECONDS // os.sysconf("SC_CLK_TCK")
    per_cpu = map(int, cgroup.text("cpuacct", "cpuacct.usage_percpu").split())
    usage = CPU_USAGE.encode(
        total=cgroup.number("cpuacct", "cpuacct.usage"),
        kernel=ticks.get("system", 0) * tick,
        user=ticks.get("user", 0) * tick,
    )
    return usage + CPU_USAGE.packed("per_cpu", per_cpu)


def _throttling(cgroup: Cgroup) -> bytes:
    figures = cgroup.table("cpu", "cpu.stat")
    return THROTTLE.encode(
        periods=figures.get("nr_periods", 0),
        throttled_periods=figures.get("nr_throttled", 0),
        throttled_time=figures.get("throttled_time", 0),
    )


def _memory(cgroup: Cgroup) -> bytes:
    figures = {_memory_name(name): value for name, value in cgroup.table("memory", "memory.stat").items()}
    entries = MEMORY.encode(
        usage=_memory_entry(cgroup, "memory."),
        swap=_memory_entry(cgroup, "memory.memsw."),
        kernel=_memory_entry(cgroup, "memory.kmem."),
        kernel_tcp=_memory_entry(cgroup, "memory.kmem.tcp."),
    )
    return MEMORY.encode_known(figures) + entries


def _memory_name(name: str) -> str:
    total, bare = ("total_", name[6:]) if name.startswith("total_") else ("", name)
    return total + _MEMORY_NAMES.get(bare, bare)


def _memory_entry(cgroup: Cgroup, prefix: str) -> bytes:
    return MEMORY_ENTRY.encode(
        limit=cgroup.number("memory", f"{prefix}limit_in_bytes"),
        usage=cgroup.number("memory", f"{prefix}usage_in_bytes"),
        max=cgroup.number("memory", f"{prefix}max_usage_in_bytes"),
        failcnt=cgroup.number("memory", f"{prefix}failcnt"),
    )


def _block_entries(cgroup: Cgroup, file: str) -> Iterator[bytes]:
    """Lines `MAJOR:MINOR [OPERATION] FIGURE` of the first variant that has any; the sums are left out."""
    texts = (cgroup.text("blkio", variant.format(file)) for variant in _BLOCK_VARIANTS)
    for line in next((text for text in texts if ":" in text), "").splitlines():
        device, *operation, value = line.split()
        major, separator, minor = device.partition(":")
        if separator:
            yield BLOCK_IO_ENTRY.encode(
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


def _hugetlb(cgroup: Cgroup) -> Iterator[bytes]:
    folder = cgroup.folder("hugetlb")
    for name in sorted(os.listdir(folder)) if folder else ():
        if not name.endswith(".usage_in_bytes") or ".rsvd." in name:
            continue
        prefix = name.removesuffix("usage_in_bytes")
        yield HUGETLB.encode(
            usage=cgroup.number("hugetlb", name),
            max=cgroup.number("hugetlb", f"{prefix}max_usage_in_bytes"),
            failcnt=cgroup.number("hugetlb", f"{prefix}failcnt"),
            pagesize=name.split(".")[1],
        )


def _rdma(cgroup: Cgroup, file: str) -> Iterator[bytes]:
    for line in cgroup.text("rdma", file).splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        yield RDMA_ENTRY.encode(
            device=device,
            hca_handles=_of_32_bits(values.get("hca_handle", "")),
            hca_objects=_of_32_bits(values.get("hca_object", "")),
        )


def _of_32_bits(text: str) -> int:
    return min(figure(text), 2**32 - 1)
