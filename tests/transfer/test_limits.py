"""Images whose layers become too much: they are not unpacked, and what was begun is gone."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.client.client import Client
from supervisor.diff.compression import Compression
from supervisor.diff.limits import Limits
from supervisor.errors import ResourceExhausted
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import digest
from supervisor.oci import image as documents
from supervisor.oci.archive import NAME_ANNOTATION
from supervisor.transfer.converting import Conversion
from supervisor.transfer.stores import Stores
from supervisor.transfer.walking import EVERYTHING
from tests.compat.conftest import a_target
from tests.registries import Registry, needs_registry
from tests.registry.images import push, reference, session
from tests.transfer import world
from tests.transfer.layers import large_image
from tests.transfer.world import NAMESPACE, PLACE

pytestmark = pytest.mark.root

MIB = 1 << 20
LIMITS = Limits(max_bytes=4 * MIB, max_entries=50, max_ratio=100, ratio_from_bytes=2 * MIB)
GOOD = world.tar({"good": b"1"})
LARGE = world.tar({f"f{number}": bytes(MIB // 2) for number in range(20)})
MANY = world.tar({f"f{number}": b"" for number in range(100)})


@pytest.fixture(params=[1, 2])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Stores that unpack so many layers at a time."""
    with world.opened(tmp_path / "stores", request.param, LIMITS) as opened:
        yield opened


@pytest.mark.parametrize(("bad", "setting"), [(LARGE, "max_bytes"), (MANY, "max_entries")])
def test_nothing_of_such_a_layer_stays(stores: Stores, tmp_path: Path, bad: bytes, setting: str) -> None:
    packed, chain = world.layout([GOOD, bad])
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    with pytest.raises(ResourceExhausted, match=rf"^layer {world.digest_of(bad)}: .* raise {setting} in"):
        world.bring(stores, packed, unpack=True)
    assert {one.name for one in stores.snapshots.list(PLACE)} <= {chain[0]}
    stores.snapshots.cleanup(PLACE.snapshotter)
    assert not list((tmp_path / "stores/overlayfs").rglob("f[0-9]*"))
    assert canary.read_text() == "untouched"


def test_an_archive_that_grows_too_much_is_not_written_down(stores: Stores) -> None:
    with pytest.raises(ResourceExhausted, match=r"^read image archive: unpacked .* max_ratio"):
        world.bring(stores, gzip.compress(bytes(16 * MIB)))
    assert not stores.content.infos(NAMESPACE)


def test_an_archive_may_be_larger_than_a_layer(stores: Stores) -> None:
    layers = [world.tar({f"f{number}": bytes(MIB)}) for number in range(6)]
    packed, _ = world.layout(layers, **{NAME_ANNOTATION: "example.com/made:1"})
    assert len(packed) > LIMITS.max_bytes
    assert world.bring(stores, packed, unpack=True) == ["example.com/made:1"]


def test_a_conversion_has_the_same_limits(stores: Stores) -> None:
    packed, _ = world.layout([LARGE])
    (name,) = world.bring(stores, packed)
    with (
        world.a_scope(stores) as scope,
        pytest.raises(ResourceExhausted, match=f"^layer {world.digest_of(LARGE)}: .* max_bytes"),
    ):
        Conversion(scope, Compression.ZSTD, EVERYTHING).convert(name, "example.com/new:1")
    assert not stores.content.statuses(NAMESPACE)


@pytest.mark.compat
@needs_registry
def test_a_daemon_has_the_limits_of_its_configuration(registry: Registry) -> None:
    """Whichever way a layer comes."""
    packed, _ = world.layout([GOOD, MANY])
    place, pulled = reference(registry.host, "large"), large_image("large", (3 * MIB,))
    with session() as opened:
        push(opened, place, pulled)
    layer = Descriptor(documents.OCI_LAYER, digest(world.digest_of(MANY)), len(MANY))

    async def scenario(client: Client) -> None:
        with pytest.raises(ResourceExhausted, match=rf"layer {layer.digest}: .* raise max_entries in"):
            await client.transfers.import_stream(io.BytesIO(packed), unpack="overlayfs")
        large = pulled.layers[0].descriptor.digest
        with pytest.raises(ResourceExhausted, match=rf"layer {large}: .* raise max_bytes in"):
            await client.transfers.pull(str(place))
        snapshots = client.snapshots("overlayfs")
        assert len(await snapshots.list()) <= 1, "the good layer's"
        await client.transfers.import_stream(io.BytesIO(packed), unpack=None)
        mounts = await snapshots.prepare("applied", labels={"containerd.io/gc.root": "kept"})
        with pytest.raises(ResourceExhausted, match=rf"layer {layer.digest}: .* raise max_entries in"):
            await client.diffs.apply(layer, mounts)

    async def run(address: Path) -> None:
        async with Client(str(address)) as client:
            await scenario(client)

    config = f"\n[diff.limits]\nmax_bytes = {2 * MIB}\nmax_entries = 50\n"
    with a_target(containerd=False, config=config) as target:
        asyncio.run(run(target.address))
