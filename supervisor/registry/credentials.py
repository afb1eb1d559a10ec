"""Who we are to a registry (Docker: cli/config; containerd: core/transfer/registry, CredentialHelper).

`Credentials` is what the client of a registry asks; it is asked for the hosts that were configured, and
never for one that a registry sent us to.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from supervisor.errors import InvalidArgument
from supervisor.oci import document
from supervisor.oci.document import Node
from supervisor.registry import credential_helper
from supervisor.registry.hosts import DOCKER_HUB, DOCKER_HUB_HOST

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """What opens one host. Exactly what is given is used; nothing of it shows in a text."""

    username: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Exchanged for access tokens, like a password (OAuth2's refresh token)."""
    access_token: str = field(default="", repr=False)
    """Sent as it is, by the Bearer scheme."""
    header: str = field(default="", repr=False)
    """The whole value of Authorization, sent as it is."""


class Credentials(Protocol):
    """Where credentials come from; called from any thread."""

    def for_host(self, host: str) -> Credential | None:
        """What to show to `host` ("host" or "host:port", as configured); None when there is nothing."""


class Anonymous:
    """Nothing for anybody."""

    def for_host(self, host: str) -> Credential | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True)
class Given:
    """A credential that was given for one registry; its mirrors get nothing of it."""

    registry: str
    credential: Credential

    def for_host(self, host: str) -> Credential | None:
        """The credential, if `host` is the registry that it was given for."""
        return self.credential if _names(host) & _names(self.registry) else None


@dataclass(frozen=True, slots=True)
class Asked:
    """Credentials that somebody else is asked for, like the client of a transfer over its stream."""

    ask: Callable[[str], Credential | None]

    def for_host(self, host: str) -> Credential | None:
        """Whatever the one who is asked answers."""
        return self.ask(host)


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Several sources, asked one after the other."""

    sources: tuple[Credentials, ...]

    def for_host(self, host: str) -> Credential | None:
        """The first that is known."""
        return next((found for one in self.sources if (found := one.for_host(host)) is not None), None)


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """Docker's `config.json`: `credHelpers`, then `credsStore`, then `auths`. Read for every question."""

    path: Path

    def for_host(self, host: str) -> Credential | None:
        """What the file or its helper has for the host.

        Raises InvalidArgument when the file cannot be read, Unavailable when a helper fails.
        """
        root = self._read()
        if root is None:
            return None
        names = _names(host)
        helpers = root.child("credHelpers").mapping()
        for name in names & helpers.keys():
            return _from_helper(helpers[name], name)
        found = self._stored(root, names)
        if found is None and (store := root.child("credsStore").text()):
            return _from_helper(store, DOCKER_HUB_KEY if DOCKER_HUB_KEY in names else host)
        return found

    def _read(self) -> Node | None:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidArgument(f"read the credentials in {self.path}: {error.strerror}") from error
        if len(data) > MAX_CONFIG_BYTES:
            raise InvalidArgument(f"read the credentials in {self.path}: more than {MAX_CONFIG_BYTES} bytes")
        try:
            return document.parse(data, str(self.path))
        except InvalidArgument:  # whose text could quote the file
            raise InvalidArgument(f"read the credentials in {self.path}: it is no JSON object") from None

    def _stored(self, root: Node, names: frozenset[str]) -> Credential | None:
        auths = root.child("auths")
        for key in auths.members():
            if key in names or _host_of(key) in names:
                found = _entry(auths.child(key))
                if found is not None:
                    return found
        return None


def _entry(node: Node) -> Credential | None:
    """One entry of `auths`; an empty one only says that a store has it."""
    username, secret = node.child("username").text(), node.child("password").text()
    if encoded := node.child("auth").text():
        try:
            plain = base64.b64decode(encoded, validate=True).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidArgument(f"{node.path}.auth is not base64 of user:password") from None
        username, _, secret = plain.partition(":")
    identity, access = node.child("identitytoken").text(), node.child("registrytoken").text()
    if not (username or secret or identity or access):
        return None
    return Credential(username, secret, identity, access)


def _from_helper(name: str, server: str) -> Credential | None:
    found = credential_helper.get(name, server)
    if found is None:
        return None
    username, secret = found
    if username == credential_helper.TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(username, secret)


def _names(host: str) -> frozenset[str]:
    """The keys under which a host's credentials may be kept."""
    if host in DOCKER_HUB or host in (DOCKER_HUB_HOST, DOCKER_HUB_KEY):
        return frozenset((*DOCKER_HUB, DOCKER_HUB_HOST, DOCKER_HUB_KEY))
    return frozenset((host,))


def _host_of(key: str) -> str:
    """The host of a key of `auths`, which may be a URL."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def parse_user(text: str) -> Credential:
    """The credential of `user:password` as people type it."""
    username, colon, secret = text.partition(":")
    if not colon or not username:
        raise InvalidArgument("credentials have the form user:password")
    return Credential(username, secret)
