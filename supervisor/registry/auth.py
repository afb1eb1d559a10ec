"""Identifying ourselves to one host: Basic, or Bearer with tokens (distribution: docs/spec/auth).

One authorizer serves one host of one transfer. It answers a challenge with what `Credentials` has for
this host, asked once; tokens are kept by their scopes until shortly before they expire. What a token
server is told is never more than it needs, and nothing is sent to it without TLS that came with TLS.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests

from supervisor.registry.challenge import Challenge
from supervisor.registry.credentials import Credential, Credentials
from supervisor.registry.failures import (
    Account,
    RegistryDenied,
    RegistryError,
    RegistryUnauthenticated,
    RegistryUnavailable,
    printable,
    refusal,
    translated,
)
from supervisor.registry.hosts import Endpoint, is_loopback, web_address

CLIENT_ID = "container-supervisor"
MAX_TOKEN_ANSWER = 1 << 20
SHORTEST_LIFE = 60.0
"""A token that says nothing of its life, or less than this, lives so long (distribution: token spec)."""
MARGIN = 10.0

# Token servers that know no POST say so in several ways: 404 and 405, 401 (Artifactory), 400 (ACR).
_NO_POST = (400, 401, 404, 405)
_TOO_WEAK = "insufficient_scope"  # RFC 6750, section 3.1

Scopes = frozenset[str]
Ask = Callable[[str, str, Mapping[str, str], bytes | None], requests.Response]
"""Sends method, URL, header and body to a token server, and answers with whatever it says."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires: float


