"""A registry that takes uploads to the letter of the specification, and cuts connections on the way.

Debian's docker-registry gives an upload up when it was cut off within a request; others do not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.registry.faults import Exchange, Faults


@dataclass(slots=True)
class Uploads:
    """Takes blobs, in requests of at most `largest` bytes; pieces should have `least`.

    `cuts` are the numbers of bytes after which the next requests with content are cut off.
    """

    cuts: list[int] = field(default_factory=list)
    remembers: bool = True
    largest: int = 1 << 40
    least: int = 0
    begun: int = 0
    data: bytes = b""
    stored: bytes | None = None

    def install(self, faults: Faults) -> None:
        """Be what `faults` answers with."""
        faults.on("HEAD", "", lambda exchange: _answer(exchange, 404))
        faults.on("POST", "", self.begin)
        faults.on("GET", "/uploads/", self.status)
        faults.on("PATCH", "", self.append)
        faults.on("PUT", "", self.close)

    def begin(self, exchange: Exchange) -> None:
        self.begun += 1
        self.data = b""
        wish = {"OCI_Chunk_Min_Length": str(self.least)} if self.least else {}
        _answer(exchange, 202, Location=f"/v2/uploads/{self.begun}?state=0", **wish)

    def status(self, exchange: Exchange) -> None:
        if not self.remembers:
            _answer(exchange, 404)
        else:
            self._tell(exchange, 204)

    def append(self, exchange: Exchange) -> None:
        start = int(re.fullmatch(r"(\d+)-\d+", exchange.seen.header["content-range"])[1])
        if start != len(self.data):
            _answer(exchange, 416)
        elif self._take(exchange):
            self._tell(exchange, 202)

    def close(self, exchange: Exchange) -> None:
        if not self._take(exchange):
            return
        wanted = parse_qs(urlsplit(exchange.seen.path).query)["digest"][0]
        found = f"sha256:{hashlib.sha256(self.data).hexdigest()}"
        if found != wanted:
            _answer(exchange, 400)
            return
        self.stored = self.data
        _answer(exchange, 201, Docker_Content_Digest=found)

    def _take(self, exchange: Exchange) -> bool:
        length = int(exchange.seen.header.get("content-length", "0"))
        if length > self.largest:
            _answer(exchange, 413)
            exchange.hang_up()
            return False
        if length and self.cuts:
            taken = exchange.handler.rfile.read(self.cuts.pop(0))
            self.data += taken
            exchange.seen.received += len(taken)
            exchange.hang_up()
            return False
        self.data += exchange.body()
        return True

    def _tell(self, exchange: Exchange, status: int) -> None:
        place = f"/v2/uploads/{self.begun}?state={len(self.data)}"
        _answer(exchange, status, Location=place, Range=f"0-{max(0, len(self.data) - 1)}")


def _answer(exchange: Exchange, status: int, **header: str) -> None:
    fields = [(name.replace("_", "-"), value) for name, value in header.items()]
    exchange.begin(status, fields if status == 204 else [*fields, ("Content-Length", "0")])
