"""Runtime specs: their safe defaults, and that a real runtime takes them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from supervisor.oci import runtime


def spec(**more: object) -> runtime.Spec:
    return runtime.default_spec(runtime.process(["true"]), cgroups_path="/ns/id", **more)  # type: ignore[arg-type]


def test_two_specs_share_nothing() -> None:
    first, second = spec(), spec()
    first["linux"]["maskedPaths"].clear()
    first["process"]["capabilities"]["bounding"].clear()
    first["mounts"][0]["options"].append("x")
    assert second == spec()
    assert second["process"]["capabilities"]["bounding"]


def test_capabilities_are_never_inheritable() -> None:
    assert set(spec()["process"]["capabilities"]) == {"bounding", "effective", "permitted"}


def test_host_network_leaves_out_its_namespace() -> None:
    kinds = [ns["type"] for ns in spec(host_network=True)["linux"]["namespaces"]]
    assert "network" not in kinds
    assert "network" in [ns["type"] for ns in spec()["linux"]["namespaces"]]


def test_a_mount_replaces_the_default_one() -> None:
    mounts = spec(mounts=[runtime.SpecMount("/run", "/srv/run")])["mounts"]
    assert [m["source"] for m in mounts if m["destination"] == "/run"] == ["/srv/run"]


def test_environment_keeps_the_last_value() -> None:
    assert runtime.environment(["A=1", "A=2", "PATH=/x"], terminal=True) == ["PATH=/x", "TERM=xterm", "A=2"]


@pytest.mark.root
@pytest.mark.compat
def test_runc_runs_it(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", bundle / "rootfs" / "bin" / "busybox")
    script = "hostname; grep Cap /proc/self/status; cat /proc/interrupts | wc -c"
    name = f"oci-{os.getpid()}"
    made = runtime.default_spec(
        runtime.process(["/bin/busybox", "sh", "-c", script.replace("grep", "/bin/busybox grep")]),
        cgroups_path=f"/oci-tests/{name}",
        hostname="inside",
    )
    (bundle / "config.json").write_text(json.dumps(made))
    command = ["runc", "--root", str(tmp_path / "runc"), "run", "--bundle", str(bundle), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[0] == "inside"
    assert "CapInh:\t0000000000000000" in lines
    assert "CapAmb:\t0000000000000000" in lines
    assert lines[-2].strip() == "0"
