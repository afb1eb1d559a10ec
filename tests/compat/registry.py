"""A registry of one image on loopback: just enough of the distribution API for `ctr` to pull and push."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(slots=True)
class Registry:
    """What is stored: blobs and manifests by digest, and the one tag."""

    blobs: dict[str, bytes]
    tagged: str
    port: int = 0

    @property
    def name(self) -> str:
        """The image as a client names it."""
        return f"127.0.0.1:{self.port}/busybox:1"

    @property
    def digests(self) -> set[str]:
        """Everything a client stores when it pulls the image."""
        return set(self.blobs)


class Handler(BaseHTTPRequestHandler):
    """Answers for one registry; a subclass per server holds which."""

    registry: ClassVar[Registry]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        reference = self.path.rpartition("/")[2]
        digest = self.registry.tagged if reference == "1" else reference
        content = self.registry.blobs.get(digest)
        if content is None:
            self._answer(404, b"")
        elif "/manifests/" in self.path:
            self._answer(200, content, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest})
        else:
            self._answer(200, content, {"Content-Type": "application/octet-stream"})

    def do_POST(self) -> None:
        self._answer(202, b"", {"Location": "/v2/busybox/blobs/uploads/1"})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.registry.blobs[digest] = content
        self._answer(201, b"", {"Docker-Content-Digest": digest})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: the client says what went wrong."""


@contextmanager
def serving(image_tar: Path) -> Iterator[Registry]:
    """A registry that has the image of an OCI archive."""
    with tarfile.open(image_tar) as archive:
        contents = {m.name: reader.read() for m in archive if (reader := archive.extractfile(m))}
    blobs = {
        name.removeprefix("blobs/").replace("/", ":"): content
        for name, content in contents.items()
        if name.startswith("blobs/")
    }
    registry = Registry(blobs, json.loads(contents["index.json"])["manifests"][0]["digest"])
    handler = type("Bound", (Handler,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        registry.port = server.server_port
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
