"""What a container uses, and kills for want of memory (contract: tasks 3.3 Stats, 3.5 oom, 3.8)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from supervisor.api.cgroups.v1 import metrics_pb2 as v1
from supervisor.api.cgroups.v2 import metrics_pb2 as v2
from supervisor.api.events import task_pb2 as events
from supervisor.api.runtime.task.v2 import shim_pb2 as task
from supervisor.errors import NotFound
from supervisor.kernel.cgroup import UNIFIED, UNLIMITED, Cgroup, cgroup_of
from supervisor.kernel.oom import OomWatch
from supervisor.shimv2.runc.metrics import interfaces, metrics_of
from tests.shimv2.runc.driving import Events, Shim, eventually, spec

V2_FILES = {
    "pids.current": "3\n",
    "pids.max": "max\n",
    "cpu.stat": "usage_usec 500\nuser_usec 300\nsystem_usec 200\nnr_periods 7\nnr_bursts 1\nunheard_of 9\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n",
    "memory.stat": "anon 4096\nfile 8192\nworkingset_refault_anon 1\nworkingset_refault_file 2\n",
    "memory.current": "12345\n",
    "memory.max": "max\n",
    "memory.peak": "23456\n",
    "memory.swap.current": "1\n",
    "memory.swap.max": "2\n",
    "memory.events": "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n",
    "io.stat": "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
    "io.pressure": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=9.00 total=2\n"
    ),
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 6\n",
    "hugetlb.2MB.rsvd.current": "1\n",
    "rdma.current": "mlx5_0 hca_handle=2 hca_object=2000\n",
    "rdma.max": "mlx5_0 hca_handle=max hca_object=max\n",
}

GREEDY = "x=$(yes | head -c 100000000)"

V1_BLOCK = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n"


def cgroup_with(files: dict[str, str], folder: Path) -> Cgroup:
    for name, text in files.items():
        (folder / name).write_text(text)
    return Cgroup({UNIFIED: str(folder)})


def figures(cgroup: Cgroup, pid: int) -> v1.Metrics | v2.Metrics:
    sent = AnyMessage.FromString(metrics_of(dict(cgroup.folders), pid))
    version = sent.type_url.removeprefix("io.containerd.cgroups.").removesuffix(".Metrics")
    return {"v1": v1, "v2": v2}[version].Metrics.FromString(sent.value)


def test_v2_figures(tmp_path: Path) -> None:
    found = figures(cgroup_with(V2_FILES, tmp_path), os.getpid())
    assert found == v2.Metrics(
        pids=v2.PidsStat(current=3, limit=UNLIMITED),
        cpu=v2.CPUStat(
            usage_usec=500,
            user_usec=300,
            system_usec=200,
            nr_periods=7,
            nr_bursts=1,
            psi=v2.PSIStats(some=v2.PSIData(avg10=1.5, avg60=0.25, total=77)),
        ),
        memory=v2.MemoryStat(
            anon=4096,
            file=8192,
            workingset_refault=3,
            usage=12345,
            usage_limit=UNLIMITED,
            max_usage=23456,
            swap_usage=1,
            swap_limit=2,
        ),
        rdma=v2.RdmaStat(
            current=[v2.RdmaEntry(device="mlx5_0", hca_handles=2, hca_objects=2000)],
            limit=[v2.RdmaEntry(device="mlx5_0", hca_handles=2**32 - 1, hca_objects=2**32 - 1)],
        ),
        io=v2.IOStat(
            usage=[v2.IOEntry(major=254, rbytes=1, wbytes=2, rios=3, wios=4)],
            psi=v2.PSIStats(some=v2.PSIData(total=1), full=v2.PSIData(avg300=9, total=2)),
        ),
        hugetlb=[v2.HugeTlbStat(current=2097152, max=UNLIMITED, pagesize="2MB", failcnt=6)],
        memory_events=v2.MemoryEvents(high=1, max=2, oom=3, oom_kill=4, oom_group_kill=5),
    )


def test_what_is_not_counted_is_zero(tmp_path: Path) -> None:
    found = figures(Cgroup({UNIFIED: str(tmp_path)}), os.getpid())
    assert isinstance(found, v2.Metrics)
    assert (found.pids.current, found.memory.usage, len(found.io.usage)) == (0, 0, 0)
    assert not found.cpu.HasField("psi")


def test_v1_block_devices_come_from_the_scheduler_that_counts(tmp_path: Path) -> None:
    (tmp_path / "blkio.bfq.io_serviced_recursive").write_text("Total 0\n")
    (tmp_path / "blkio.throttle.io_serviced_recursive").write_text(V1_BLOCK)
    found = figures(Cgroup({"blkio": str(tmp_path)}), os.getpid())
    assert isinstance(found, v1.Metrics)
    entries = [(one.op, one.major, one.minor, one.value) for one in found.blkio.io_serviced_recursive]
    assert entries == [("Read", 8, 0, 10), ("Write", 8, 0, 20), ("Total", 8, 0, 30)]


def test_v1_figures_of_huge_pages(tmp_path: Path) -> None:
    for name in ("usage_in_bytes", "rsvd.usage_in_bytes", "max_usage_in_bytes", "failcnt"):
        (tmp_path / f"hugetlb.2MB.{name}").write_text("4\n")
    found = figures(Cgroup({"hugetlb": str(tmp_path)}), os.getpid())
    assert isinstance(found, v1.Metrics)
    assert list(found.hugetlb) == [v1.HugetlbStat(usage=4, max=4, failcnt=4, pagesize="2MB")]


def test_the_hosts_own_network_is_no_containers() -> None:
    assert list(interfaces(os.getpid())) == []


def test_a_process_is_found_in_its_cgroups() -> None:
    found = cgroup_of(os.getpid())
    assert found.folders
    for folder in found.folders.values():
        assert str(os.getpid()) in Path(folder, "cgroup.procs").read_text().split()


def test_a_v2_kill_is_noticed_by_the_kernels_own_count(tmp_path: Path) -> None:
    """Other events of the file wake as well, and tell of nothing."""
    file = tmp_path / "memory.events"
    file.write_text("max 1\noom_kill 1\n")
    watch = OomWatch.on(Cgroup({UNIFIED: str(tmp_path)}))
    try:
        assert not watch.happened()
        file.write_text("max 2\noom_kill 1\n")
        assert not watch.happened()
        file.write_text("max 2\noom_kill 3\n")
        assert watch.happened()
        assert not watch.happened()
    finally:
        watch.close()


def limited(args: list[str], limit: int) -> dict[str, Any]:
    config = spec(args)
    config["linux"]["resources"] = {"memory": {"limit": limit}}
    return config


@pytest.fixture
def v1_host() -> None:
    if cgroup_of(os.getpid()).is_unified:
        pytest.skip("this host counts in v2")


def stats(shim: Shim, container: str) -> v1.Metrics:
    answer = shim.call("Stats", task.StatsRequest(id=container), task.StatsResponse)
    assert answer.stats.type_url == "io.containerd.cgroups.v1.Metrics"
    return v1.Metrics.FromString(answer.stats.value)


@pytest.mark.root
@pytest.mark.compat
@pytest.mark.usefixtures("v1_host")
def test_a_containers_figures(shim: Shim) -> None:
    config = limited(["sleep", "600"], 64 << 20)
    config["linux"]["namespaces"].append({"type": "network"})
    shim.bundle("c1", config)
    shim.start("c1")
    shim.create("c1")
    shim.start_process("c1")
    found = stats(shim, "c1")
    assert found.memory.usage.limit == 64 << 20
    assert found.memory.usage.usage > 0
    assert found.memory.hierarchical_memory_limit == 64 << 20
    assert found.cpu.usage.total > 0
    assert len(found.cpu.usage.per_cpu) >= 1
    assert found.pids.current >= 1
    shim.kill("c1")
    shim.wait("c1")
    with pytest.raises(NotFound, match="cgroup does not exist"):
        stats(shim, "c1")
    shim.delete("c1")


@pytest.mark.root
@pytest.mark.compat
@pytest.mark.usefixtures("v1_host")
def test_figures_of_what_does_not_exist(shim: Shim) -> None:
    shim.begin("c1", ["sleep", "600"])
    with pytest.raises(NotFound, match="container not created"):
        stats(shim, "c2")


@pytest.mark.root
@pytest.mark.compat
def test_a_kill_for_want_of_memory_is_told_before_the_end(shim: Shim, event_sink: Events) -> None:
    """Tasks 3.5: one event, and it comes ahead of the exit that it explains."""
    # One process: of several the kernel kills more than one before the first has ended.
    shim.bundle("c1", limited(["sh", "-c", "x=x; while :; do x=$x$x; done"], 20 << 20))
    shim.start("c1")
    shim.create("c1")
    shim.start_process("c1")
    assert shim.wait("c1").exit_status == 137
    event_sink.wait_for("create", "start", "oom", "exit")
    assert event_sink.decoded()[2] == events.TaskOOM(container_id="c1")


def kernel_kills(shim: Shim, container: str) -> int:
    cgroup = cgroup_of(shim.state(container).pid)
    file = "memory.events" if cgroup.is_unified else "memory.oom_control"
    return cgroup.table("memory", file)["oom_kill"]


@pytest.mark.root
@pytest.mark.compat
def test_a_kill_of_another_process_than_init_is_told(shim: Shim, event_sink: Events) -> None:
    # The kernel chooses whom it kills; without the score it sometimes is the first process.
    greedy = f"(echo 1000 > /proc/self/oom_score_adj; {GREEDY}); sleep 600"
    shim.bundle("c1", limited(["sh", "-c", greedy], 20 << 20))
    shim.start("c1")
    shim.create("c1")
    shim.start_process("c1")
    eventually(lambda: "oom" in event_sink.topics(), "the event")
    kills = kernel_kills(shim, "c1")
    shim.kill("c1")
    shim.wait("c1")
    shim.delete("c1")
    assert 1 <= event_sink.topics().count("oom") <= kills