class Authorizer:
    """Answers the challenges of `endpoint`; callable from any thread, one asks for a token at a time."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials, ask: Ask) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._ask = ask
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._known: list[Credential | None] = []

    def header(self, scopes: Scopes) -> str | None:
        """The value of Authorization for a request of these scopes, None before any challenge."""
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return None
            if (given := self._given()) is not None:
                return given
            return self._basic() if challenge.scheme == "basic" else self._bearer(challenge, scopes)

    def answer(self, challenges: list[Challenge], scopes: Scopes, sent: str | None, account: Account) -> None:
        """Prepare for the next try after a 401 to a request that carried `sent`.

        Raises RegistryUnauthenticated when nothing better than `sent` can be shown.
        """
        with self._lock:
            chosen = self._choose(challenges, account)
            shown = self._challenge is not None and sent == self.header(scopes)
            if shown and not (chosen.scheme == "bearer" and self._forget(chosen, scopes)):
                raise self._refused(chosen, account)
            self._challenge = chosen

    def _choose(self, challenges: list[Challenge], account: Account) -> Challenge:
        """The first challenge that can be met: Basic only with something to show."""
        for one in challenges:
            if one.scheme == "bearer" and one.get("realm"):
                return one
            if one.scheme == "basic" and self._credential() is not None:
                return one
        if any(one.scheme == "basic" for one in challenges):
            raise RegistryUnauthenticated("it wants credentials, and there are none for this host", account)
        schemes = ", ".join(printable(one.scheme, 20) for one in challenges[:5]) or "none"
        raise RegistryUnauthenticated(
            f"it wants authentication of a kind not spoken here ({schemes})", account
        )

    def _forget(self, challenge: Challenge, scopes: Scopes) -> bool:
        """Drop a token that the registry calls invalid; False when that is not what it said."""
        invalid = challenge.get("error") not in ("", _TOO_WEAK)
        return invalid and self._tokens.pop(_merged(challenge, scopes), None) is not None

    def _refused(self, challenge: Challenge, account: Account) -> RegistryError:
        words = printable(challenge.get("error"), 64)
        more = f": {words}" if words else ""
        if self._credential() is None:
            hint = "without credentials it is not shown; log in, or look at its name"
            return RegistryUnauthenticated(hint + more, account)
        if challenge.get("error") == _TOO_WEAK:
            return RegistryDenied(f"the credentials for this host may not do this{more}", account)
        return RegistryUnauthenticated(f"the credentials for this host are not accepted{more}", account)

    def _credential(self) -> Credential | None:
        if not self._known:
            self._known.append(self._credentials.for_host(self._endpoint.host))
        return self._known[0]

    def _given(self) -> str | None:
        """What the credential says to send as it is."""
        credential = self._credential()
        if credential is None:
            return None
        if credential.access_token:
            return f"Bearer {credential.access_token}"
        return credential.header or None

    def _basic(self) -> str | None:
        credential = self._credential()
        if credential is None or not credential.username:
            return None
        return _basic_header(credential)

    def _bearer(self, challenge: Challenge, scopes: Scopes) -> str:
        wanted = _merged(challenge, scopes)
        token = self._tokens.get(wanted)
        if token is None or token.expires <= time.monotonic():
            token = self._tokens[wanted] = self._fetch(challenge, wanted)
        return f"Bearer {token.value}"

    def _fetch(self, challenge: Challenge, scopes: Scopes) -> _Token:
        realm = self._realm(challenge)
        credential = self._credential()
        if credential is not None and (credential.secret or credential.identity_token):
            response = self._post(realm, challenge, scopes, credential)
            if response.status_code in _NO_POST and not credential.identity_token:
                response.close()
                response = self._get(realm, challenge, scopes, credential)
        else:
            response = self._get(realm, challenge, scopes, None)
        return self._token(response, realm)

    def _realm(self, challenge: Challenge) -> str:
        """Where tokens are had; it may not be without TLS where the registry has it."""
        realm = challenge.get("realm")
        account = Account("ask for a token", self._endpoint.host)
        parts = web_address(realm)
        if parts is None:
            raise RegistryUnauthenticated("it names a token server that is no URL of http(s)", account)
        here = is_loopback(parts.netloc) and is_loopback(self._endpoint.host)
        if parts.scheme == "http" and self._endpoint.scheme == "https" and not here:
            raise RegistryUnauthenticated(
                f"it names a token server without TLS, {printable(parts.netloc, 99)}, which is not asked",
                account,
            )
        return realm

    def _post(
        self, realm: str, challenge: Challenge, scopes: Scopes, credential: Credential
    ) -> requests.Response:
        form = {"service": challenge.get("service"), "client_id": CLIENT_ID}
        if scopes:
            form["scope"] = " ".join(sorted(scopes))
        if credential.identity_token or not credential.username:
            token = credential.identity_token or credential.secret
            form |= {"grant_type": "refresh_token", "refresh_token": token}
        else:
            form |= {"grant_type": "password", "username": credential.username, "password": credential.secret}
        header = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", realm, header, urlencode(form).encode())

    def _get(
        self, realm: str, challenge: Challenge, scopes: Scopes, credential: Credential | None
    ) -> requests.Response:
        parts = urlsplit(realm)
        query = parse_qsl(parts.query) + [("scope", scope) for scope in sorted(scopes)]
        if service := challenge.get("service"):
            query.append(("service", service))
        header = {"Authorization": _basic_header(credential)} if credential is not None else {}
        return self._ask("GET", parts._replace(query=urlencode(query)).geturl(), header, None)

    def _token(self, response: requests.Response, realm: str) -> _Token:
        host = printable(urlsplit(realm).netloc, 99)
        account = Account("ask for a token", host, status=response.status_code)
        if response.status_code != 200:
            raise refusal(response, account)
        with response, translated():
            body = response.raw.read(MAX_TOKEN_ANSWER)
        try:
            answer = json.loads(body)
            value = answer.get("access_token") or answer.get("token")
            life = float(answer.get("expires_in") or 0.0)
        except (ValueError, TypeError, AttributeError, RecursionError):
            value, life = None, 0.0
        if not isinstance(value, str) or not value.isprintable() or not value:
            raise RegistryUnavailable("its answer holds no token", account)
        return _Token(value, time.monotonic() + max(life, SHORTEST_LIFE) - MARGIN)


def _merged(challenge: Challenge, scopes: Scopes) -> Scopes:
    """What we want and what the challenge names, with the actions of one resource together."""
    actions: dict[str, set[str]] = {}
    for scope in scopes | frozenset(challenge.get("scope").split()):
        resource, _, wanted = scope.rpartition(":")
        actions.setdefault(resource, set()).update(wanted.split(","))
    return frozenset(f"{resource}:{','.join(sorted(wanted))}" for resource, wanted in actions.items())


def _basic_header(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
