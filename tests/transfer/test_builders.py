"""Images made by other projects' builders: what a container would see is what was put into them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.metadata import images
from supervisor.oci import image as documents
from supervisor.oci.image import ImageConfig, Index, Manifest
from supervisor.transfer.naming import NameRule
from supervisor.transfer.stores import Stores
from tests.transfer import world
from tests.transfer.world import NAMESPACE

pytestmark = [pytest.mark.root, pytest.mark.compat]

OWNED = (1000, 1001)
THEN = 1_600_000_000
NAMES = NameRule("example.com/built", is_prefix=True)
CAPABILITY = b"\x01\0\0\x02\0\x20\0\0" + bytes(12)
"""cap_net_raw=ep, as the kernel keeps it."""

LONG = "n" * 120


@pytest.fixture(params=[1, 2])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Stores that unpack so many layers at a time."""
    with world.opened(tmp_path / "stores", request.param) as opened:
        yield opened


def run(*command: object) -> str:
    """A program that must succeed; what it prints."""
    words = [str(word) for word in command]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def fill(root: Path) -> None:
    """The first layer: one of all that a layer can hold."""
    for name in ("etc", "bin", "var/lib/empty", "gone/deep", "replaced", f"{LONG}/{LONG}"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "bin/large").write_bytes(os.urandom(3 << 20))
    (root / "bin/ünïcode ☃").write_bytes(b"name")
    (root / f"{LONG}/{LONG}/{LONG}").write_bytes(b"long")
    (root / "gone/deep/file").write_bytes(b"gone")
    (root / "replaced/file").write_bytes(b"old")
    (root / "bin/one").write_bytes(b"twice")
    os.link(root / "bin/one", root / "bin/two")
    os.symlink("one", root / "bin/soft")
    os.symlink("/nowhere/" + LONG, root / "bin/dangling")
    os.mkfifo(root / "etc/fifo")
    os.mknod(root / "etc/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(root / "bin/one", *OWNED)
    os.lchown(root / "bin/soft", *OWNED)
    (root / "bin/one").chmod(0o4755)
    (root / "var/lib/empty").chmod(0o1777)
    os.setxattr(root / "bin/large", "security.capability", CAPABILITY)
    settle(root)


def change(root: Path) -> None:
    """The second layer: what is new, changed, gone, and something else than before."""
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/false\n")
    (root / "etc/new").write_bytes(b"new")
    shutil.rmtree(root / "gone/deep")
    shutil.rmtree(root / "replaced")
    (root / "replaced").write_bytes(b"a file now")
    (root / "bin/soft").unlink()
    (root / "bin/soft").mkdir(mode=0o700)
    (root / "etc/fifo").unlink()
    settle(root)


def settle(root: Path) -> None:
    """Give everything one time, of whole seconds, since not every builder keeps the rest."""
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            os.utime(os.path.join(folder, name), (THEN, THEN), follow_symlinks=False)


def imported(stores: Stores, archive: Path, name: str) -> tuple[ImageConfig, bytes]:
    """The configuration of the one image of an archive, which is imported and unpacked."""
    assert world.bring(stores, archive.read_bytes(), NAMES, unpack=True) == [name]
    target = stores.content.database.read(lambda c: images.get(c, NAMESPACE, name)).target
    with world.a_scope(stores) as scope:
        parsed = documents.parse(scope.document(target), target.media_type)
        if isinstance(parsed, Index):
            (entry,) = parsed.entries
            parsed = documents.parse(scope.document(entry.descriptor), entry.descriptor.media_type)
        assert isinstance(parsed, Manifest)
        data = scope.document(parsed.config)
    return documents.parse_config(data), data


def check(stores: Stores, tmp: Path, wanted: dict[str, object]) -> None:
    """What is unpacked of the image of two layers in `tmp` shows the tree `wanted`."""
    config, document = imported(stores, tmp / "image.tar", "example.com/built:1")
    assert json.loads(document)["config"]["Cmd"] == ["/bin/one", "two"]
    assert "BUILT=yes" in json.loads(document)["config"]["Env"]
    assert len(config.diff_ids) == 2
    (tmp / "seen").mkdir()
    shown, *_ = world.trees(stores, documents.chain_ids(config.diff_ids)[-1], tmp / "seen")
    assert shown == wanted


@pytest.mark.skipif(not shutil.which("umoci"), reason="needs Debian's package umoci")
def test_umoci(stores: Stores, tmp_path: Path) -> None:
    """Its layers lack the zeros at their end, and are gzip of several members."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    tag = f"{layout}:1"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", tag)
    run("umoci", "unpack", "--image", tag, bundle)
    for alter in (fill, change):
        alter(bundle / "rootfs")
        run("umoci", "repack", "--refresh-bundle", "--image", tag, bundle)
    told = ("--config.cmd", "/bin/one", "--config.cmd", "two", "--config.env", "BUILT=yes")
    run("umoci", "config", "--image", tag, *told)
    with tarfile.open(tmp_path / "image.tar", "w") as packed:
        packed.add(layout, ".")
    check(stores, tmp_path, world.tree(bundle / "rootfs"))


@pytest.mark.skipif(not shutil.which("buildah"), reason="needs Debian's package buildah")
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_buildah(stores: Stores, tmp_path: Path, kind: str) -> None:
    """Its docker archives hold layers that are links to each other."""
    policy, first = tmp_path / "policy.json", "localhost/first:1"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    storage = ("--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    commit = ("commit", "--signature-policy", policy, "--quiet")

    def buildah(*words: object) -> str:
        return run("buildah", *storage, *words)

    container = buildah("from", "--signature-policy", policy, "scratch")
    fill(Path(buildah("mount", container)))
    buildah(*commit, container, first)
    container = buildah("from", "--signature-policy", policy, "--pull-never", first)
    root = Path(buildah("mount", container))
    change(root)
    buildah("config", "--cmd", '["/bin/one", "two"]', "--env", "BUILT=yes", container)
    form = "docker" if kind == "docker-archive" else "oci"
    buildah(*commit, "--format", form, container, f"{kind}:{tmp_path}/image.tar:example.com/built:1")
    wanted = world.tree(root)
    buildah("umount", "--all")
    check(stores, tmp_path, wanted)
