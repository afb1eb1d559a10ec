"""How fast an image is pulled and unpacked: `python -m benchmarks.pull [--vs containerd]`.

A Debian image made with debootstrap, one gzip layer, in Debian's docker-registry on loopback; each pull
goes to a fresh daemon (nothing of it is there) and ends when the image is unpacked. The daemons take
turns, on a file system of the benchmark's own (`ground`); `--here` measures on that of `--parent`.

Ours is asked as `sctr` asks it, by the transfer service; and once more by `ctr`, which does the work of a
pull itself, through the same calls as on containerd. Ratios (ours / theirs, of medians) are all that is
worth comparing. Memory is what the daemon's peak resident set grows by during the pull.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.daemons import OURS, THEIRS, running
from benchmarks.ground import ground
from tests import registries

PACKAGES = "python3,git,vim"
"""With debootstrap's smallest set: about 380 MB and 11,600 files on Debian 12."""

REPOSITORY = "bench/debian"
BAR_TIME, BAR_MEMORY = 0.6, 100.0
BY_CTR = f"{OURS} by ctr"


def _tree(folder: Path, suite: str) -> Path:
    root = folder / "rootfs"
    print(f"debootstrap {suite} ({PACKAGES}) ...", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    return root


def _layer(root: Path, folder: Path) -> tuple[Path, str]:
    """The tree as a gzip layer, and the digest of its tar."""
    packed, plain = folder / "layer.tar.gz", hashlib.sha256()
    tar = subprocess.Popen(
        ["tar", "-C", str(root), "--numeric-owner", "-cf", "-", "."], stdout=subprocess.PIPE
    )
    assert tar.stdout is not None
    with gzip.open(packed, "wb", compresslevel=6) as out:
        while piece := tar.stdout.read(1 << 20):
            plain.update(piece)
            out.write(piece)
    if tar.wait():
        raise SystemExit("tar failed")
    return packed, f"sha256:{plain.hexdigest()}"


def _archive(layer: Path, diff_id: str, folder: Path) -> Path:
    """An OCI layout in a tar, for skopeo."""
    blobs: dict[str, bytes] = {}

    def blob(document: object) -> dict[str, object]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    with layer.open("rb") as file:
        layer_digest = hashlib.file_digest(file, "sha256").hexdigest()
    kind = "application/vnd.oci.image"
    config = blob(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    )
    manifest = blob(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", **config},
            "layers": [
                {
                    "mediaType": f"{kind}.layer.v1.tar+gzip",
                    "digest": f"sha256:{layer_digest}",
                    "size": layer.stat().st_size,
                }
            ],
        }
    )
    index = {"schemaVersion": 2, "manifests": [{"mediaType": f"{kind}.manifest.v1+json", **manifest}]}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    files |= {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    target = folder / "image.tar"
    with tarfile.open(target, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        tar.add(layer, f"blobs/sha256/{layer_digest}")
    return target


@contextmanager
def _image(folder: Path, suite: str) -> Iterator[str]:
    """The image in a running registry; its reference."""
    root = _tree(folder, suite)
    files = sum(len(names) for _, _, names in os.walk(root))
    layer, diff_id = _layer(root, folder)
    size = int(subprocess.check_output(["du", "-sm", str(root)]).split()[0])
    print(f"{size} MB, {files} files, layer of {layer.stat().st_size >> 20} MiB", flush=True)
    shutil.rmtree(root)
    archive = _archive(layer, diff_id, folder)
    with registries.running(folder / "registry") as registry:
        reference = f"{registry.host}/{REPOSITORY}:1"
        subprocess.run(
            [
                "skopeo",
                "copy",
                "-q",
                "--dest-tls-verify=false",
                f"oci-archive:{archive}",
                f"docker://{reference}",
            ],
            check=True,
        )
        layer.unlink()
        archive.unlink()
        yield reference


def _command(name: str, address: Path, reference: str) -> list[str]:
    if name == OURS:
        return [
            f"{sys.prefix}/bin/sctr",
            "--address",
            str(address),
            "images",
            "pull",
            "--plain-http",
            reference,
        ]
    return ["ctr", "--address", str(address), "images", "pull", "--plain-http", reference]


def _peak(address: Path) -> float:
    """Megabytes of the largest resident set that the daemon behind a socket has had."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"{address}".encode() in (status.parent / "cmdline").read_bytes():
                text = status.read_text()
                return int(text.split("VmHWM:")[1].split()[0]) / 1024
        except (OSError, IndexError):
            continue
    raise SystemExit(f"no process serves {address}")


def _pull(name: str, parent: Path, reference: str) -> tuple[float, float]:
    """Seconds that a pull to a fresh daemon takes, and the megabytes that its peak memory grew by."""
    folder = Path(tempfile.mkdtemp(prefix="p-", dir=parent))
    daemon = THEIRS if name == THEIRS else OURS
    try:
        with running(daemon, folder) as address:
            before, start = _peak(address), time.perf_counter()
            subprocess.run(
                _command(name, address, reference),
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return time.perf_counter() - start, _peak(address) - before
    finally:
        shutil.rmtree(folder)
        subprocess.run(["sync"], check=True)


def main() -> None:
    """Make the image, pull in turns, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vs", choices=(THEIRS,), help="measure this daemon too, in the same run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--parent", type=Path, help="folder below which all is made", default="/var/tmp")
    parser.add_argument("--here", action="store_true", help="on the file system of --parent, as it is")
    options = parser.parse_args()
    names = (OURS, BY_CTR, *((options.vs,) if options.vs else ()))
    with tempfile.TemporaryDirectory(prefix="b-", dir=options.parent) as made:
        folder = Path(made)
        with (
            _image(folder, options.suite) as reference,
            ground(folder / "ground", here=options.here) as place,
        ):
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(options.runs):
                for name in names:
                    found[name].append(_pull(name, place, reference))
    seconds = {name: statistics.median(time for time, _ in runs) for name, runs in found.items()}
    for name, runs in found.items():
        each = " ".join(f"{taken:.2f}" for taken, _ in runs)
        grown = max(memory for _, memory in runs)
        ratio = (
            f"  ratio {seconds[name] / seconds[THEIRS]:.2f}" if THEIRS in seconds and name != THEIRS else ""
        )
        bar = f"  (bars {BAR_TIME}, {BAR_MEMORY:.0f} MB)" if name == OURS else ""
        print(f"{name:30} {seconds[name]:6.2f} s ({each})  memory +{grown:.0f} MB{ratio}{bar}", flush=True)


if __name__ == "__main__":
    main()
