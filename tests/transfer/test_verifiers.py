"""Programs that decide about pulls."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from supervisor.errors import PermissionDenied
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import digest
from supervisor.transfer.verifiers import Verifiers

TARGET = Descriptor("application/vnd.oci.image.manifest.v1+json", digest(f"sha256:{'1' * 64}"), 77)
NAME = "example.com/app:1"


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_all_must_agree_in_the_order_of_their_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "1-first", f'echo "$@" >> {out}; cat >> {out}')
    program(folder, "2-second", "echo it has no signature of ours; exit 3")
    program(folder, "3-third", f"echo never >> {out}")
    with pytest.raises(PermissionDenied, match="2-second: it has no signature of ours"):
        Verifiers(folder).check(NAME, TARGET)
    words, document = out.read_text().split("\n", 1)
    assert words == (
        f"-name {NAME} -digest {TARGET.digest} -stdin-media-type application/vnd.oci.descriptor.v1+json"
    )
    assert json.loads(document) == {
        "mediaType": TARGET.media_type,
        "digest": TARGET.digest,
        "size": 77,
    }
    Verifiers(folder, most=1).check(NAME, TARGET)


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    program(tmp_path, "slow", "sleep 1000 & sleep 1000")
    start = time.monotonic()
    with pytest.raises(PermissionDenied, match=r"no answer within 0\.2 s"):
        Verifiers(tmp_path, seconds=0.2).check(NAME, TARGET)
    assert time.monotonic() - start < 30


def test_one_that_cannot_run_blocks(tmp_path: Path) -> None:
    """Whoever put it there wants to be asked."""
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionDenied, match="cannot be run"):
        Verifiers(tmp_path).check(NAME, TARGET)


def test_without_programs_everything_passes(tmp_path: Path) -> None:
    Verifiers(tmp_path / "none").check(NAME, TARGET)
    Verifiers(tmp_path).check(NAME, TARGET)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl: apt-get install openssl")
def test_the_documented_check_of_signatures(tmp_path: Path) -> None:
    """docs/images.md: what a key has signed passes, also without a network, and nothing else does."""
    documentation = (Path(__file__).parents[2] / "docs/images.md").read_text()
    script = documentation.partition("```sh\n")[2].partition("```")[0].replace("/etc/images", str(tmp_path))
    folder = tmp_path / "verifiers"
    folder.mkdir()
    program(folder, "signed", script)

    def openssl(*words: str, said: str = "") -> None:
        subprocess.run(
            ["openssl", *words], cwd=tmp_path, check=True, input=said.encode(), capture_output=True
        )

    openssl("genpkey", "-algorithm", "RSA", "-out", "key.pem")
    openssl("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
    with pytest.raises(PermissionDenied, match="no valid signature of ours"):
        Verifiers(folder).check(NAME, TARGET)
    openssl("dgst", "-sha256", "-sign", "key.pem", "-out", f"{TARGET.digest}.sig", said=TARGET.digest)
    Verifiers(folder).check(NAME, TARGET)
    openssl("dgst", "-sha256", "-sign", "key.pem", "-out", f"{TARGET.digest}.sig", said="another digest")
    with pytest.raises(PermissionDenied, match="no valid signature of ours"):
        Verifiers(folder).check(NAME, TARGET)
