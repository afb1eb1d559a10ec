"""One repository of a registry, on whichever hosts serve it: URLs, scopes, fail-over.

(OCI distribution spec; containerd: core/remotes/docker, dockerBase.) Hosts are asked in the order of
their configuration. All but the last get one attempt each: another can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

import requests

from supervisor.oci.references import Reference
from supervisor.registry.failures import Account, RegistryDeadline, RegistryError, RegistryNotFound
from supervisor.registry.hosts import Capability, Endpoint
from supervisor.registry.session import BodyMaker, Call, Session

T = TypeVar("T")

_ONLY_FOR_THE_REGISTRY = frozenset(("authorization", "cookie", "proxy-authorization"))


class Repository:
    """The repository of `reference`, within one transfer."""

    def __init__(self, session: Session, reference: Reference) -> None:
        """Read the configuration of the registry; raises InvalidArgument when that is wrong."""
        self.session = session
        self.reference = reference
        self._endpoints = session.hosts.endpoints(reference.host)

    @property
    def name(self) -> str:
        """Host and path, as messages have it."""
        return f"{self.reference.host}/{self.reference.repository}"

    def endpoints(self, capability: Capability, doing: str) -> tuple[Endpoint, ...]:
        """The hosts that may be used for it; raises RegistryNotFound when none may."""
        found = tuple(one for one in self._endpoints if capability in one.capabilities)
        if not found:
            raise RegistryNotFound(
                f"no host of this registry is configured for {_words(capability)}; see hosts.toml",
                Account(doing, reference=str(self.reference)),
            )
        return found

    def url(self, endpoint: Endpoint, path: str, query: Mapping[str, str] | None = None) -> str:
        """The URL of a path below the repository; a mirror is told by `ns` whom it stands for."""
        everything = dict(query or {})
        if not endpoint.stands_for(self.reference.host):
            everything["ns"] = self.reference.host
        tail = f"?{urlencode(everything)}" if everything else ""
        return f"{endpoint.root}/{self.reference.repository}/{path}{tail}"

    def scope(self, *, push: bool = False) -> str:
        """The token scope of this repository (distribution: docs/spec/auth/scope)."""
        return f"repository:{self.reference.repository}:pull{',push' if push else ''}"

    def call(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        account: Account,
        *,
        patient: bool = True,
        header: Mapping[str, str] | None = None,
        body: BodyMaker | None = None,
        accept: Sequence[int] = (200,),
        scopes: Sequence[str] = (),
        answer_within: float | None = None,
    ) -> requests.Response:
        """Send a request as Session.call does, with the header that the client wants sent."""
        wanted = Call(
            method,
            url,
            account,
            scopes=frozenset(scopes) or frozenset((self.scope(),)),
            header=dict(header or {}),
            home_header=self._header_for(endpoint),
            body=body,
            accept=frozenset(accept),
            answer_within=answer_within,
        )
        return self.session.call(endpoint, wanted, patient=patient)

    def _header_for(self, endpoint: Endpoint) -> dict[str, str]:
        """The client's header; what may be a secret is for the registry itself and not for its mirrors."""
        if endpoint.stands_for(self.reference.host):
            return self.session.header
        return {k: v for k, v in self.session.header.items() if k.lower() not in _ONLY_FOR_THE_REGISTRY}


def first_good(endpoints: Sequence[Endpoint], action: Callable[[Endpoint, bool], T]) -> T:
    """What `action` answers for the first host that it does not fail for; told whether that host is the last.

    Raises what it raised for the last, with the others' reasons in its text.
    """
    earlier: list[RegistryError] = []
    for place, endpoint in enumerate(endpoints):
        last = place == len(endpoints) - 1
        try:
            return action(endpoint, last)
        except RegistryDeadline:
            raise
        except RegistryError as error:
            if last:
                raise _with_earlier(error, earlier) from error
            earlier.append(error)
    raise AssertionError("there is at least one host")


def _with_earlier(error: RegistryError, earlier: Sequence[RegistryError]) -> RegistryError:
    if not earlier:
        return error
    told = "; ".join(f"{one.account.host}: {one.reason}" for one in earlier)
    return type(error)(f"{error.reason}; before that {told}", error.account)


def _words(capability: Capability) -> str:
    return " and ".join(str(one.name).lower() for one in Capability if one in capability)
