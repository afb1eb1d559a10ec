"""Layers that become too much: each is stopped at its limit, and the error says at which one."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from supervisor.diff.limits import NO_LIMITS, Limits
from supervisor.errors import ResourceExhausted, SupervisorError
from supervisor.oci.image import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from tests.diff.layers import Layers, Member, archive, member

pytestmark = pytest.mark.root

Outside = Callable[[], dict[str, object]]
MIB = 1 << 20
HINT = "; if you trust it, raise {} in [diff.limits]"
TOO_MANY_BYTES = f"unpacked it has more than {4 * MIB} bytes, of which {{}} were read so far" + HINT.format(
    "max_bytes"
)
FOUR_MIB = Limits(max_bytes=4 * MIB)


def files(count: int, size: int) -> bytes:
    """An archive of files of zeros."""
    return archive(*(member(f"f{number}", bytes(size)) for number in range(count)))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def written(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def refusal(layers: Layers, data: bytes, limits: Limits, media_type: str = OCI_LAYER) -> str:
    with pytest.raises(ResourceExhausted) as raised:
        layers.apply(data, media_type=media_type, limits=limits)
    return str(raised.value)


BOMBS: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(files(40, MIB // 2)), OCI_LAYER_GZIP),
    "gzip of many members": (gzip.compress(bytes(MIB // 4)) * 100, OCI_LAYER_GZIP),
    "zstd": (zstd(files(40, MIB // 2)), OCI_LAYER_ZSTD),
    "zstd of many frames": (zstd(bytes(MIB // 4)) * 100, OCI_LAYER_ZSTD),
    "what follows the archive": (gzip.compress(files(1, 1) + bytes(20 * MIB)), OCI_LAYER_GZIP),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bytes_stop_at_their_limit(layers: Layers, outside: Outside, name: str) -> None:
    before, (data, media_type) = outside(), BOMBS[name]
    assert refusal(layers, data, FOUR_MIB, media_type) == TOO_MANY_BYTES.format(len(data))
    assert written(layers.upper) <= 4 * MIB
    assert outside() == before


def test_an_uncompressed_layer_has_the_same_limit(layers: Layers, outside: Outside) -> None:
    before = outside()
    assert refusal(layers, files(40, MIB // 2), FOUR_MIB).startswith("unpacked it has more than")
    assert outside() == before


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_the_ratio_stops_where_it_is_looked_at(layers: Layers, outside: Outside, name: str) -> None:
    before, (data, media_type) = outside(), BOMBS[name]
    limits = Limits(max_ratio=20, ratio_from_bytes=2 * MIB)
    told = f"unpacked it has {3 * MIB} bytes, more than 20 times the {len(data)} read so far"
    assert refusal(layers, data, limits, media_type) == told + HINT.format("max_ratio")
    assert written(layers.upper) <= 2 * MIB
    assert outside() == before


def test_what_is_small_may_be_compressed_well(layers: Layers) -> None:
    data, limits = files(4, MIB // 4), Limits(max_ratio=2, ratio_from_bytes=2 * MIB)
    assert layers.apply(gzip.compress(data), media_type=OCI_LAYER_GZIP, limits=limits).size == len(data)


@dataclass
class Endless:
    """Members of gzip, for ever; `taken` bytes of them were read."""

    member: bytes
    taken: int = 0

    def read(self, size: int, /) -> bytes:
        start = self.taken % len(self.member)
        self.taken += (count := min(size, len(self.member) - start))
        return self.member[start : start + count]


@pytest.mark.timeout(30)
def test_a_stream_without_end_ends(layers: Layers, outside: Outside) -> None:
    before, source = outside(), Endless(gzip.compress(files(1, MIB)))
    with pytest.raises(ResourceExhausted, match="max_bytes"):
        layers.apply_stream(source, OCI_LAYER_GZIP, FOUR_MIB)
    assert source.taken < 10 * len(source.member)
    assert outside() == before


def test_gzip_inside_of_gzip_is_opened_once(layers: Layers, outside: Outside) -> None:
    """The outer one is within the limits; the inner one is no tar, whatever is in it."""
    before, (data, media_type) = outside(), BOMBS["gzip"]
    with pytest.raises(SupervisorError, match="no tar archive"):
        layers.apply(gzip.compress(data), media_type=media_type, limits=FOUR_MIB)
    assert outside() == before


def sparse(size: int, *, stored: bytes = b"", name: str = "f", form: str = "0.1") -> Member:
    """A sparse file whose `stored` bytes lie at its beginning."""
    records = {"GNU.sparse.map": f"0,{len(stored)}", "GNU.sparse.size": str(size)}
    if form == "1.0":
        records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(size)}
        stored = f"1\n0\n{len(stored)}\n".encode().ljust(512, b"\0") + stored
    return member(name, stored, pax_headers=records)


GIGANTIC: dict[str, Member] = {
    "sparse": sparse(2**60),
    "sparse, map before the data": sparse(2**60, form="1.0", stored=b"x"),
    "claimed": member("f", pax_headers={"size": str(2**60)}),
}


@pytest.mark.parametrize("name", GIGANTIC)
def test_a_gigantic_file_is_refused_before_it_is_made(layers: Layers, outside: Outside, name: str) -> None:
    before, data = outside(), archive(member("before"), GIGANTIC[name], member("after"))
    told = f"'f' claims {2**60} bytes, a layer may have {4 * MIB} unpacked"
    assert refusal(layers, data, FOUR_MIB) == told + HINT.format("max_bytes")
    assert {path.name for path in layers.upper.iterdir()} <= {"before"}
    assert outside() == before


def test_holes_do_not_count(layers: Layers) -> None:
    data = archive(*(sparse(3 * MIB, stored=b"x" * 512, name=f"f{number}") for number in range(20)))
    layers.apply(data, limits=FOUR_MIB)
    assert written(layers.upper) == 60 * MIB


def test_entries_stop_at_their_limit(layers: Layers, outside: Outside) -> None:
    before, limits = outside(), Limits(max_entries=100)
    told = "it makes more than 100 files and directories" + HINT.format("max_entries")
    assert refusal(layers, files(1000, 0), limits) == told
    assert len(list(layers.upper.iterdir())) <= 100
    assert outside() == before


def test_directories_that_are_only_implied_count(layers: Layers, outside: Outside) -> None:
    before, name = outside(), "/".join("d" * 500)
    told = "it makes more than 100 files and directories" + HINT.format("max_entries")
    assert refusal(layers, archive(member(name)), Limits(max_entries=100)) == told
    assert len(list(layers.upper.rglob("*"))) <= 100
    assert outside() == before


def test_what_stays_at_its_limits_is_unpacked(layers: Layers) -> None:
    data = files(100, 0)
    limits = Limits(max_bytes=len(data), max_entries=100, max_ratio=1, ratio_from_bytes=0)
    layers.apply(data, limits=limits)
    assert len(list(layers.upper.iterdir())) == 100


def test_no_limits(layers: Layers) -> None:
    data, media_type = BOMBS["zstd"]
    layers.apply(data, media_type=media_type, limits=NO_LIMITS)
    layers.apply(archive(sparse(2**40, name="h")), limits=NO_LIMITS)
    assert written(layers.upper) == 20 * MIB + 2**40


def test_the_defaults_let_ordinary_layers_pass() -> None:
    limits = Limits()
    limits.check_bytes(64 << 30, 4 << 30)
    limits.check_entries(2_000_000)
    with pytest.raises(ResourceExhausted, match="max_ratio"):
        limits.check_bytes(64 << 30, (64 << 30) // tarfile.BLOCKSIZE)
