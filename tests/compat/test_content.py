"""`ctr content`: blobs in and out, their labels, edits, and objects that come from a registry."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

from tests.compat.ctr import Ctr, eventually
from tests.compat.registry import Registry

TEXT = "a blob of text\n"
DIGEST = f"sha256:{hashlib.sha256(TEXT.encode()).hexdigest()}"


def digests(ctr: Ctr) -> list[str]:
    """The blobs that are there."""
    return ctr.out("content", "ls", "-q").split()


def keep(ctr: Ctr, *options: str) -> None:
    """Ingest TEXT and label it, again if need be, since an unlabelled blob may be collected at any moment."""

    def kept() -> bool:
        ctr.run("content", "ingest", *options, "mine", stdin=TEXT)
        return ctr.run("content", "label", DIGEST, "containerd.io/gc.root=kept", check=False).returncode == 0

    eventually(kept)


def test_ingest_and_get(ctr: Ctr) -> None:
    keep(ctr, "--expected-digest", DIGEST, "--expected-size", "15")
    assert ctr.out("content", "get", DIGEST) == TEXT
    (row,) = ctr.table("content", "ls")
    assert row[:2] == [DIGEST, "15B"]


def test_ingest_of_a_big_file_comes_back_whole(ctr: Ctr, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20 << 20))
    digest = f"sha256:{hashlib.sha256(big.read_bytes()).hexdigest()}"
    label = ("content", "label", digest, "containerd.io/gc.root=kept")

    def kept() -> bool:
        with big.open("rb") as source, ctr.running("content", "ingest", "big", stdin=source) as ingest:
            assert ingest.wait(timeout=60) == 0
        return ctr.run(*label, check=False).returncode == 0

    eventually(kept)
    with ctr.running("content", "get", digest) as get:
        assert get.stdout is not None
        assert hashlib.file_digest(get.stdout, "sha256").hexdigest() == digest.removeprefix("sha256:")  # type: ignore[arg-type]


def test_ingest_refuses_what_is_not_expected(ctr: Ctr) -> None:
    wrong = f"sha256:{'0' * 64}"
    answer = ctr.run("content", "ingest", "--expected-digest", wrong, "mine", stdin=TEXT, check=False)
    assert answer.returncode != 0
    assert "failed precondition" in answer.stderr
    answer = ctr.run("content", "ingest", "--expected-size", "3", "other", stdin=TEXT, check=False)
    assert answer.returncode != 0
    assert digests(ctr) == []


def test_get_of_what_is_not_there(ctr: Ctr) -> None:
    assert "not found" in ctr.fails("content", "get", DIGEST)


def test_image_blobs_are_listed_with_their_references(ctr: Ctr, image: str) -> None:
    target = ctr.table("images", "ls")[0][2]
    manifest = json.loads(ctr.out("content", "get", target))
    listed = {row[0]: row[-1] for row in ctr.table("content", "ls")}
    config, layers = manifest["config"]["digest"], [layer["digest"] for layer in manifest["layers"]]
    assert set(listed) >= {target, config, *layers}
    assert f"containerd.io/gc.ref.content.config={config}" in listed[target]
    assert f"containerd.io/gc.ref.content.l.1={layers[1]}" in listed[target]
    assert "containerd.io/gc.ref.snapshot.overlayfs=sha256:" in listed[config]
    assert "containerd.io/uncompressed=sha256:" in listed[layers[0]]


def test_label(ctr: Ctr, image: str) -> None:
    blob = digests(ctr)[0]
    ctr.run("content", "label", blob, "colour=blue")
    assert ctr.table("content", "ls", "labels.colour==blue")[0][0] == blob
    ctr.run("content", "label", blob, "colour=")
    assert ctr.table("content", "ls", "labels.colour==blue") == []


def test_delete(ctr: Ctr, image: str) -> None:
    blob = digests(ctr)[0]
    assert ctr.out("content", "rm", blob).strip() == blob
    assert "not found" in ctr.fails("content", "get", blob)
    assert blob not in digests(ctr)


def test_edit_makes_another_blob(ctr: Ctr, tmp_path: Path) -> None:
    keep(ctr)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf more >>"$1"\n')
    editor.chmod(stat.S_IRWXU)

    def edited() -> str:
        digest = ctr.out("content", "edit", "--editor", str(editor), DIGEST).strip()
        return ctr.run("content", "get", digest, check=False).stdout

    assert eventually(edited) == TEXT + "more"
    assert ctr.out("content", "get", DIGEST) == TEXT


def test_prune_references_drops_the_layers(ctr: Ctr, image: str) -> None:
    target = ctr.table("images", "ls")[0][2]
    ctr.run("content", "prune", "references", "--async")
    labels = next(row[-1] for row in ctr.table("content", "ls") if row[0] == target)
    assert "gc.ref.content.l." not in labels
    assert "gc.ref.content.config" in labels


def test_nothing_is_active_after_an_import(ctr: Ctr, image: str) -> None:
    assert ctr.table("content", "active") == []


def test_fetch_object_prints_what_a_registry_has(ctr: Ctr, image_tar: Path, registry: Registry) -> None:
    manifest = json.loads(ctr.out("content", "fetch-object", "--plain-http", registry.name))
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"


def test_fetch_stores_the_blobs_of_an_image(ctr: Ctr, registry: Registry) -> None:
    ctr.run("content", "fetch", "--plain-http", registry.name)
    assert set(digests(ctr)) == registry.digests
    assert ctr.out("images", "ls", "-q").split() == [registry.name]


def test_pull_unpacks_and_runs(ctr: Ctr, registry: Registry) -> None:
    ctr.run("images", "pull", "--plain-http", registry.name)
    assert ctr.out("run", "--rm", registry.name, "c", "echo", "pulled") == "pulled\n"


def test_push_gives_the_blobs_back(ctr: Ctr, image: str, registry: Registry) -> None:
    registry.blobs.clear()
    ctr.run("images", "push", "--plain-http", registry.name, image)
    assert ctr.table("images", "ls")[0][2] in registry.blobs
