"""Sending content to a registry (OCI distribution spec, "Pushing"; containerd: core/remotes/docker)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum

from supervisor.errors import InvalidArgument
from supervisor.model.descriptor import Descriptor
from supervisor.oci import image
from supervisor.oci.document import MAX_DOCUMENT_BYTES
from supervisor.oci.references import Reference
from supervisor.registry.failures import (
    Account,
    RegistryDataLoss,
    RegistryDenied,
    RegistryNotFound,
    RegistryUnauthenticated,
    RegistryUnsupported,
)
from supervisor.registry.hosts import Capability
from supervisor.registry.repository import Repository
from supervisor.registry.session import Session
from supervisor.registry.transport import finishing
from supervisor.registry.upload import Source, Upload

PUT_ACCEPTED = (201, 200, 202, 204)
"""The specification has 201; some registries answer otherwise."""


class Outcome(Enum):
    """How content came to be in the registry."""

    EXISTS = "exists"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


class Pusher:
    """Pushes to the repository of `reference` within one transfer; callable from any thread.

    The first host that is configured for pushing gets everything: content in two places is no use.
    """

    def __init__(self, session: Session, reference: Reference) -> None:
        """Raises InvalidArgument for a wrong configuration, RegistryNotFound when no host takes pushes."""
        self._session = session
        self._repository = Repository(session, reference)
        self._endpoint = self._repository.endpoints(Capability.PUSH, "push")[0]

    def push(
        self,
        descriptor: Descriptor,
        source: Source,
        *,
        tag: str = "",
        mount_from: Sequence[str] = (),
        on_offset: Callable[[int], object] | None = None,
    ) -> Outcome:
        """Have the registry hold what `descriptor` names; `source` opens its bytes at an offset.

        A manifest or index goes under its digest, or under `tag`; what it names must be there before. A
        blob is taken over from a repository of the same registry in `mount_from` where that can be.
        `on_offset` is told how many bytes the registry has; it may go back when a connection was cut.
        """
        if descriptor.media_type in image.INDEX_TYPES | image.MANIFEST_TYPES:
            return self._push_manifest(descriptor, source, tag)
        return self._push_blob(descriptor, source, mount_from, on_offset)

    def _push_manifest(self, descriptor: Descriptor, source: Source, tag: str) -> Outcome:
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"push {descriptor.digest}: no manifest has {descriptor.size} bytes")
        path = f"manifests/{tag or descriptor.digest}"
        if self._has(path, descriptor, compare=bool(tag)):
            return Outcome.EXISTS
        with source(0) as file:
            data = file.read(descriptor.size)
        url = self._repository.url(self._endpoint, path)
        response = self._repository.call(
            self._endpoint,
            "PUT",
            url,
            self._account(descriptor),
            header={"Content-Type": descriptor.media_type},
            body=lambda: data,
            accept=PUT_ACCEPTED,
            scopes=(self._repository.scope(push=True),),
            answer_within=self._session.settings.commit_timeout,
        )
        with finishing(response):
            told = response.headers.get("Docker-Content-Digest", descriptor.digest)
        if told != descriptor.digest:
            account = replace(self._account(descriptor), host=self._endpoint.host)
            raise RegistryDataLoss(f"it stored the manifest as {told[:150]}", account)
        return Outcome.UPLOADED

    def _push_blob(
        self,
        descriptor: Descriptor,
        source: Source,
        mount_from: Sequence[str],
        on_offset: Callable[[int], object] | None,
    ) -> Outcome:
        if self._has(f"blobs/{descriptor.digest}", descriptor):
            return Outcome.EXISTS
        upload = Upload(self._repository, self._endpoint, descriptor, source, on_offset or (lambda _: None))
        for repository in mount_from:
            if repository != self._repository.reference.repository and upload.mount(repository):
                return Outcome.MOUNTED
        upload.run()
        return Outcome.UPLOADED

    def _has(self, path: str, descriptor: Descriptor, *, compare: bool = False) -> bool:
        """Whether it is there already; who may push but not look is told no."""
        url = self._repository.url(self._endpoint, path)
        header = {"Accept": f"{descriptor.media_type or '*/*'}, */*"}
        scopes = (self._repository.scope(push=True),)
        try:
            response = self._repository.call(
                self._endpoint, "HEAD", url, self._account(descriptor), header=header, scopes=scopes
            )
        except (RegistryNotFound, RegistryUnauthenticated, RegistryDenied, RegistryUnsupported):
            return False
        with finishing(response):
            told = response.headers.get("Docker-Content-Digest")
        return told == descriptor.digest if compare else told in (None, descriptor.digest)

    def _account(self, descriptor: Descriptor) -> Account:
        return Account(f"push {descriptor.digest}", "", str(self._repository.reference))
