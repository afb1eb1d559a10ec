"""Where the bytes of a descriptor can be had, from any offset (OCI distribution spec, "Pulling blobs").

A registry's hosts come first. The `urls` that a manifest may give for a layer are asked only when none of
them has it, and without credentials: whoever wrote the manifest chose these hosts (CVE-2020-15157).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import requests

from supervisor.model.descriptor import Descriptor
from supervisor.oci import image
from supervisor.registry.failures import Account, RegistryDataLoss, RegistryNotFound, RegistryUnavailable
from supervisor.registry.hosts import Capability, Endpoint, web_address
from supervisor.registry.repository import Repository, first_good

MAX_URLS = 8
_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\s*")


@dataclass(frozen=True, slots=True)
class Opened:
    """A response whose body begins at `start` of the blob, from the host `host`."""

    response: requests.Response
    host: str
    start: int
    ranged: bool


class Sources:
    """The hosts that may have one descriptor; the first is the one to ask first."""

    def __init__(self, repository: Repository, descriptor: Descriptor, distrusted: frozenset[str]) -> None:
        """Hosts in `distrusted` have sent bytes that were wrong, and come last."""
        self._repository = repository
        self._descriptor = descriptor
        hosts = repository.endpoints(Capability.PULL, f"fetch {descriptor.digest}")
        self._hosts = sorted(hosts, key=lambda one: one.host in distrusted)

    def account(self, received: int = 0, attempts: int = 0) -> Account:
        """The facts for an error."""
        digest, reference = self._descriptor.digest, str(self._repository.reference)
        return Account(f"fetch {digest}", "", reference, received, self._descriptor.size, attempts=attempts)

    def open(self, start: int, end: int, turn: int = 0) -> Opened:
        """Open the bytes from `start`, as far as `end` (exclusive) at least; `turn` begins with a later host.

        Raises a RegistryError when no host has them.
        """
        account = self.account(start)
        turn %= len(self._hosts)
        hosts = self._hosts[turn:] + self._hosts[:turn]
        try:
            return first_good(hosts, lambda host, last: self._open_at(host, start, end, account, last))
        except RegistryNotFound:
            foreign = _foreign(self._descriptor.urls)
            if not foreign:
                raise
        return first_good(foreign, lambda host, last: self._open_url(host, start, end, account, last))

    def _open_at(self, host: Endpoint, start: int, end: int, account: Account, last: bool) -> Opened:
        one = self._descriptor
        kind = "manifests" if one.media_type in image.INDEX_TYPES | image.MANIFEST_TYPES else "blobs"
        url = self._repository.url(host, f"{kind}/{one.digest}")
        return self._open(host, url, start, end, account, last)

    def _open_url(self, host: Endpoint, start: int, end: int, account: Account, last: bool) -> Opened:
        return self._open(host, host.root, start, end, account, last)

    def _open(self, host: Endpoint, url: str, start: int, end: int, account: Account, last: bool) -> Opened:
        header = {"Accept": f"{self._descriptor.media_type or '*/*'}, */*"}
        if start > 0 or end < self._descriptor.size:
            header["Range"] = f"bytes={start}-{end - 1}"
        response = self._repository.call(
            host, "GET", url, account, patient=last, header=header, accept=(200, 206)
        )
        try:
            begins = self._begin(response, start, replace(account, host=host.host))
        except BaseException:
            response.close()
            raise
        return Opened(response, host.host, begins, ranged=response.status_code == 206)

    def _begin(self, response: requests.Response, start: int, account: Account) -> int:
        """Where in the blob the body begins; raises when it cannot be a part of it."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise RegistryUnavailable(f"it sends content encoded as {encoding[:20]!r}", account)
        if response.status_code == 200:
            told = response.headers.get("Content-Length", "")
            self._check_size(told, account)
            return 0
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise RegistryUnavailable("it answers with another range than was asked for", account)
        self._check_size(found[3], account)
        return start

    def _check_size(self, told: str, account: Account) -> None:
        if told.isdigit() and int(told[:19]) != self._descriptor.size:
            raise RegistryDataLoss(
                f"it has {told[:19]} bytes under this digest, and the manifest says {self._descriptor.size}",
                account,
            )


def _foreign(urls: Sequence[str]) -> list[Endpoint]:
    """Hosts that a manifest names; anything but http(s) is passed over."""
    found = []
    for url in urls[:MAX_URLS]:
        if (parts := web_address(url)) is not None:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            found.append(Endpoint(parts.scheme, parts.netloc, path, Capability.PULL, foreign=True))
    return found
