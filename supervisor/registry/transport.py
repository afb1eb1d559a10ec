"""Requests and their answers, without retries, redirects or credentials: requests on watched sockets.

One transport serves one transfer. It has a pool of connections for each way of trusting a host. It drives
requests' adapters and not its sessions, which follow, remember and read from the environment more than
was asked for: cookies, netrc, CA variables, the target of a redirect.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from supervisor.errors import InvalidArgument
from supervisor.registry.deadline import Deadline
from supervisor.registry.failures import TransportFailure, translated
from supervisor.registry.hosts import Trust
from supervisor.registry.proxies import Proxies
from supervisor.registry.settings import RegistrySettings
from supervisor.registry.watched import Sockets, WatchedTLSSocket

POOL_SIZE = 16
MAX_RECORD = 64 << 10
"""Bytes of a body that are handed to a socket at a time; each must be taken within `stall_window`."""

LONGEST_DIAL = 130.0
"""When no other limit is set: about when the kernel gives up."""
LONGEST_ANSWER = 1e8
DRAIN_BYTES = 64 << 10

Body = bytes | Iterator[bytes] | None


class Transport:
    """Sends requests; every method may be called from any thread."""

    def __init__(self, settings: RegistrySettings, deadline: Deadline, proxies: Proxies) -> None:
        """Connections bounded by `settings` and by the time of the whole transfer."""
        self._settings = settings
        self._deadline = deadline
        self._sockets = Sockets(settings.stall_rate, settings.stall_window, deadline)
        self._lock = threading.Lock()
        self._adapters: dict[Trust, _Adapter] = {}
        self._proxies = proxies

    def exchange(
        self,
        method: str,
        url: str,
        header: Mapping[str, str],
        body: Body,
        trust: Trust,
        answer_within: float | None = None,
    ) -> requests.Response:
        """Send one request; answer with the head of its response, whatever the status, and the body unread.

        Raises TransportFailure. An iterated body needs its Content-Length in the header.
        """
        adapter = self._adapter(trust)
        self._deadline.check()
        with translated():
            request = requests.Request(method, url, dict(header), data=body).prepare()
            if "Content-Length" in header:  # of an iterated body, requests knows no length
                request.headers.pop("Transfer-Encoding", None)
                request.headers["Content-Length"] = header["Content-Length"]
            timeouts = self._timeouts(trust, answer_within)
            through = {"all": proxy} if (proxy := self._proxies.for_url(url)) else {}
            return adapter.send(request, stream=True, timeout=timeouts, proxies=through)

    def cut(self) -> None:
        """End every exchange that is under way."""
        self._sockets.cut()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            adapters, self._adapters = list(self._adapters.values()), {}
        for adapter in adapters:
            adapter.close()

    def _timeouts(self, trust: Trust, answer_within: float | None) -> tuple[float, float]:
        left = self._deadline.remaining()
        dial = trust.dial_timeout or self._settings.dial_timeout or LONGEST_DIAL
        answer = answer_within or self._settings.stall_window or LONGEST_ANSWER
        return min(dial, left), min(answer, left)

    def _adapter(self, trust: Trust) -> _Adapter:
        with self._lock:
            found = self._adapters.get(trust)
            if found is None:
                found = self._adapters[trust] = _Adapter(self._sockets, _context(trust))
            return found


@contextmanager
def finishing(response: requests.Response) -> Iterator[None]:
    """Leave the connection fit for the next request when the block ends, unless much is still to come."""
    try:
        yield
        with suppress(TransportFailure), translated():
            response.raw.read(DRAIN_BYTES)
    finally:
        response.close()


class _Adapter(HTTPAdapter):
    """requests' adapter, with our sockets and one TLS context in place of its own."""

    def __init__(self, sockets: Sockets, context: ssl.SSLContext) -> None:
        self._sockets, self._context = sockets, context
        super().__init__(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        kwargs |= {"ssl_context": self._context, "blocksize": MAX_RECORD}
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._sockets.pool_classes()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        kwargs |= {"ssl_context": self._context, "blocksize": MAX_RECORD}
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._sockets.pool_classes()
        return manager

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        proxy = select_proxy(request.url, proxies)
        manager = self.proxy_manager_for(proxy) if proxy else self.poolmanager
        return manager.connection_from_url(request.url)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the context knows whom to trust."""


def _context(trust: Trust) -> ssl.SSLContext:
    """TLS as `trust` wants it, beside the certificates that the system trusts."""
    context = ssl.create_default_context()
    context.sslsocket_class = WatchedTLSSocket
    for path in trust.ca:
        try:
            context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(f"read the CA certificates in {path}: {error}") from error
    for certificate, key in trust.client:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(f"read the client certificate {certificate}: {error}") from error
    # Go's TLS accepts certificates of private CAs that RFC 5280 does not; Python is strict from 3.13 on.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if trust.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """A daemon cannot be asked at a terminal; a key that needs a password fails to load."""
    return ""
