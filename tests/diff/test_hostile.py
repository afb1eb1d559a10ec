"""Archives made to break out, and the walls that they meet: nothing beside the layer ever changes."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.diff.target import Target
from supervisor.diff.unpacking import unpack
from supervisor.errors import SupervisorError
from tests.diff.hostile import UP, attacks
from tests.diff.layers import Layers, archive, link, member

pytestmark = pytest.mark.root

Outside = Callable[[], dict[str, object]]
FAIL = {
    "hard link out", "hard link up", "hard link by a link", "whiteout of dots", "whiteout of more dots",
    "whiteout of nothing", "link to itself", "links in a circle", "below a file", "nul", "long",
    "long component", "long through links", "huge", "huge and sparse", "owner", "negative owner",
    "unknown type",
    "hard link to nothing", "hard link to the root",
}  # fmt: skip


@pytest.mark.parametrize("mode", ["bind", "overlay", "mounted"])
@pytest.mark.parametrize("name", attacks(Path("/canary")))
def test_nothing_outside_changes(layers: Layers, outside: Outside, name: str, mode: str) -> None:
    lower = layers.lower()
    (lower / "tmpfs").mkdir()
    before = outside()
    attempt = pytest.raises(SupervisorError) if name in FAIL else contextlib.nullcontext()
    with attempt:
        layers.apply(archive(*attacks(layers.root / "canary")[name]), getattr(layers, mode)())
    assert outside() == before
    assert not any(lower.glob("*/*"))


PARTS = st.lists(
    st.sampled_from(["..", "a", "b", "l", "canary", "file", ".", "", ".wh.a", ".wh..wh..opq"]), max_size=5
)
NAMES = PARTS.map("/".join)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_mixture_stays_inside(layers: Layers, outside: Outside, data: st.DataObject) -> None:
    before = outside()
    kinds = st.sampled_from(
        [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
    )
    root = str(layers.root)
    targets = NAMES | NAMES.map(lambda name: f"{root}/{name}") | NAMES.map(lambda name: f"{UP}{root}/{name}")
    members = [
        link(name or "x", target, kind)
        if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
        else member(name or "x", kind=kind)
        for name, target, kind in data.draw(
            st.lists(st.tuples(targets, targets, kinds), min_size=3, max_size=12)
        )
    ]
    with contextlib.suppress(SupervisorError):
        layers.apply(archive(*members), data.draw(st.sampled_from([layers.bind(), layers.overlay()])))
    assert outside() == before


def test_nothing_is_imported_from_the_layer(layers: Layers) -> None:
    """Python would look for the codec of an odd name, and for a module to raise with, in its library."""
    library = Path(os.__file__).parent
    traps = [
        member(str(library / "encodings" / f"{name}.py"), b"import os; os.mkdir('/trap')")
        for name in ("idna", "utf_7")
    ]
    traps += [
        member(str(library / f"{name}.py"), b"import os; os.mkdir('/trap')")
        for name in ("traceback", "linecache")
    ]
    with pytest.raises(SupervisorError):
        layers.apply(archive(*traps, member("f"), member("f/x")))
    assert not (layers.upper / "trap").exists()


def worker_of(parent: int) -> int:
    """The child of a process that is an unpacking worker inside its own root already."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{parent}/task").iterdir():
            for pid in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/root") != "/":
                        return int(pid)
    raise AssertionError("no worker entered its root in time")


def test_the_worker_is_confined(layers: Layers) -> None:
    seen: dict[str, str] = {}

    def pieces() -> Iterator[bytes]:
        yield archive(member("a"), ended=False)
        deadline = time.monotonic() + 20
        pid = worker_of(os.getpid())
        while not (layers.upper / "a").exists() and time.monotonic() < deadline:
            pass
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":\t")
            seen[key] = value
        seen["net"] = os.readlink(f"/proc/{pid}/ns/net")
        seen["mnt"] = os.readlink(f"/proc/{pid}/ns/mnt")
        seen["descriptors"] = " ".join(sorted(os.listdir(f"/proc/{pid}/fd")))
        seen["environment"] = Path(f"/proc/{pid}/environ").read_text()
        yield archive(member("b"))

    unpack(pieces(), Target(root=str(layers.upper)), "", sync=False)
    allowed = sum(1 << number for number in (0, 1, 3, 4, 27, 31))
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == int(seen["CapBnd"], 16) == allowed
    assert int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    assert seen["NoNewPrivs"] == "1"
    assert seen["net"] != os.readlink("/proc/self/ns/net")
    assert seen["mnt"] != os.readlink("/proc/self/ns/mnt")
    assert seen["descriptors"] == "0 1 2"
    assert seen["environment"] == ""
    assert (layers.upper / "b").exists()


def test_a_failing_source_ends_the_worker(layers: Layers) -> None:
    found: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield archive(member("a"), ended=False)
        found.append(worker_of(os.getpid()))
        raise SupervisorError("the blob is damaged")

    with pytest.raises(SupervisorError, match="the blob is damaged"):
        unpack(pieces(), Target(root=str(layers.upper)), "", sync=False)
    assert not Path(f"/proc/{found[0]}").exists()


def test_a_killed_worker_is_told(layers: Layers) -> None:
    def pieces() -> Iterator[bytes]:
        yield archive(member("a"), ended=False)
        os.kill(worker_of(os.getpid()), 9)
        while True:
            yield bytes(1 << 20)

    with pytest.raises(SupervisorError, match="died without a word"):
        unpack(pieces(), Target(root=str(layers.upper)), "", sync=False)


def test_the_worker_imports_little() -> None:
    """It starts once a layer, so its imports are counted; none of them may be a library."""
    code = "import sys; sys.path.insert(0, '.'); import supervisor.diff.worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "grpc", "sqlalchemy", "requests", "zstandard", "isal", "google", "socket"}
    assert len(loaded) < 140


def test_devices_are_made_but_never_opened(layers: Layers) -> None:
    """A later file of that name must not be written to the device."""
    loop = member("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)
    layers.apply(archive(loop, member("null", b"data")))
    assert stat.S_ISREG((layers.upper / "null").lstat().st_mode)
    assert (layers.upper / "null").read_bytes() == b"data"


@pytest.mark.parametrize(("major", "minor"), [(2**40, 0), (4096, 0), (0, 2**20), (-1, 0), (0, -1)])
def test_a_device_that_no_kernel_has(layers: Layers, major: int, minor: int) -> None:
    device = member("d", kind=tarfile.CHRTYPE, devmajor=major, devminor=minor)
    told = f"unpack 'd': the device {major}:{minor} is not between 0:0 and 4095:1048575"
    with pytest.raises(SupervisorError, match=f"^{told}$"):
        layers.apply(archive(device, dialect=tarfile.GNU_FORMAT))
    assert not any(layers.upper.iterdir())
