"""The same layers given to Debian's containerd and to us: the trees must be the same.

What differs on purpose is left out of the archives: containerd lets a whiteout hide what its own layer
brought, merges a directory with a lower one that a whiteout of the same layer had hidden, and refuses
umoci's whiteouts of what was in a directory that the layer makes a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from supervisor.api.services.content.v1 import content_pb2 as content
from supervisor.api.services.content.v1.content_pb2_grpc import ContentStub
from supervisor.api.services.diff.v1.diff_pb2 import ApplyRequest, DiffRequest
from supervisor.api.services.diff.v1.diff_pb2_grpc import DiffStub
from supervisor.api.types.descriptor_pb2 import Descriptor
from supervisor.diff.compare import Comparison, compare
from supervisor.model.mount import Mount
from supervisor.oci.image import OCI_LAYER
from supervisor.services import convert
from tests.diff.layers import Layers, Member, archive, directory, link, member

pytestmark = [pytest.mark.root, pytest.mark.compat]

METADATA = (("containerd-namespace", "diff"),)
CONFIG = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
DEADLINE = 30  # seconds


@dataclass(frozen=True, slots=True)
class Containerd:
    """A running containerd, asked over its socket."""

    channel: grpc.Channel

    def apply(self, data: bytes, mounts: list[Mount]) -> Descriptor:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        write = content.WriteContentRequest(action=content.COMMIT, ref=digest, data=data, expected=digest)
        with contextlib.suppress(grpc.RpcError):  # it is there already; if it is not, Apply tells
            list(ContentStub(self.channel).Write(iter([write]), metadata=METADATA, timeout=DEADLINE))
        request = ApplyRequest(diff=Descriptor(media_type=OCI_LAYER, digest=digest, size=len(data)))
        request.mounts.extend(map(convert.from_mount, mounts))
        return DiffStub(self.channel).Apply(request, metadata=METADATA, timeout=DEADLINE).applied

    def diff(self, left: list[Mount], right: list[Mount]) -> bytes:
        request = DiffRequest(media_type=OCI_LAYER)
        request.left.extend(map(convert.from_mount, left))
        request.right.extend(map(convert.from_mount, right))
        blob = DiffStub(self.channel).Diff(request, metadata=METADATA, timeout=DEADLINE).diff
        read = content.ReadContentRequest(digest=blob.digest)
        answers = ContentStub(self.channel).Read(read, metadata=METADATA, timeout=DEADLINE)
        return b"".join(answer.data for answer in answers)


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    if not shutil.which("containerd"):
        pytest.skip("no containerd: apt-get install containerd")
    with tempfile.TemporaryDirectory(prefix="cd-", dir="/run") as folder:
        config, socket = Path(folder, "config.toml"), Path(folder, "s")
        config.write_text(CONFIG)
        places = [f"--root={folder}/root", f"--state={folder}/state", f"--address={socket}"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(["containerd", f"--config={config}", *places], stdout=quiet, stderr=quiet)
        try:
            with grpc.insecure_channel(f"unix:{socket}") as channel:
                grpc.channel_ready_future(channel).result(timeout=DEADLINE)
                yield Containerd(channel)
        finally:
            process.terminate()
            process.wait(DEADLINE)


def state(path: Path, root: Path) -> tuple[object, ...]:
    """Everything of a file that a layer decides."""
    found = path.lstat()
    kind = stat.S_IFMT(found.st_mode)
    content: object = None
    if stat.S_ISREG(kind):
        content = path.read_bytes()
    elif stat.S_ISLNK(kind):
        content = os.readlink(path)
    elif stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        content = found.st_rdev
    xattrs = {
        key: os.getxattr(path, key, follow_symlinks=False)
        for key in os.listxattr(path, follow_symlinks=False)
    }
    names = sorted(
        str(other.relative_to(root)) for other in root.rglob("*") if other.lstat().st_ino == found.st_ino
    )
    # The marks of an overlay carry the time at which they were made.
    mtime = None if stat.S_ISCHR(kind) and found.st_rdev == 0 else found.st_mtime_ns
    return found.st_mode, found.st_uid, found.st_gid, mtime, content, sorted(xattrs.items()), names


def tree(root: Path, implied: frozenset[str]) -> dict[str, tuple[object, ...]]:
    """The tree below `root`; directories in `implied` without the time at which they were made."""
    found = {str(path.relative_to(root)): state(path, root) for path in root.rglob("*")}
    return {name: (*told[:3], None, *told[4:]) if name in implied else told for name, told in found.items()}


CAPABILITY = "\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
LOWER = [
    directory("kept", mode=0o1777, uid=3),
    member("kept/old", b"old"),
    directory("gone"),
    member("gone/a"),
    directory("opaque"),
    member("opaque/a"),
    directory("opaque/sub"),
    member("opaque/sub/b"),
    member("file"),
    link("link", "kept"),
]
LAYERS: dict[str, list[Member]] = {
    "kinds": [
        directory("d", mode=0o2751, uid=1, gid=2, mtime=77),
        member("d/f", b"text", mode=0o4711, uid=3, gid=4),
        link("d/l", "/somewhere/else"),
        link("h", "d/f", tarfile.LNKTYPE),
        link("hl", "d/l", tarfile.LNKTYPE),
        member("p", kind=tarfile.FIFOTYPE, mode=0o600),
        member("c", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("b", kind=tarfile.BLKTYPE, devmajor=259, devminor=70000),
        member("time", pax_headers={"mtime": "1234567890.987654321", "atime": "5"}),
        member("before", mtime=-100),
        member("x", pax_headers={"SCHILY.xattr.user.a": "b", "SCHILY.xattr.trusted.b": "c"}),
        member("cap", b"x", uid=9, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY}),
        member("n" * 200, b"long"),
        member("/".join(["long"] * 60), b"long"),
    ],
    "odd names": [
        member("./dot/./f"), member("/abs/f"), member("../up/f"), member("a/../b"), directory("./"),
        directory("e//f/"), member("ümläut"), member("new\nline"), member("sp ace"),
    ],
    "links on the way": [
        directory("real"), link("rel", "real"), link("abs", "/real"), link("out", "../../.."),
        link("dangling", "/made/by/it"), member("rel/a"), member("abs/b"), member("out/c"),
        member("dangling/d"),
        link("rel/h", "abs/b", tarfile.LNKTYPE),
    ],
    "replacing": [
        directory("file"), member("gone", b"a file now"), directory("link"), directory("kept", mode=0o700),
        link("kept/old", "nowhere"), member("twice", b"1"), member("twice", b"2"), link("twice", "3"),
        member("twice-dir/f"), member("twice-dir", b"x"),
    ],
    "whiteouts": [
        member(".wh.gone"), member("kept/.wh.old"), member("kept/.wh.never"), member("opaque/.wh..wh..opq"),
        member("opaque/new", b"n"), directory("opaque/sub"), member("opaque/sub/c"), member("new-dir/.wh.x"),
    ],
    "implied": [member("kept/a/b"), member("fresh/a/b"), link("kept/q", "kept/old2")],
}  # fmt: skip


@pytest.mark.parametrize("mode", ["bind", "overlay"])
@pytest.mark.parametrize("dialect", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_same_tree(containerd: Containerd, tmp_path: Path, name: str, dialect: int, mode: str) -> None:
    data = archive(*LAYERS[name], dialect=dialect)
    trees = []
    for place in ("ours", "theirs"):
        layers = Layers(tmp_path / place)
        for folder in (layers.root, layers.upper, layers.root / "work"):
            folder.mkdir()
        base = Layers(layers.root)
        lower = layers.lower() if mode == "overlay" else layers.upper
        base.apply(archive(*LOWER), [Mount("bind", str(lower), ("rw", "rbind"))])
        if place == "ours":
            applied = layers.apply(data, getattr(layers, mode)())
        else:
            answer = containerd.apply(data, getattr(layers, mode)())
            assert (answer.media_type, answer.digest, answer.size) == (
                applied.media_type, applied.digest, applied.size,
            )  # fmt: skip
        told = {
            str(Path(os.path.normpath(f"/{info.name.lstrip('/')}")).relative_to("/"))
            for info, _ in LAYERS[name]
        }
        untold = (
            frozenset(str(p.relative_to(layers.upper)) for p in layers.upper.rglob("*") if p.is_dir()) - told
        )
        trees.append(tree(layers.upper, untold))
    ours, theirs = trees
    assert ours.keys() == theirs.keys()
    for path in ours:
        assert ours[path] == theirs[path], path


def listed(layer: bytes) -> list[dict[str, object]]:
    """A layer's entries in their order. Whiteouts have the present time in containerd 1.6, none in 2."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return [
            member.get_info()
            | member.pax_headers
            | {"data": data_of(tar, member), "chksum": None}
            | ({"mtime": None} if ".wh." in member.name else {})
            for member in tar
        ]


def data_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return file.read() if file else b""


def test_the_same_layer(containerd: Containerd, layers: Layers) -> None:
    lower = layers.lower()
    base = archive(*LOWER, member("same", b"x"), member("h1", b"y"))
    for root in (lower, layers.upper):
        layers.apply(base, [Mount("bind", str(root), ("rw", "rbind"))])
        os.link(root / "h1", root / "h2")
    os.link(layers.upper / "h1", layers.upper / "g-new")
    layers.apply(archive(*LAYERS["kinds"], *LAYERS["whiteouts"], member("file", b"changed")))
    left = [Mount("bind", str(lower), ("ro", "rbind"))]
    theirs = containerd.diff(left, layers.bind())
    ours = io.BytesIO()
    compare(Comparison(left, layers.bind(), OCI_LAYER), ours.write, tmp_root=layers.root / "tmp")
    assert listed(ours.getvalue()) == listed(theirs)
