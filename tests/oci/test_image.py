"""Image documents: what is read, what is refused, and which platform is chosen."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import InvalidArgument, NotFound, ResourceExhausted, SupervisorError
from supervisor.model.platform import Platform
from supervisor.oci import document, image
from supervisor.oci.platform import parse as parse_platform

DIGEST = "sha256:" + "ab" * 32


def descriptor(media_type: str = image.OCI_LAYER_GZIP, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 12, **more}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def manifest(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": descriptor(image.OCI_CONFIG), "layers": [descriptor()], **more}


def index(*platforms: Any) -> image.Index:
    entries = [descriptor(image.OCI_MANIFEST, platform=p) if p else descriptor() for p in platforms]
    return image.parse_index(encode({"manifests": entries}))


def test_a_manifest_is_read() -> None:
    found = image.parse_manifest(encode(manifest(annotations={"a": "b"})), image.OCI_MANIFEST)
    assert found.config.media_type == image.OCI_CONFIG
    assert [layer.size for layer in found.layers] == [12]
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize("key", ["config", "layers"])
@pytest.mark.parametrize("read", [image.parse_index, image.parse_manifest, image.parse])
def test_both_index_and_manifest_is_refused(key: str, read: Any) -> None:
    both = {"manifests": [descriptor()], key: manifest()[key]}
    with pytest.raises(InvalidArgument, match="ambiguous"):
        read(encode(both))


def test_a_descriptor_and_its_document_must_agree() -> None:
    stated = encode(manifest(mediaType=image.OCI_MANIFEST))
    with pytest.raises(InvalidArgument, match="its descriptor"):
        image.parse_manifest(stated, image.DOCKER_MANIFEST)


@pytest.mark.parametrize(
    "bad",
    [
        {"fsLayers": []},
        {"layers": []},
        manifest(layers={}),
        manifest(layers=[{"digest": "sha256:xx", "size": 1}]),
        manifest(layers=[descriptor(size=-1)]),
        manifest(layers=[descriptor(size=True)]),
        manifest(layers=[descriptor(size=1 << 63)]),
        manifest(config=[]),
        manifest(mediaType=image.OCI_INDEX),
        manifest(annotations={"a": 1}),
        [],
    ],
)
def test_malformed_manifests_are_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument):
        image.parse_manifest(encode(bad))


def test_bounds() -> None:
    with pytest.raises(ResourceExhausted):
        image.parse_manifest(encode(manifest(layers=[descriptor()] * (image.MAX_LAYERS + 1))))
    with pytest.raises(ResourceExhausted):
        image.parse_manifest(b" " * (document.MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(InvalidArgument):
        image.parse_manifest(b"[" * 1_000_000)


def test_parse_finds_out_the_kind() -> None:
    assert isinstance(image.parse(encode({"manifests": []})), image.Index)
    assert isinstance(image.parse(encode(manifest())), image.Manifest)
    with pytest.raises(InvalidArgument, match="neither"):
        image.parse(encode(manifest()), image.OCI_CONFIG)


def test_choose_takes_the_best_platform() -> None:
    offered = index(
        {"os": "linux", "architecture": "arm", "variant": "v6"},
        {"os": "linux", "architecture": "arm", "variant": "v7"},
        {"os": "linux", "architecture": "amd64"},
        {"os": "windows", "architecture": "amd64"},
    )
    for wanted, place in {
        "linux/arm/v8": 1,
        "linux/arm/v6": 0,
        "linux/x86_64": 2,
        "windows/amd64": 3,
    }.items():
        assert image.choose(offered, parse_platform(wanted)) == offered.entries[place]
    with pytest.raises(NotFound, match="linux/s390x"):
        image.choose(offered, Platform("linux", "s390x"))


def test_choose_leaves_out_attestations() -> None:
    attestation = descriptor(annotations={"vnd.docker.reference.type": "attestation-manifest"})
    found = image.parse_index(encode({"manifests": [attestation]}))
    with pytest.raises(NotFound):
        image.choose(found, Platform("linux", "amd64"))


def test_a_config_says_what_to_run() -> None:
    config = image.parse_config(
        encode(
            {
                "os": "linux",
                "architecture": "arm64",
                "rootfs": {"diff_ids": [DIGEST]},
                "config": {
                    "Entrypoint": ["/e"],
                    "Cmd": ["c"],
                    "User": "a:b",
                    "Volumes": {"/v": {}},
                    "Env": None,
                },
            }
        )
    )
    assert config.command() == ("/e", "c")
    assert config.command(["x"]) == ("/e", "x")
    assert (config.user, config.volumes, config.env) == ("a:b", ("/v",), ())
    with pytest.raises(InvalidArgument, match="say what to run"):
        image.parse_config(b"{}").command()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*manifest(), "mediaType", "x"]), inner),
)


@given(st.binary() | JSON.map(encode))
def test_nothing_but_our_errors_comes_out(data: bytes) -> None:
    for read in (image.parse, image.parse_index, image.parse_manifest, image.parse_config):
        with contextlib.suppress(SupervisorError):
            read(data)
