"""Which hosts serve a registry, and how each is spoken to (containerd: core/remotes/docker/config).

A folder of the administrator's may say so: `DIR/<host>_<port>_/`, `DIR/<host>:<port>/` or `DIR/_default/`
holds a `hosts.toml`, or only certificates as Docker lays them out. It is read for every transfer, so a
change needs no restart. Without it the registry is asked itself, by TLS; one on loopback may be without.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from supervisor.errors import InvalidArgument
from supervisor.registry import hosts_file
from supervisor.registry.hosts_file import HostEntry

DOCKER_HUB = frozenset(("docker.io", "index.docker.io"))
DOCKER_HUB_HOST = "registry-1.docker.io"

Header = tuple[tuple[str, str], ...]


class Capability(Flag):
    """What a host may be used and trusted for; a mirror that resolves tags decides what is run."""

    PULL = auto()
    RESOLVE = auto()
    PUSH = auto()
    REFERRERS = auto()


EVERYTHING = Capability.PULL | Capability.RESOLVE | Capability.PUSH | Capability.REFERRERS


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom TLS believes, and who we are to the other side; `ca` is beside what the system trusts."""

    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()
    skip_verify: bool = False
    dial_timeout: float | None = None

    def for_others(self) -> Trust:
        """The same for a host that this one sent us to: who we are is none of its business."""
        return Trust(self.ca, (), self.skip_verify, self.dial_timeout)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host that serves a registry: where its API begins, and what it is good for."""

    scheme: str
    host: str
    path: str = "/v2"
    capabilities: Capability = EVERYTHING
    header: Header = field(default=(), repr=False)
    trust: Trust = Trust()
    plain_if_no_tls: bool = False
    """Speak plain HTTP when it turns out that the host does not speak TLS; on loopback, or where told to."""
    foreign: bool = False
    """Named by an image, not by the administrator or the user: it gets no credentials."""

    @property
    def root(self) -> str:
        """The URL that the API's paths follow."""
        return f"{self.scheme}://{self.host}{self.path}"

    def stands_for(self, registry: str) -> bool:
        """Whether this is the registry itself and not a mirror, which must be told whom it mirrors."""
        return self.host == registry or (registry in DOCKER_HUB and self.host == DOCKER_HUB_HOST)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The configuration of all registries: a folder of `hosts.toml`, and what holds without one.

    `default_scheme` ("http", "https" or none) is for registries that no file tells the scheme of, as
    containerd's transfer API has it.
    """

    folder: Path | None = None
    default_scheme: str = ""

    def endpoints(self, registry: str) -> tuple[Endpoint, ...]:
        """The hosts that serve `registry` ("host" or "host:port"), in the order in which to try them.

        Raises InvalidArgument, which names file and setting, when its configuration cannot be read.
        """
        entries = self._entries(registry) or (HostEntry(),)
        return tuple(self._endpoint(entry, registry) for entry in entries)

    def _entries(self, registry: str) -> tuple[HostEntry, ...]:
        for candidate in self._candidates(registry):
            if candidate.is_dir():
                return hosts_file.read(candidate)
        return ()

    def _candidates(self, registry: str) -> list[Path]:
        if self.folder is None:
            return []
        host, colon, port = registry.rpartition(":")
        with_port = f"{host}_{port}_" if colon and host else registry
        return [self.folder / name for name in dict.fromkeys((with_port, registry, "_default"))]

    def _endpoint(self, entry: HostEntry, registry: str) -> Endpoint:
        trust = Trust(entry.ca, entry.client, bool(entry.skip_verify), entry.dial_timeout)
        if entry.server:
            plain = entry.scheme == "http" and (entry.ca or entry.client or entry.skip_verify is not None)
            hesitant = bool(plain) and not entry.host.endswith(":80")
            return Endpoint(
                "https" if hesitant else entry.scheme,
                DOCKER_HUB_HOST if entry.host in DOCKER_HUB else entry.host,
                entry.path,
                _capabilities(entry),
                entry.header,
                trust,
                plain_if_no_tls=hesitant,
            )
        host = DOCKER_HUB_HOST if registry in DOCKER_HUB else registry
        made = Endpoint("https", host, "/v2", EVERYTHING, entry.header, trust)
        if self.default_scheme:
            return _replaced(made, self.default_scheme, trust)
        if not is_loopback(host):
            return made
        return _on_loopback(made, verify_told=entry.skip_verify is not None)


def web_address(url: str) -> SplitResult | None:
    """The parts of an absolute URL of http or https without a login in it, None for anything else."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc else None


def is_loopback(host: str) -> bool:
    """Whether "host" or "host:port" is this machine, by its name or address alone."""
    name = host_name(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """The host of "host:port", "[v6]:port" or "host", without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def port_of(host: str) -> str:
    """The port of "host:port", empty when it has none."""
    rest = host.rpartition("]")[2] if host.startswith("[") else host
    return rest.rpartition(":")[2] if rest.count(":") == 1 else ""


def _on_loopback(endpoint: Endpoint, *, verify_told: bool) -> Endpoint:
    """As containerd has it: TLS unverified, or plain where there is none; port 80 is plain, 443 is TLS."""
    port = port_of(endpoint.host)
    if port == "80":
        return _replaced(endpoint, "http", endpoint.trust)
    trust = endpoint.trust
    if not verify_told and not trust.ca:
        trust = Trust(trust.ca, trust.client, True, trust.dial_timeout)
    return _replaced(endpoint, "https", trust, plain_if_no_tls=port not in ("", "443"))


def _replaced(endpoint: Endpoint, scheme: str, trust: Trust, *, plain_if_no_tls: bool = False) -> Endpoint:
    if scheme not in ("http", "https"):
        raise InvalidArgument(f"registry {endpoint.host}: the scheme {scheme[:20]!r} must be http or https")
    return Endpoint(
        scheme,
        endpoint.host,
        endpoint.path,
        endpoint.capabilities,
        endpoint.header,
        trust,
        plain_if_no_tls,
    )


def _capabilities(entry: HostEntry) -> Capability:
    if not entry.capabilities:
        return EVERYTHING
    found = Capability(0)
    for name in entry.capabilities:
        found |= Capability[name.upper()]
    return found
