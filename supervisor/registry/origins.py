"""Which URLs are at the same host (RFC 6454), and which redirects may be followed."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from supervisor.registry.failures import Account, RegistryUnavailable, printable
from supervisor.registry.hosts import Endpoint, web_address


def at_home(url: str, endpoint: Endpoint) -> bool:
    """Whether a URL is at the endpoint: by scheme, host and port; without TLS only where that may be."""
    there, own = urlsplit(url), urlsplit(endpoint.root)
    if _origin(there) == _origin(own):
        return True
    return endpoint.plain_if_no_tls and there.scheme == "http" and there.netloc.lower() == own.netloc.lower()


def followed(origin: str, target: str, account: Account) -> str:
    """The absolute URL that `origin` sends us to; raises unless by http(s), and TLS where there was TLS."""
    try:
        url = urljoin(origin, target)
    except ValueError:
        url = ""
    parts = web_address(url)
    if parts is None:
        raise RegistryUnavailable("it sends us to something that is no URL of http(s)", account)
    if parts.scheme == "http" and urlsplit(origin).scheme == "https":
        raise RegistryUnavailable(f"it sends us to {place(url)} without TLS, which is not followed", account)
    return url


def place(url: str) -> str:
    """The host of a URL, fit for a message; the rest of it may be a secret."""
    return printable(urlsplit(url).netloc.rpartition("@")[2], 99)


def _origin(url: SplitResult) -> tuple[str, str, int]:
    default = 443 if url.scheme == "https" else 80
    return url.scheme, (url.hostname or "").lower(), url.port or default
