"""Folders of tasks: contract tasks 2.4."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.errors import FailedPrecondition, SupervisorError
from supervisor.kernel.mounts import mount_all, unmount_recursive
from supervisor.model.identifiers import ContainerId, Namespace
from supervisor.model.mount import Mount
from supervisor.shimv2 import bundle as bundles
from supervisor.shimv2.bundle import Bundle
from supervisor.shimv2.settings import ShimSettings


@pytest.fixture
def settings(tmp_path: Path) -> ShimSettings:
    return ShimSettings(tmp_path / "root", tmp_path / "state", "/g", "/t", "/d")


@pytest.fixture
def bundle(settings: ShimSettings) -> Iterator[Bundle]:
    made = Bundle.of(settings, Namespace("ns"), ContainerId("c1"))
    yield made
    unmount_recursive(made.path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_in_it(bundle: Bundle) -> None:
    bundle.create(b'{"a": 1}')
    assert mode(bundle.path) == 0o700
    assert mode(bundle.path.parent) == mode(bundle.rootfs) == mode(bundle.work) == 0o711
    assert (bundle.path / "config.json").read_bytes() == b'{"a": 1}'
    assert (bundle.path / "work").readlink() == bundle.work
    assert stat.S_ISFIFO(bundle.log.stat().st_mode)


def test_removal_takes_everything_and_can_be_repeated(bundle: Bundle) -> None:
    bundle.create(b"{}")
    (bundle.path / "something").write_text("x")
    bundle.remove()
    bundle.remove()
    assert not bundle.path.parent.exists()
    assert not bundle.work.parent.exists()


def test_a_former_bundle_is_not_taken_over(bundle: Bundle) -> None:
    bundle.create(b"{}")
    with pytest.raises(SupervisorError, match="a former task left it"):
        bundle.create(b"{}")
    assert bundle.path.exists()


def test_a_former_work_folder_is_emptied(bundle: Bundle) -> None:
    bundle.work.mkdir(parents=True)
    (bundle.work / "old").touch()
    bundle.create(b"{}")
    assert list(bundle.work.iterdir()) == []


def test_an_interrupted_removal_is_finished(bundle: Bundle, settings: ShimSettings) -> None:
    bundle.create(b"{}")
    bundle.path.rename(bundle.path.with_name(".c1"))
    bundles.remove_leftovers(settings)
    assert list(bundle.path.parent.iterdir()) == []
    assert list(bundles.on_disk(settings)) == []


def test_an_interrupted_removal_does_not_block_the_next(bundle: Bundle) -> None:
    bundle.create(b"{}")
    bundle.path.rename(bundle.path.with_name(".c1"))
    bundle.remove()
    bundle.create(b"{}")
    bundle.remove()
    assert not bundle.path.parent.exists()


@pytest.mark.root
def test_removal_unmounts_and_spares_what_was_mounted(bundle: Bundle, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    bundle.create(b"{}")
    for _ in range(2):
        mount_all([Mount("bind", str(precious), ("rbind",))], bundle.rootfs)
    bundle.remove()
    assert (precious / "file").exists()


@pytest.mark.root
def test_a_mount_elsewhere_in_the_bundle_stops_the_removal(bundle: Bundle, tmp_path: Path) -> None:
    bundle.create(b"{}")
    other = bundle.path / "other"
    other.mkdir()
    mount_all([Mount("tmpfs", "tmpfs")], other)
    with pytest.raises(FailedPrecondition, match="still mounted"):
        bundle.remove()
    assert other.exists()


@pytest.mark.root
def test_a_mapped_root_gets_the_bundle_by_its_group(bundle: Bundle) -> None:
    spec = {"linux": {"gidMappings": [{"containerID": 0, "hostID": 1234, "size": 1}]}}
    bundle.create(json.dumps(spec).encode())
    assert (mode(bundle.path), os.stat(bundle.path).st_gid) == (0o710, 1234)


@pytest.mark.parametrize("spec", [b"", b"[]", b"{}", b'{"linux": null}', b'{"linux": {"gidMappings": null}}'])
def test_specs_without_a_mapping(spec: bytes) -> None:
    assert bundles.mapped_group(spec) == 0


def test_many_at_once_in_one_namespace(settings: ShimSettings) -> None:
    """The namespace's folder comes and goes under their hands."""

    def one(number: int) -> None:
        for _ in range(20):
            bundle = Bundle.of(settings, Namespace("ns"), ContainerId(f"c{number}"))
            bundle.create(b"{}")
            bundle.remove()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert list(settings.bundles.iterdir()) == []
