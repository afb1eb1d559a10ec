"""From the name of an image to the descriptor of its manifest (OCI distribution spec, "Pulling manifests").

(containerd: core/remotes/docker/resolver.go.) A tag is asked of hosts that may resolve only, by HEAD;
where the answer lacks digest or size, the manifest is fetched and both are computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import requests

from supervisor.errors import InvalidArgument
from supervisor.model import digest as digests
from supervisor.model.descriptor import Descriptor
from supervisor.model.digest import Digest
from supervisor.oci import image
from supervisor.oci.document import MAX_DOCUMENT_BYTES
from supervisor.oci.references import Reference
from supervisor.registry.failures import (
    Account,
    RegistryDataLoss,
    RegistryUnavailable,
    RegistryUnsupported,
    TransportFailure,
    printable,
    translated,
)
from supervisor.registry.hosts import Capability, Endpoint
from supervisor.registry.repository import Repository, first_good
from supervisor.registry.session import Session
from supervisor.registry.transport import finishing

ACCEPT = ", ".join((image.OCI_INDEX, image.OCI_MANIFEST, image.DOCKER_INDEX, image.DOCKER_MANIFEST, "*/*"))
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_ASK_BY_GET = (403, 405)
"""Answers to a HEAD: that it is not spoken, and a refusal, whose reason only the answer to a GET can hold."""
_DIGEST_HEADER = "Docker-Content-Digest"


def resolve(session: Session, reference: Reference) -> tuple[str, Descriptor]:
    """The full name of the image and the descriptor of what it names now.

    Raises RegistryNotFound, RegistryUnsupported for a manifest of Docker's schema 1, other
    RegistryErrors, and InvalidArgument for a name without tag and digest.
    """
    if not reference.object:
        raise InvalidArgument(f"resolve {reference}: say which tag or digest, as in {reference}:latest")
    return str(reference), Resolver(session, reference).resolve()


@dataclass(frozen=True, slots=True)
class _Found:
    media_type: str
    digest: Digest
    size: int


class Resolver:
    """Resolves one name."""

    def __init__(self, session: Session, reference: Reference) -> None:
        """Within one transfer; raises InvalidArgument when the registry's configuration is wrong."""
        self._repository = Repository(session, reference)
        self._reference = reference
        self._account = Account("resolve", reference=str(reference))

    def resolve(self) -> Descriptor:
        """The descriptor; see `resolve` of this module."""
        wanted = Capability.PULL if self._reference.digest else Capability.PULL | Capability.RESOLVE
        hosts = self._repository.endpoints(wanted, "resolve")
        found = first_good(hosts, self._at)
        return Descriptor(found.media_type, found.digest, found.size)

    def _at(self, endpoint: Endpoint, last: bool) -> _Found:
        """What one host says to a HEAD, or to a GET where that is not enough."""
        account = replace(self._account, host=endpoint.host)
        response = self._ask("HEAD", endpoint, last)
        with finishing(response):
            found = self._from_header(response, account) if response.status_code == 200 else None
        return found or self._from_body(endpoint, last, account)

    def _ask(self, method: str, endpoint: Endpoint, last: bool) -> requests.Response:
        url = self._repository.url(endpoint, f"manifests/{self._reference.object}")
        accept = (200, *_ASK_BY_GET) if method == "HEAD" else (200,)
        return self._repository.call(
            endpoint, method, url, self._account, patient=last, header={"Accept": ACCEPT}, accept=accept
        )

    def _from_header(self, response: requests.Response, account: Account) -> _Found | None:
        """What a HEAD tells, None when that is not enough."""
        media_type = _media_type(response, account)
        told = response.headers.get(_DIGEST_HEADER)
        size = response.headers.get("Content-Length", "")
        if not size.isdigit() or not media_type or not (self._reference.digest or told):
            return None
        return self._checked(media_type, self._digest(told, account), int(size[:12]), account)

    def _from_body(self, endpoint: Endpoint, last: bool, account: Account) -> _Found:
        with self._ask("GET", endpoint, last) as response:
            body = _bounded(response, account)
            media_type = _media_type(response, account) or _own_type(body)
            told = self._reference.digest or response.headers.get(_DIGEST_HEADER)
        algorithm = told.partition(":")[0] if told else digests.CANONICAL
        found = digests.of_bytes(body, algorithm if algorithm in digests.HEX_LENGTH else digests.CANONICAL)
        if told and found != told:
            raise RegistryDataLoss(f"its manifest has the digest {found}, and not {told[:150]}", account)
        return self._checked(media_type, found, len(body), account)

    def _digest(self, told: str | None, account: Account) -> Digest:
        """The digest that was asked for, or that the host told; both must agree."""
        asked = self._reference.digest
        if told is None:
            assert asked is not None
            return asked
        try:
            found = digests.digest(told)
        except InvalidArgument as error:
            raise RegistryDataLoss(f"it tells a digest that is none: {error}", account) from None
        if asked is not None and found != asked and found.partition(":")[0] == asked.partition(":")[0]:
            raise RegistryDataLoss(f"it answers with another manifest, {found}", account)
        return asked or found

    def _checked(self, media_type: str, digest: Digest, size: int, account: Account) -> _Found:
        if size > MAX_DOCUMENT_BYTES:
            raise RegistryDataLoss(
                f"its manifest has {size} bytes, and at most {MAX_DOCUMENT_BYTES} are read", account
            )
        if media_type not in image.INDEX_TYPES | image.MANIFEST_TYPES:
            raise RegistryUnsupported(f"it is neither image nor index, but {media_type[:99]!r}", account)
        return _Found(media_type, digest, size)


def _media_type(response: requests.Response, account: Account) -> str:
    """The type in the header, empty when it says nothing of the kind."""
    told = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if told.startswith(_SCHEMA_1):
        raise RegistryUnsupported(
            "its manifest is of Docker's schema 1, which is not supported; push the image again with a"
            " current program",
            account,
        )
    return (
        "" if told in ("text/plain", "application/json", "application/octet-stream") else printable(told, 200)
    )


def _own_type(body: bytes) -> str:
    """The type that a manifest says of itself, for a host that does not."""
    return image.parse(body).media_type


def _bounded(response: requests.Response, account: Account) -> bytes:
    try:
        with translated():
            body = response.raw.read(MAX_DOCUMENT_BYTES + 1)
    except TransportFailure as failure:
        raise RegistryUnavailable(str(failure), account) from failure
    if len(body) > MAX_DOCUMENT_BYTES:
        raise RegistryDataLoss(f"its manifest is larger than {MAX_DOCUMENT_BYTES} bytes", account)
    return bytes(body)
