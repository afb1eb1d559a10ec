"""What clients read of the daemon's plugins: contract sections 12.1 and 12.2, on a running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from supervisor.api.services.introspection.v1 import introspection_pb2 as pb
from supervisor.api.services.introspection.v1 import introspection_pb2_grpc as rpc
from supervisor.api.services.snapshots.v1 import snapshots_pb2, snapshots_pb2_grpc
from supervisor.oci.platform import host
from tests.daemon.test_server import is_serving, running

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("daemon")


@pytest.fixture(scope="module")
def stub(folder: Path) -> Iterator[rpc.IntrospectionStub]:
    with running(folder):
        assert is_serving(folder)
        with grpc.insecure_channel(f"unix:{folder}/state/supervisor.sock") as channel:
            yield rpc.IntrospectionStub(channel)


def plugins(stub: rpc.IntrospectionStub, *filters: str) -> dict[str, pb.Plugin]:
    return {one.id: one for one in stub.Plugins(pb.PluginsRequest(filters=filters)).plugins}


def test_all_are_usable(stub: rpc.IntrospectionStub) -> None:
    """12.2: init_err absent."""
    failed = [one.id for one in stub.Plugins(pb.PluginsRequest()).plugins if one.HasField("init_err")]
    assert failed == []


def test_exports(stub: rpc.IntrospectionStub, folder: Path) -> None:
    """12.2: the exports that clients read."""
    root = folder / "root"
    for type_, id_, exports in (
        ("io.containerd.content.v1", "content", {"root": f"{root}/io.containerd.content.v1.content"}),
        ("io.containerd.metadata.v1", "bolt", {"policy": "shared", "path": f"{root}/metadata.db"}),
        ("io.containerd.internal.v1", "opt", {"path": f"{root}/opt"}),
        ("io.containerd.runtime.v2", "task", {"log-uri-schemes": "binary,file"}),
        (
            "io.containerd.gc.v1",
            "scheduler",
            {
                "PauseThreshold": "0.02",
                "DeletionThreshold": "0",
                "MutationThreshold": "100",
                "ScheduleDelay": "0s",
            },
        ),
    ):
        assert dict(plugins(stub, f"type=={type_}")[id_].exports) == exports


def test_snapshotters(stub: rpc.IntrospectionStub, folder: Path) -> None:
    """12.2: capabilities, roots and the host's platform, found as the Go client and dockerd look for them."""
    listed = plugins(stub, 'type=="io.containerd.snapshotter.v1"')
    assert list(listed) == ["overlayfs", "native"]
    assert "rebase" in listed["overlayfs"].capabilities
    assert not listed["native"].capabilities
    for id_, one in listed.items():
        assert one.exports["root"] == f"{folder}/root/io.containerd.snapshotter.v1.{id_}"
    assert list(plugins(stub, "type==io.containerd.snapshotter.v1, id==overlayfs")) == ["overlayfs"]


def test_platforms(stub: rpc.IntrospectionStub) -> None:
    """12.2: snapshotters, the differ and the runtime tell the host's."""
    for filter_ in ("type~=snapshotter", "id==walking", "type==io.containerd.runtime.v2"):
        found = plugins(stub, filter_)
        assert found
        for one in found.values():
            assert [(p.os, p.architecture) for p in one.platforms] == [(host().os, host().architecture)]


def test_services_are_listed_by_the_names_that_clients_know(stub: rpc.IntrospectionStub) -> None:
    """12.1: a service that is not there is not listed, one that is, is."""
    known = "containers content diff events healthcheck images introspection leases mounts namespaces"
    listed = plugins(stub, "type==io.containerd.grpc.v1")
    assert set(f"{known} sandboxes snapshots tasks version".split()) <= set(listed)


def test_nothing_is_deprecated(stub: rpc.IntrospectionStub) -> None:
    """12.1: `ctr` prints a warning for each, before every command."""
    assert not stub.Server(Empty()).deprecations


def test_a_disabled_snapshotter_is_not_listed(tmp_path: Path) -> None:
    """12.1: nor offered."""
    (tmp_path / "c.toml").write_text('[snapshots]\ndrivers = ["native"]\n')
    with running(tmp_path, "--config", str(tmp_path / "c.toml")):
        assert is_serving(tmp_path)
        with grpc.insecure_channel(f"unix:{tmp_path}/state/supervisor.sock") as channel:
            assert list(plugins(rpc.IntrospectionStub(channel), "type~=snapshotter")) == ["native"]
            request = snapshots_pb2.StatSnapshotRequest(snapshotter="overlayfs", key="k")
            with pytest.raises(grpc.RpcError, match="not loaded"):
                snapshots_pb2_grpc.SnapshotsStub(channel).Stat(request)
