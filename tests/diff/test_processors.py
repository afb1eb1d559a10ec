"""Stream processors: contract section 9.1."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from supervisor.diff.apply import Applied, Processing, apply
from supervisor.diff.processors import Processor
from supervisor.errors import SupervisorError
from supervisor.model.mount import Mount
from supervisor.oci import image
from tests.diff.layers import archive, member

pytestmark = pytest.mark.root

LAYER = archive(member("file", b"text"))
ROT13 = "tr a-zA-Z n-za-mN-ZA-M"


def shell(name: str, script: str, accepts: str, returns: str, *env: str) -> Processor:
    return Processor(name, (accepts,), returns, "sh", ("-c", script), env)


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    (tmp_path / "upper").mkdir()
    return tmp_path / "upper"


def applied(upper: Path, data: bytes, media_type: str, *processors: Processor, **payloads: bytes) -> Applied:
    blob = upper.parent / "blob"
    blob.write_bytes(data)
    mounts = [Mount("bind", str(upper), ("rw", "rbind"))]
    with open(blob, "rb", buffering=0) as file:
        return apply(
            file,
            media_type,
            mounts,
            tmp_root=upper.parent / "tmp",
            sync=False,
            processing=Processing(processors, payloads),
        )


def test_a_chain_down_to_a_layer(upper: Path) -> None:
    """Tried before the built-in ones, repeatedly, until the type is a plain layer's, or one that is known."""
    first = shell("first", "cat", "application/one", "application/two")
    second = shell("second", "gzip -d | gzip -1", "application/two", image.OCI_LAYER_GZIP)
    result = applied(upper, gzip.compress(LAYER), "application/one", second, first)
    assert (upper / "file").read_text() == "text"
    assert (result.media_type, result.size) == (image.OCI_LAYER, len(LAYER))


def test_they_come_before_what_is_built_in(upper: Path) -> None:
    own = shell("own", "cat >/dev/null; gzip -dc $LAYER", image.OCI_LAYER_GZIP, image.OCI_LAYER, "LAYER=L")
    other = upper.parent / "other.gz"
    other.write_bytes(gzip.compress(archive(member("other", b"x"))))
    own = Processor(own.name, own.accepts, own.returns, own.path, own.args, (f"LAYER={other}",))
    applied(upper, gzip.compress(LAYER), image.OCI_LAYER_GZIP, own)
    assert [path.name for path in upper.iterdir()] == ["other"]


def test_what_a_processor_is_given(upper: Path, tmp_path: Path) -> None:
    """The payload for its name on descriptor 3; its settings and what it reads in the environment."""
    script = f'cat <&3 >{tmp_path}/payload; echo "$STREAM_PROCESSOR_MEDIATYPE $OWN" >{tmp_path}/told; cat'
    one = shell("one", script, "application/x+encrypted", image.OCI_LAYER, "OWN=set")
    payload = Any(type_url="t", value=b"\x00key").SerializeToString()
    applied(upper, LAYER, "application/x+encrypted", one, one=payload, other=b"no")
    assert (tmp_path / "payload").read_bytes() == payload
    assert (tmp_path / "told").read_text() == "application/x+encrypted set\n"
    assert (upper / "file").exists()


def test_without_a_payload_nothing_is_open(upper: Path, tmp_path: Path) -> None:
    told = str(tmp_path / "open")
    script = f"import os, shutil, sys; open({told!r}, 'w').write(str(os.listdir('/proc/self/fd')));"
    script += "shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
    one = Processor("one", ("application/x",), image.OCI_LAYER, sys.executable, ("-c", script))
    reading, inherited = os.pipe()
    os.set_inheritable(inherited, True)
    try:
        applied(upper, LAYER, "application/x", one)
    finally:
        os.close(reading)
        os.close(inherited)
    # 3 and 4 are the file that is written and the folder that is listed.
    assert (tmp_path / "open").read_text() == "['0', '1', '2', '3', '4']"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cat; echo no key >&2; exit 3", "stream processor bad: exit status 3: no key"),
        ("head -c 100; echo half >&2; exit 1", "exit status 1: half"),
        ("kill -9 $$", "killed by signal 9"),
    ],
)
def test_a_processor_that_fails_fails_the_layer(upper: Path, script: str, said: str) -> None:
    """Non-zero exit fails with what it wrote on standard error, also when all its bytes were good."""
    bad = shell("bad", script, "application/x", image.OCI_LAYER_GZIP)
    with pytest.raises(SupervisorError, match=said):
        applied(upper, gzip.compress(LAYER), "application/x", bad)
    behind = shell("behind", "cat", image.OCI_LAYER_GZIP, image.OCI_LAYER_GZIP + "x")
    last = shell("last", "cat", image.OCI_LAYER_GZIP + "x", image.OCI_LAYER)
    with pytest.raises(SupervisorError, match=said):
        applied(upper, gzip.compress(LAYER), "application/x", bad, behind, last)


def test_one_that_gives_no_end_is_ended(upper: Path) -> None:
    endless = shell("endless", "cat; exec sleep 1000", "application/x", image.OCI_LAYER_GZIP)
    with pytest.raises(SupervisorError, match="gzip"):
        applied(upper, gzip.compress(LAYER) + b"foreign tail", "application/x", endless)


@pytest.mark.parametrize(
    ("processors", "said"),
    [
        ([], "no processor for media-type 'application/x'"),
        ([Processor("p", ("application/x",), "application/y", "cat")], "no processor for media-type"),
        ([Processor("p", ("application/x",), "application/x", "cat")], "circle"),
        ([Processor("p", ("application/x",), image.OCI_LAYER, "no-such-program")], "not installed"),
    ],
)
def test_types_that_lead_nowhere(upper: Path, processors: list[Processor], said: str) -> None:
    with pytest.raises(SupervisorError, match=said):
        applied(upper, LAYER, "application/x", *processors)
