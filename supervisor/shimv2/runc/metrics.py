"""The figures of a container, for Stats (containerd: runc/container.go `Cgroup`; contract: tasks 3.8)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from supervisor.kernel.cgroup import Cgroup
from supervisor.ttrpc.protobuf import any_of

_COUNTERS = (
    *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "", "", "", ""),
    *("tx_bytes", "tx_packets", "tx_errors", "tx_dropped", "", "", "", ""),
)
"""The columns of /proc/PID/net/dev behind the interface's name; the empty ones are not sent."""


def metrics_of(folders: dict[str, str], pid: int) -> bytes:
    """The message of the version that the host has, as Any, with the network of `pid` if it has its own.

    `folders` are those of a Cgroup.
    """
    cgroup = Cgroup(folders)
    if cgroup.is_unified:
        from supervisor.shimv2.runc import metrics_v2

        return any_of(metrics_v2.NAME, metrics_v2.metrics(cgroup, interfaces(pid)))
    from supervisor.shimv2.runc import metrics_v1

    return any_of(metrics_v1.NAME, metrics_v1.metrics(cgroup, interfaces(pid)))


def interfaces(pid: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Name and counters of each interface but the loopback; none in the host's own namespace."""
    try:
        if os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            return
        with open(f"/proc/{pid}/net/dev", encoding="utf-8") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return
    for line in lines:
        name, _, figures = line.partition(":")
        counters = dict(zip(_COUNTERS, map(int, figures.split())))
        counters.pop("", None)
        if name.strip() != "lo":
            yield name.strip(), counters
