"""The mount manager over gRPC: what containerd documents of it, and contract 1.3 and 11.1."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select

from supervisor.api.services.mounts.v1 import mounts_pb2 as pb
from supervisor.api.services.mounts.v1 import mounts_pb2_grpc as rpc
from supervisor.api.types.mount_pb2 import ActivationInfo, Mount
from supervisor.kernel import mounts as kernel
from supervisor.kernel.mountinfo import mounts_below
from supervisor.metadata import leases
from supervisor.metadata import mounts as rows
from supervisor.metadata.mount_manager import MountManager
from supervisor.metadata.schema import EdgeRow
from supervisor.metadata.store import Store
from supervisor.model.identifiers import Namespace
from supervisor.model.lease import Lease
from supervisor.model.mount import Mount as Value
from supervisor.services.mounts import Mounts
from tests.services.conftest import Serve
from tests.services.refusal import refusal

Metadata = tuple[tuple[str, str], ...]

SIZE = "X-containerd.mkfs.size=1M"

pytestmark = pytest.mark.root


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state" / "t"
    yield folder
    kernel.unmount_recursive(folder)


@pytest.fixture
def manager(store: Store, tmp_path: Path, targets: Path) -> MountManager:
    (tmp_path / "root").mkdir()
    return MountManager(store.database, targets, (tmp_path / "root",))


@pytest_asyncio.fixture
async def stub(manager: MountManager, serve: Serve) -> AsyncIterator[rpc.MountsStub]:
    channel = await serve(lambda server: server.add(Mounts(manager)))
    yield rpc.MountsStub(channel)


@pytest.fixture
def lower(tmp_path: Path) -> Mount:
    (tmp_path / "root/lower").mkdir()
    (tmp_path / "root/lower/file").write_text("text")
    return Mount(type="bind", source=str(tmp_path / "root/lower"), options=["ro", "rbind"])


def overlay(tmp_path: Path, prefix: str = "format/mkdir/") -> Mount:
    made = f"{tmp_path}/root/rw"
    options = [f"X-containerd.mkdir.path={made}{part}:0755" for part in ("", "/upper", "/work")]
    options += ["lowerdir={{ mount 0 }}", f"upperdir={made}/upper", f"workdir={made}/work"]
    return Mount(type=f"{prefix}overlay", source="overlay", options=options)


def inside(folder: Path) -> list[str]:
    return os.listdir(folder)


async def activated(
    stub: rpc.MountsStub, metadata: Metadata, *mounts: Mount, **given: object
) -> ActivationInfo:
    request = pb.ActivateRequest(**{"name": "m", "mounts": mounts, **given})  # type: ignore[arg-type]
    info: ActivationInfo = (await stub.Activate(request, metadata=metadata)).info
    return info


async def listed(stub: rpc.MountsStub, metadata: Metadata, *filters: str) -> list[str]:
    return [m.info.name async for m in stub.List(pb.ListRequest(filters=filters), metadata=metadata)]


def edges(connection: object) -> list[tuple[str, str, str]]:
    query = select(EdgeRow.source_type, EdgeRow.kind, EdgeRow.target_type).order_by(EdgeRow.source_type)
    return [tuple(row) for row in connection.execute(query)]  # type: ignore[attr-defined]


async def test_plain_mounts_are_not_its_business(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, targets: Path
) -> None:
    """Clients perform mounts themselves when it answers UNIMPLEMENTED, and only then."""
    for mounts in ([], [lower], [lower, Mount(type="overlay"), Mount(type="unknown/ext4")]):
        request = pb.ActivateRequest(name="m", mounts=mounts)
        assert (await refusal(stub.Activate(request, metadata=blue)))[0] == "UNIMPLEMENTED"
    assert await listed(stub, blue) == []
    assert inside(targets) == []


async def test_what_a_template_names_is_mounted_first(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, tmp_path: Path, targets: Path
) -> None:
    """`format/`: earlier mounts are performed, the last one is left to the caller, filled in."""
    info = await activated(stub, blue, lower, overlay(tmp_path), labels={"a": "1", "gone": ""})
    (active,), (system,) = info.active, info.system
    assert (active.mount, Path(active.mount_point).parent.parent) == (lower, targets)
    assert active.mounted_at.seconds > 0
    assert (Path(active.mount_point) / "file").read_text() == "text"
    assert (system.type, system.source) == ("overlay", "overlay")
    rw = tmp_path / "root/rw"
    assert list(system.options) == [
        f"lowerdir={active.mount_point}",
        f"upperdir={rw}/upper",
        f"workdir={rw}/work",
    ]
    assert os.stat(rw / "upper").st_mode & 0o7777 == 0o755
    assert dict(info.labels) == {"a": "1"}
    assert (await stub.Info(pb.InfoRequest(name="m"), metadata=blue)).info == info
    await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)
    assert inside(targets) == []
    assert mounts_below(targets) == []
    assert await listed(stub, blue) == []


async def test_a_temporary_activation_performs_all(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, tmp_path: Path, targets: Path
) -> None:
    """`temporary`: what is left is a bind of the last mount; plain mounts are performed too."""
    info = await activated(stub, blue, lower, overlay(tmp_path), temporary=True)
    assert [active.mount.type for active in info.active] == ["bind", "overlay"]
    (system,) = info.system
    last = info.active[-1].mount_point
    assert (system.type, system.source, list(system.options)) == ("bind", last, ["rbind"])
    (Path(last) / "new").write_text("new")
    assert (tmp_path / "root/rw/upper/new").read_text() == "new"
    await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)
    assert mounts_below(targets) == []


async def test_a_loop_device_with_a_filesystem_made(
    stub: rpc.MountsStub, blue: Metadata, tmp_path: Path, targets: Path
) -> None:
    """`mkfs/loop`: an image is made once, attached, and named by the mount point; one mount is enough."""
    image = tmp_path / "root/disk.img"
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    options = ["size=16MiB", "fs=ext4", f"uuid={uuid}"]
    loop = Mount(
        type="mkfs/loop", source=str(image), options=[f"X-containerd.mkfs.{option}" for option in options]
    )
    only = await activated(stub, blue, loop, name="only")
    assert (len(only.active), list(only.system)) == (1, [])
    device = os.readlink(only.active[0].mount_point)
    assert device.startswith("/dev/loop")
    assert only.active[0].data["device"] == device
    await stub.Deactivate(pb.DeactivateRequest(name="only"), metadata=blue)
    before = image.stat().st_ino
    ext4 = Mount(type="format/ext4", source="{{ mount 0 }}")
    info = await activated(stub, blue, loop, ext4, temporary=True)
    assert image.stat().st_ino == before
    assert image.stat().st_size == 16 << 20
    (Path(info.active[1].mount_point) / "file").write_text("text")
    await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)
    assert inside(targets) == []
    read_only = Mount(type="loop", source=str(image), options=["ro"])
    again = await activated(
        stub, blue, read_only, Mount(type="format/ext4", source="{{ mount 0 }}", options=["ro"])
    )
    assert [mount.source for mount in again.system] == [again.active[0].mount_point]
    await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)


async def test_names(stub: rpc.MountsStub, blue: Metadata, lower: Mount) -> None:
    """A name is in use once per namespace; NOT_FOUND for one that is not."""
    await activated(stub, blue, lower, temporary=True)
    again = pb.ActivateRequest(name="m", mounts=[lower], temporary=True)
    assert await refusal(stub.Activate(again, metadata=blue)) == (
        "ALREADY_EXISTS",
        'mount "m": already exists',
    )
    green = (("containerd-namespace", "green"),)
    await activated(stub, green, lower, temporary=True)
    assert await listed(stub, blue) == await listed(stub, green) == ["m"]
    for call in (
        stub.Info(pb.InfoRequest(name="x"), metadata=blue),
        stub.Deactivate(pb.DeactivateRequest(name="x"), metadata=blue),
        stub.Update(pb.UpdateRequest(info=ActivationInfo(name="x")), metadata=blue),
    ):
        assert await refusal(call) == ("NOT_FOUND", 'mount "x": not found')
    assert (await refusal(stub.Activate(again)))[0] == "FAILED_PRECONDITION"
    unnamed = pb.ActivateRequest(mounts=[lower], temporary=True)
    assert (await refusal(stub.Activate(unnamed, metadata=blue)))[0] == "INVALID_ARGUMENT"
    assert (await refusal(stub.Update(pb.UpdateRequest(), metadata=blue)))[0] == "INVALID_ARGUMENT"


async def test_update_and_filters(stub: rpc.MountsStub, blue: Metadata, lower: Mount) -> None:
    """Labels can change, all or by mask; lists are filtered by name and labels, in byte order."""
    for name in ("b", "a"):
        await activated(stub, blue, lower, temporary=True, name=name, labels={"n": name})
    given = ActivationInfo(name="a", labels={"x": "1", "n": ""})
    request = pb.UpdateRequest(info=given, update_mask={"paths": ["labels.x"]})
    assert dict((await stub.Update(request, metadata=blue)).info.labels) == {"n": "a", "x": "1"}
    assert await listed(stub, blue) == ["a", "b"]
    assert await listed(stub, blue, "name==b", "labels.x==1") == ["a", "b"]
    assert await listed(stub, blue, "labels.n==b") == ["b"]
    request.ClearField("update_mask")
    assert dict((await stub.Update(request, metadata=blue)).info.labels) == {"x": "1"}
    request.update_mask.paths.append("active")
    assert (await refusal(stub.Update(request, metadata=blue)))[0] == "INVALID_ARGUMENT"
    assert (await refusal(stub.List(pb.ListRequest(filters=["="]), metadata=blue).read()))[
        0
    ] == "INVALID_ARGUMENT"


async def test_what_keeps_an_activation(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, store: Store
) -> None:
    """1.3, 11.1: its lease, the targets of its back references, or else itself; no lease is unknown."""
    await activated(stub, blue, lower, temporary=True)
    assert await store.read(edges) == [("mount", "root", "")]
    labels = {"containerd.io/gc.bref.container": "c", "containerd.io/gc.ref.content": "ignored"}
    change = pb.UpdateRequest(info=ActivationInfo(name="m", labels=labels))
    await stub.Update(change, metadata=blue)
    assert await store.read(edges) == [("mount", "bref", "container")]
    await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)
    assert await store.read(edges) == []

    request = pb.ActivateRequest(name="m", mounts=[lower], temporary=True)
    leased = (*blue, ("containerd-lease", "l"))
    assert await refusal(stub.Activate(request, metadata=leased)) == (
        "NOT_FOUND",
        "lease does not exist: not found",
    )
    assert await listed(stub, blue) == []
    await store.write(leases.create, Namespace("blue"), Lease("l"))
    await stub.Activate(request, metadata=leased)
    assert await store.read(edges) == [("lease", "lease", "mount")]
    assert await store.read(leases.resources, Namespace("blue"), "l") == []
    await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)
    assert await store.read(edges) == []


@pytest.mark.parametrize(
    ("mount", "code"),
    [
        (Mount(type="format/bind", source="{{ mount 0 }}"), "INVALID_ARGUMENT"),
        (Mount(type="format/bind", source="{{ index 0 }}"), "INVALID_ARGUMENT"),
        (Mount(type="format/bind", source="{{ mount"), "INVALID_ARGUMENT"),
        (Mount(type="mkdir/bind", options=["X-containerd.mkdir.path=/elsewhere"]), "INVALID_ARGUMENT"),
        (Mount(type="mkdir/bind", options=["X-containerd.mkdir.path=R/a:999"]), "INVALID_ARGUMENT"),
        (Mount(type="mkdir/bind", options=["X-containerd.mkdir.mode=1"]), "INVALID_ARGUMENT"),
        (Mount(type="mkdir/bind", options=["X-containerd.mkdir.path=R/link/a"]), "UNKNOWN"),
        (Mount(type="mkdir/bind", options=["X-containerd.mkdir.path=R/link"]), "FAILED_PRECONDITION"),
        (Mount(type="mkdir/bind", options=["X-containerd.mkdir.path=R/../a"]), "UNKNOWN"),
        (Mount(type="mkfs/loop", source="R/img"), "INVALID_ARGUMENT"),
        (Mount(type="mkfs/loop", source="R", options=[SIZE]), "INVALID_ARGUMENT"),
        (
            Mount(type="mkfs/loop", source="R/link", options=["X-containerd.mkfs.size=1M"]),
            "FAILED_PRECONDITION",
        ),
        (Mount(type="mkfs/loop", source="R/img", options=["X-containerd.mkfs.size=1"]), "UNKNOWN"),
        (Mount(type="mkfs/loop", source="R/img", options=["X-containerd.mkfs.fs=zfs"]), "INVALID_ARGUMENT"),
        (Mount(type="loop", source="R/absent"), "UNKNOWN"),
    ],
    ids=str,
)
async def test_what_fails_leaves_nothing(
    stub: rpc.MountsStub, blue: Metadata, tmp_path: Path, targets: Path, mount: Mount, code: str
) -> None:
    """No row, no mount, no folder; nothing is made outside of the roots, nor behind links."""
    root = tmp_path / "root"
    (root / "link").symlink_to(tmp_path)
    wanted = Mount(
        type=mount.type,
        source=mount.source.replace("R", str(root)),
        options=[option.replace("R", str(root)) for option in mount.options],
    )
    request = pb.ActivateRequest(name="m", mounts=[wanted], temporary=True)
    assert (await refusal(stub.Activate(request, metadata=blue)))[0] == code
    assert await listed(stub, blue) == []
    assert inside(targets) == []
    assert inside(root) == ["link"]
    assert not (tmp_path / "a").exists()


async def test_a_failing_mount_undoes_those_before_it(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, targets: Path
) -> None:
    broken = Mount(type="bind", source="/nowhere", options=["rbind"])
    request = pb.ActivateRequest(name="m", mounts=[lower, broken], temporary=True)
    code, text = await refusal(stub.Activate(request, metadata=blue))
    assert code == "UNKNOWN"
    assert "/nowhere" in text
    assert mounts_below(targets) == []
    assert inside(targets) == []
    await activated(stub, blue, lower, temporary=True)


async def test_a_busy_mount_can_be_deactivated_later(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount
) -> None:
    """It stays listed, and its name taken, until its mounts are gone."""
    info = await activated(stub, blue, lower, temporary=True)
    with open(f"{info.active[0].mount_point}/file"):  # noqa: ASYNC230
        code, text = await refusal(stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue))
        assert code == "FAILED_PRECONDITION"
        assert "try again" in text
        assert await listed(stub, blue) == ["m"]
    await activated(stub, blue, lower, temporary=True)  # finishes what was begun, then starts anew


async def test_a_restart_keeps_what_is_mounted_and_clears_the_rest(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, store: Store, manager: MountManager, targets: Path
) -> None:
    """Activations outlive the daemon; what a crash left half done, or a reboot unmounted, is cleared."""
    for name in ("kept", "lost", "ending", "making"):
        await activated(stub, blue, lower, temporary=True, name=name)
    kept = await stub.Info(pb.InfoRequest(name="kept"), metadata=blue)
    lost = (await stub.Info(pb.InfoRequest(name="lost"), metadata=blue)).info
    kernel.unmount(Path(lost.active[0].mount_point))
    half_done = "UPDATE mounts SET state = name WHERE name IN ('ending', 'making')"
    await store.write(lambda tx: tx.connection.exec_driver_sql(half_done))
    (targets / "999" / "0").mkdir(parents=True)
    manager.reconcile()
    assert await listed(stub, blue) == ["kept"]
    assert (await stub.Info(pb.InfoRequest(name="kept"), metadata=blue)) == kept
    assert len(inside(targets)) == len(mounts_below(targets)) == 1


async def test_collection_asks_once_more(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, store: Store, manager: MountManager
) -> None:
    """11.3: what is kept again, or was made anew under its name, stays."""
    await activated(stub, blue, lower, temporary=True)
    namespace = Namespace("blue")
    record = await store.read(rows.get, namespace, "m")
    assert not manager.collect(namespace, "m", record.id + 1, lambda connection: True)
    assert not manager.collect(namespace, "m", record.id, lambda connection: False)
    assert not manager.collect(namespace, "x", record.id, lambda connection: True)
    assert await listed(stub, blue) == ["m"]
    assert manager.collect(namespace, "m", record.id, lambda connection: True)
    assert await listed(stub, blue) == []


async def test_unmounting_is_not_told_to_the_source(
    stub: rpc.MountsStub, blue: Metadata, lower: Mount, tmp_path: Path
) -> None:
    """A recursive bind of a tree with mounts in it: their end here is not their end there."""
    inner = Path(lower.source) / "inner"
    inner.mkdir()
    (tmp_path / "other").mkdir()
    kernel.mount_all([Value("bind", str(tmp_path / "other"), ("rbind", "rshared"))], inner)
    try:
        await activated(stub, blue, lower, temporary=True)
        await stub.Deactivate(pb.DeactivateRequest(name="m"), metadata=blue)
        assert len(mounts_below(inner)) == 1
    finally:
        kernel.unmount_recursive(inner)
