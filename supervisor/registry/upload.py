"""Uploading one blob, and going on after a cut connection (OCI distribution spec, "Pushing blobs").

The whole blob goes in one PUT, which every registry knows, or in pieces when the settings say so, or when
a proxy in front of the registry takes no request so large. After a
failure the registry is asked how much it has, and the rest is sent behind that; one that has forgotten the
upload, or cannot say, gets a new one from the start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO
from urllib.parse import urlencode, urlsplit

import requests

from supervisor.errors import DataLoss
from supervisor.model.descriptor import Descriptor
from supervisor.registry.failures import (
    Account,
    RegistryDataLoss,
    RegistryDenied,
    RegistryError,
    RegistryNotFound,
    RegistryRefused,
    RegistryUnauthenticated,
    RegistryUnavailable,
)
from supervisor.registry.hosts import Endpoint, web_address
from supervisor.registry.origins import followed
from supervisor.registry.repository import Repository
from supervisor.registry.retries import Retries
from supervisor.registry.transport import MAX_RECORD, finishing

Source = Callable[[int], BinaryIO]
"""Opens content for reading from an offset; called again when a part has to be sent again."""

_RANGE = re.compile(r"\s*(?:bytes=)?0-(\d{1,19})\s*")
_BEGUN = (202, 201, 200, 204)
_STORED = (201, 200, 202, 204)
LARGEST_PIECE = 64 << 20
SMALLEST_PIECE = 256 << 10
"""Of pieces that are made because a larger request was refused."""
_TOO_LARGE = 413
_GONE = frozenset((400, 404, 416))
"""What a registry says of an upload that stands elsewhere than we think, or that it has given up."""
_OCTETS = "application/octet-stream"


class Upload:
    """One blob on its way to one host."""

    def __init__(
        self,
        repository: Repository,
        endpoint: Endpoint,
        descriptor: Descriptor,
        source: Source,
        on_offset: Callable[[int], object],
    ) -> None:
        """Nothing is sent yet."""
        self._repository = repository
        self._session = repository.session
        self._endpoint = endpoint
        self._descriptor = descriptor
        self._source = source
        self._on_offset = on_offset
        self._retries = Retries(self._session.settings, self._session.deadline)
        self._piece = self._session.settings.upload_chunk_bytes
        self._location = ""
        self._offset = 0

    def mount(self, repository: str) -> bool:
        """Have the registry take the blob from another repository; False when it does not.

        It then has begun an upload, which `run` continues.
        """
        scope = f"repository:{repository}:pull"
        query = {"mount": self._descriptor.digest, "from": repository}
        try:
            return self._begin(query, (self._repository.scope(push=True), scope))
        except (RegistryUnauthenticated, RegistryDenied, RegistryNotFound, RegistryRefused):
            return False  # it may be private: a reason to send the bytes, and no more

    def run(self) -> None:
        """Send the blob; raises a RegistryError, and DataLoss when the source has too few bytes."""
        while True:
            try:
                if not self._location:
                    self._begin({}, (self._repository.scope(push=True),))
                self._send()
                return
            except RegistryError as error:
                if error.account.status == _TOO_LARGE and self._cut_smaller():
                    continue
                if not self._may_go_on(error):
                    raise
                self._recover(error)

    def _cut_smaller(self) -> bool:
        """Begin anew in smaller pieces; False when they would become too small to be of use."""
        before = min(self._piece or self._descriptor.size, self._descriptor.size)
        self._piece = min(LARGEST_PIECE, before // 4)
        self._location, self._offset = "", 0
        return self._piece >= SMALLEST_PIECE

    def _may_go_on(self, error: RegistryError) -> bool:
        """Whether asking the registry where the upload stands, or a new one, can help."""
        if not self._location or isinstance(error, RegistryUnavailable):
            return bool(self._location)
        return error.account.status in (_GONE if self._offset else _GONE - {400})

    def _begin(self, query: dict[str, str], scopes: tuple[str, ...]) -> bool:
        """Begin an upload; True when that was enough, because a mount succeeded."""
        url = self._repository.url(self._endpoint, "blobs/uploads/", query)
        response = self._call("POST", url, {"Content-Length": "0"}, None, _BEGUN, scopes=scopes)
        with finishing(response):
            if response.status_code == 201:
                self._on_offset(self._descriptor.size)
                return True
            self._moved(response)
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        if self._piece and least.isdigit():
            self._piece = max(self._piece, int(least[:12]))
        self._offset = 0
        return False

    def _send(self) -> None:
        size, piece = self._descriptor.size, self._piece
        if not self._offset and (not piece or size <= piece):
            self._put(0, size)
            return
        while self._offset < size:
            self._patch(self._offset, min(size, self._offset + (piece or size)))
        self._put(size, size)

    def _patch(self, start: int, end: int) -> None:
        header = {"Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)}
        response = self._call("PATCH", self._location, header, (start, end), _BEGUN)
        with finishing(response):
            self._moved(response)
        self._offset = end
        self._on_offset(end)

    def _put(self, start: int, end: int) -> None:
        """Send the rest, which may be nothing, and close the upload."""
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}{urlencode({'digest': self._descriptor.digest})}"
        header = {"Content-Length": str(end - start)}
        response = self._call("PUT", url, header, (start, end), _STORED)
        with finishing(response):
            told = response.headers.get("Docker-Content-Digest", self._descriptor.digest)
        if told != self._descriptor.digest:
            raise RegistryDataLoss(f"it stored the blob as {told[:150]}", self._account())
        self._on_offset(end)

    def _call(
        self,
        method: str,
        url: str,
        header: dict[str, str],
        span: tuple[int, int] | None,
        accept: tuple[int, ...],
        scopes: tuple[str, ...] = (),
    ) -> requests.Response:
        """Send one request; one with content is sent once, for a second time needs another offset."""
        return self._repository.call(
            self._endpoint,
            method,
            url,
            self._account(),
            patient=span is None,
            header={**header, "Content-Type": _OCTETS} if span else header,
            body=(lambda: self._body(*span)) if span else None,
            accept=accept,
            scopes=scopes or (self._repository.scope(push=True),),
            answer_within=self._session.settings.commit_timeout,
        )

    def _body(self, start: int, end: int) -> Iterator[bytes] | bytes:
        return self._read(start, end) if end > start else b""

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        session, offset = self._session, start
        with self._source(start) as file:
            while offset < end:
                session.deadline.check()
                data = file.read(session.bandwidth.piece(min(MAX_RECORD, end - offset)))
                if not data:
                    raise DataLoss(f"push {self._descriptor.digest}: only {offset} of its bytes are here")
                yield data
                offset += len(data)
                session.bandwidth.take(len(data), session.deadline)
                self._on_offset(offset)

    def _moved(self, response: requests.Response) -> None:
        """Take over where the next part goes, which each answer tells anew."""
        location = response.headers.get("Location")
        if not location:
            if not self._location:
                raise RegistryUnavailable("it begins an upload and does not say where", self._account())
            return
        target, own = web_address(location), urlsplit(self._endpoint.root)
        if target and target.scheme == "http" and own.scheme == "https" and target.netloc == own.netloc:
            # A registry behind a proxy that ends TLS, and does not know of it.
            location = target._replace(scheme=urlsplit(response.url).scheme).geturl()
        self._location = followed(response.url, location, self._account())

    def _recover(self, error: RegistryError) -> None:
        """Find out where to go on, after a wait; raises `error` when there were enough attempts."""
        with self._session.timed(self._account()):
            if not self._retries.again():
                account = replace(error.account, attempts=self._retries.used)
                raise type(error)(error.reason, account) from error
        before, location = self._offset, self._location
        self._location, self._offset = "", 0
        if location:
            self._ask_offset(location)
        if self._offset > before:
            self._retries.succeeded()
        self._on_offset(self._offset)

    def _ask_offset(self, location: str) -> None:
        """How much the registry has of the upload; none, and a new one, when it cannot say."""
        try:
            response = self._call("GET", location, {}, None, (204, 200, 202))
        except (RegistryNotFound, RegistryRefused, RegistryUnavailable):
            return
        with finishing(response):
            found = _RANGE.fullmatch(response.headers.get("Range", ""))
            self._location = location
            self._moved(response)
        # "0-0" is what some say of nothing at all; a byte too many is found by the digest.
        has = int(found[1]) + 1 if found and found[1] != "0" else 0
        if has > self._descriptor.size:
            self._location = ""
            return
        self._offset = has

    def _account(self) -> Account:
        return Account(
            f"push {self._descriptor.digest}",
            self._endpoint.host,
            str(self._repository.reference),
            self._offset,
            self._descriptor.size,
            attempts=self._retries.used,
        )
