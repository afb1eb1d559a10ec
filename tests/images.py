"""Makes small OCI images out of Debian's busybox-static, for tests and the demo.

An image has two layers: busybox with its applet links, and a thin one that changes, adds and
whites out files. The knobs produce what other tools produce: umoci's tars without end-of-archive
padding and gzip of several members, indexes over several platforms, docker's archives.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

TAG = "docker.io/library/busybox-test:latest"
BUSYBOX_PLACES = ("/bin/busybox", "/usr/bin/busybox")
MTIME = 1_700_000_000

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
HOST = f"linux/{ARCHITECTURES.get(platform.machine(), platform.machine())}"

ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:Alice:/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:root,alice\nusers:x:1001:\n"


@dataclass(slots=True)
class Blobs:
    """The blobs of an image layout, by digest."""

    data: dict[str, bytes] = field(default_factory=dict)

    def add(self, media_type: str, content: bytes, **more: object) -> dict[str, Any]:
        """Keep `content` and return its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.data[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def add_json(self, media_type: str, document: Mapping[str, object], **more: object) -> dict[str, Any]:
        """Keep `document` as JSON and return its descriptor."""
        return self.add(media_type, json.dumps(document).encode(), **more)


def busybox_oci_tar(
    path: Path | str,
    *,
    compression: str = "gzip",
    platforms: Sequence[str] = (HOST,),
    padding: bool = True,
    multi_member: bool = False,
    tag: str = TAG,
    config: Mapping[str, object] | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write an OCI image layout as a tar to `path` and return the path.

    `compression` is none, gzip or zstd; `platforms` of more than one gives an index over as many
    manifests, `os/arch[/variant]` each; `padding` says whether tars end in zero blocks;
    `multi_member` splits gzip and zstd into several members; `config` adds to or replaces keys of
    the image configuration's "config"; `extra_files` go into the upper layer.
    """
    blobs = Blobs()
    layers = _layers(padding, extra_files or {})
    manifests = [
        _manifest(blobs, layers, name, compression, multi_member, config or {}) for name in platforms
    ]
    names = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag.rpartition(":")[2]}
    if len(manifests) == 1:
        top = {**manifests[0], "annotations": names}
    else:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        top = blobs.add_json(OCI_INDEX, document, annotations=names)
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    files |= {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.data.items()}
    return _write(
        Path(path), tar_of([_regular(name, 0o644, len(c)) for name, c in files.items()], files, padding)
    )


def busybox_docker_tar(
    path: Path | str, *, tag: str = TAG, config: Mapping[str, object] | None = None
) -> Path:
    """Write what `docker save` wrote before it learnt OCI: manifest.json, config and plain layer tars."""
    layers = _layers(True, {})
    document = json.dumps(_config(layers, HOST, config or {})).encode()
    config_name = f"{hashlib.sha256(document).hexdigest()}.json"
    names = [f"{hashlib.sha256(layer).hexdigest()}/layer.tar" for layer in layers]
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": names}]
    files = dict(zip(names, layers, strict=True)) | {config_name: document}
    files["manifest.json"] = json.dumps(manifest).encode()
    return _write(
        Path(path), tar_of([_regular(name, 0o644, len(c)) for name, c in files.items()], files, True)
    )


def tar_of(members: Sequence[tarfile.TarInfo], contents: Mapping[str, bytes], padding: bool = True) -> bytes:
    """A tar of `members`, files filled from `contents`; without `padding` it ends after the last of them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(contents.get(member.name, b"")))
        end = archive.offset
    return buffer.getvalue() if padding else buffer.getvalue()[:end]


def compress(data: bytes, compression: str, multi_member: bool = False) -> bytes:
    """`data` compressed; as two members or frames when `multi_member`."""
    half = len(data) // 2
    parts = [data[:half], data[half:]] if multi_member else [data]
    match compression:
        case "none":
            return data
        case "gzip":
            return b"".join(gzip.compress(part, compresslevel=1, mtime=0) for part in parts)
        case "zstd":
            return b"".join(zstandard.compress(part, 1) for part in parts)
    raise ValueError(f"compression {compression!r}: use none, gzip or zstd")


def _layers(padding: bool, extra_files: Mapping[str, bytes]) -> list[bytes]:
    return [_base_layer(padding), _upper_layer(padding, extra_files)]


def _base_layer(padding: bool) -> bytes:
    binary = next(Path(place) for place in BUSYBOX_PLACES if Path(place).exists())
    applets = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True).stdout.split()
    contents = {
        "bin/busybox": binary.read_bytes(),
        "etc/passwd": PASSWD.encode(),
        "etc/group": GROUP.encode(),
        "etc/removed": b"the upper layer whites this out\n",
        "etc/changed": b"below\n",
    }
    folders = [_folder(name) for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "var")]
    folders.append(_folder("home/alice", owner=1000))
    folders.append(_folder("tmp", mode=0o1777))
    files = [
        _regular(name, 0o755 if name.startswith("bin/") else 0o644, len(c)) for name, c in contents.items()
    ]
    links = [_link(f"bin/{name}", "busybox") for name in applets if name != "busybox"]
    return tar_of([*folders, *files, *links], contents, padding)


def _upper_layer(padding: bool, extra_files: Mapping[str, bytes]) -> bytes:
    contents = {"etc/.wh.removed": b"", "etc/changed": b"above\n", "etc/added": b"added\n", **extra_files}
    members = [_regular(name, 0o644, len(content)) for name, content in contents.items()]
    return tar_of([_folder("etc"), *members], contents, padding)


def _manifest(
    blobs: Blobs,
    layers: Sequence[bytes],
    platform_name: str,
    compression: str,
    multi_member: bool,
    config: Mapping[str, object],
) -> dict[str, Any]:
    media_type = LAYER_TYPES[compression]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blobs.add_json(OCI_CONFIG, _config(layers, platform_name, config)),
        "layers": [blobs.add(media_type, compress(layer, compression, multi_member)) for layer in layers],
    }
    keys = ("os", "architecture", "variant")
    return blobs.add_json(
        OCI_MANIFEST, document, platform=dict(zip(keys, platform_name.split("/"), strict=False))
    )


def _config(layers: Sequence[bytes], platform_name: str, config: Mapping[str, object]) -> dict[str, object]:
    os_name, architecture, *variant = platform_name.split("/")
    document: dict[str, object] = {
        "os": os_name,
        "architecture": architecture,
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": list(ENV), "Cmd": ["sh"], "WorkingDir": "/", **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(x).hexdigest()}" for x in layers]},
        "history": [{"created_by": "tests/images.py"} for _ in layers],
    }
    return document | ({"variant": variant[0]} if variant else {})


def _folder(name: str, mode: int = 0o755, owner: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.uid, info.gid = tarfile.DIRTYPE, mode, MTIME, owner, owner
    return info


def _regular(name: str, mode: int, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.size = mode, MTIME, size
    return info


def _link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.linkname = tarfile.SYMTYPE, 0o777, MTIME, target
    return info


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
