"""Which requests go through a proxy (Go: golang.org/x/net/http/httpproxy, which curl's rules agree with)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from supervisor.registry.hosts import host_name, is_loopback, port_of


@dataclass(frozen=True, slots=True)
class Proxies:
    """A proxy for each scheme, and the hosts that are asked directly. This machine is never behind one.

    An entry of `direct` is a host, which stands for all below it too; `.host`, which stands for these only;
    an address; a range of addresses like 10.0.0.0/8; each but a range perhaps with a port; or `*`.
    """

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    direct: tuple[str, ...] = ()

    def for_url(self, url: str) -> str:
        """The proxy for a URL, empty when there is none."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        if not proxy or is_loopback(parts.netloc):
            return ""
        port = port_of(parts.netloc) or ("443" if parts.scheme == "https" else "80")
        name = host_name(parts.netloc).lower()
        return "" if any(_stands_for(entry, name, port) for entry in self.direct) else proxy


def from_environment(names: Mapping[str, str] | None = None) -> Proxies:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in upper or lower case; no scheme means http."""
    names = os.environ if names is None else names

    def value(name: str) -> str:
        return names.get(name.upper()) or names.get(name) or ""

    direct = tuple(entry for part in value("no_proxy").split(",") if (entry := part.strip().lower()))
    return Proxies(_with_scheme(value("http_proxy")), _with_scheme(value("https_proxy")), direct)


def _with_scheme(proxy: str) -> str:
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _stands_for(entry: str, name: str, port: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _in_range(name, entry)
    if (wanted := port_of(entry)) and wanted != port:
        return False
    host = host_name(entry).removeprefix("*")
    return name == host or name.endswith(host if host.startswith(".") else f".{host}")


def _in_range(name: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
