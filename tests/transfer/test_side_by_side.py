"""Layers unpacked side by side make the trees that one after the other makes."""

from __future__ import annotations

import os
import tarfile
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from supervisor.diff.apply import Applied
from supervisor.errors import DataLoss, SupervisorError
from supervisor.model import digest as digests
from tests.diff.layers import Member, archive, directory, link, member
from tests.transfer import world

pytestmark = pytest.mark.root

_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_FILES = st.tuples(_PATHS, st.sampled_from("ffgga")).map("/".join)
"""Seldom where there may be a directory: a layer that goes through a file cannot be unpacked."""
_MODES = st.sampled_from([0o700, 0o755, 0o1777, 0o2750])
_IDS = st.sampled_from([0, 1000, 3_000_000])
_TIMES = st.integers(1_000, 1_600_000_000)


@st.composite
def _layer(draw: st.DrawFn) -> list[Member]:
    return _linked(draw, draw(st.lists(_member(), min_size=1, max_size=7)))


def _linked(draw: st.DrawFn, members: list[Member]) -> list[Member]:
    """With a further name for one of the files, if there are any."""
    files = [one.name for one, _ in members if one.isfile() and ".wh." not in one.name]
    return [*members, link(draw(_FILES), draw(st.sampled_from(files)), tarfile.LNKTYPE)] if files else members


@st.composite
def _member(draw: st.DrawFn) -> Member:
    path, file = draw(_PATHS), draw(_FILES)
    parent, _, name = draw(st.sampled_from([path, file])).rpartition("/")
    made = {"mode": draw(_MODES), "uid": draw(_IDS), "gid": draw(_IDS), "mtime": draw(_TIMES)}
    match draw(st.sampled_from(["dir", "dir", "file", "file", "link", "gone", "opaque", "xattr"])):
        case "dir":
            return directory(path, **made)
        case "file":
            return member(file, draw(st.binary(max_size=20)), **made)
        case "link":
            return link(file, draw(_PATHS))
        case "gone":
            return member(f"{parent}/.wh.{name}".lstrip("/"))
        case "opaque":
            return member(f"{path}/.wh..wh..opq")
        case _:
            return directory(path, pax_headers={"SCHILY.xattr.user.of": path}, **made)


_LAYERS = st.lists(_layer(), min_size=2, max_size=4)
_IMPLIED = [
    [
        directory("a", mode=0o700, uid=1000),
        directory("a/b", mode=0o750, gid=7, mtime=5),
        member("a/b/c", b"1"),
    ],
    [member("a/b/b", b"2")],
    [member("a/.wh.b"), member("a/c", b"3")],
    [member("a/b/a", b"4"), link("a/b/c", "a/b/a", tarfile.LNKTYPE)],
]
"""Directories that only lower layers describe, one of them gone in between."""


def _unpacked(layers: list[list[Member]], unpacks: int) -> object:
    """What the unpacking of a stack of layers makes, or that it fails."""
    packed, chain = world.layout([archive(*members) for members in layers])
    with tempfile.TemporaryDirectory() as folder, world.opened(Path(folder) / "s", unpacks) as stores:
        try:
            world.bring(stores, packed, unpack=True)
        except SupervisorError:  # a link from nowhere, a directory in place of which there is a file
            assert {one.name for one in stores.snapshots.list(world.PLACE)} <= set(chain)
            return "failed"
        parents = {one.name: one.parent for one in stores.snapshots.list(world.PLACE)}
        assert parents == dict(zip(chain, ("", *chain), strict=False))
        return world.trees(stores, chain[-1], Path(folder))


LONG = os.environ.get("CRASH") == "long"


@pytest.mark.timeout(3600 if LONG else 120)
@settings(
    max_examples=300 if LONG else 12,
    phases=[Phase.explicit, Phase.generate],  # an example is dear: each layer has a process
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not LONG,
)
@example(_IMPLIED)
@given(_LAYERS)
def test_the_same_trees(layers: list[list[Member]]) -> None:
    """Of what is shown, and of every layer's own folder with its marks; or both fail."""
    assert _unpacked(layers, 3) == _unpacked(layers, 1)


def test_layers_are_really_unpacked_at_the_same_time(tmp_path: Path) -> None:
    """All three must have begun before the first may end."""
    together = threading.Barrier(3, timeout=20)
    packed, chain = world.layout([archive(member(name, b"x")) for name in "abc"])
    with world.opened(tmp_path / "s", 3) as stores:

        def waiting(*given: object) -> Applied:
            together.wait()
            return stores.apply(*given)  # type: ignore[arg-type]

        meeting = replace(stores, apply=waiting)
        world.bring(meeting, packed, unpack=True)
        assert set(world.trees(stores, chain[-1], tmp_path)[0]) == {"a", "b", "c"}


def test_one_that_fails_takes_the_others_with_it(tmp_path: Path) -> None:
    """The layers below it stay, for they are what they should be; nothing else does."""
    layers = [archive(member(name, name.encode() * 2_000_000)) for name in "abcd"]
    packed, chain = world.layout(layers)
    with world.opened(tmp_path / "s", 4) as stores:

        def damaged(namespace: object, blob: object, media_type: str, mounts: object, apart: bool) -> Applied:
            made = stores.apply(namespace, blob, media_type, mounts, apart)  # type: ignore[arg-type]
            third = made.digest == world.digest_of(layers[2])
            return replace(made, digest=digests.digest(chain[0])) if third else made

        meeting = replace(stores, apply=damaged)
        with pytest.raises(DataLoss, match="the image promises"):
            world.bring(meeting, packed, unpack=True)
        left = {one.name for one in stores.snapshots.list(world.PLACE)}
        assert left <= set(chain[:2])
