"""One transfer's dealings with the hosts of registries: attempts, identification, redirects, time.

Whatever resolves, fetches or pushes goes through `Session.call`. Two rules hold here for everybody: a
credential and a configured header go to the host they are for and to no other, also not by a redirect;
and no request, wait or answer outlives the time of the transfer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from urllib.parse import urlsplit

import requests

from supervisor.errors import DeadlineExceeded
from supervisor.registry import challenge
from supervisor.registry.auth import Authorizer, Scopes
from supervisor.registry.bandwidth import Bandwidth
from supervisor.registry.credentials import Anonymous, Credentials
from supervisor.registry.deadline import Deadline
from supervisor.registry.failures import (
    Account,
    RegistryDeadline,
    RegistryUnauthenticated,
    RegistryUnavailable,
    TransportFailure,
    refusal,
)
from supervisor.registry.hosts import Endpoint, Hosts
from supervisor.registry.origins import at_home, followed, place
from supervisor.registry.proxies import Proxies, from_environment
from supervisor.registry.retries import PASSING, Retries
from supervisor.registry.settings import RegistrySettings
from supervisor.registry.transport import Transport, finishing

log = logging.getLogger(__name__)

USER_AGENT = "container-supervisor"
MAX_REDIRECTS = 5
MAX_CHALLENGES = 4
"""One of each kind: none yet, another scheme, a token that expired, one too many."""
_REDIRECTS = frozenset((301, 302, 303, 307, 308))

BodyMaker = Callable[[], bytes | Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as often as it is sent. `body` makes its body anew each time; `accept` are good statuses.

    `header` goes wherever a redirect leads, `home_header` to the host itself only.
    """

    method: str
    url: str
    account: Account
    scopes: Scopes = frozenset()
    header: Mapping[str, str] = field(default_factory=dict)
    home_header: Mapping[str, str] = field(default_factory=dict)
    body: BodyMaker | None = None
    accept: frozenset[int] = frozenset((200,))
    answer_within: float | None = None


class Session:
    """Use it in a `with`; its methods may be called from any thread."""

    def __init__(
        self,
        hosts: Hosts,
        credentials: Credentials | None = None,
        settings: RegistrySettings | None = None,
        *,
        header: Mapping[str, str] | None = None,
        bandwidth: Bandwidth | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        """Begin a transfer, and its time.

        `header` is sent to the hosts of the registry, as a client asks for it; `bandwidth` may be shared
        with other transfers; without `proxies`, those of the environment are used.
        """
        self.settings = settings or RegistrySettings()
        self.hosts = hosts
        self.deadline = Deadline(self.settings.total)
        self.bandwidth = bandwidth or Bandwidth(self.settings.bandwidth)
        self.header = dict(header or {})
        self.layers = threading.Semaphore(max(1, self.settings.parallel_layers))
        self._credentials = credentials or Anonymous()
        self._transport = Transport(self.settings, self.deadline, proxies or from_environment())
        self._lock = threading.Lock()
        self._authorizers: dict[tuple[str, str], Authorizer] = {}
        self._plain: set[str] = set()
        self._chunks: ThreadPoolExecutor | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cancel(self) -> None:
        """Have all that goes on, and all that follows, raise Cancelled; at once, also in other threads."""
        self.deadline.cancel()
        self._transport.cut()

    def close(self) -> None:
        """End what still goes on, and close all connections."""
        self.cancel()
        with self._lock:
            chunks, self._chunks = self._chunks, None
        if chunks is not None:
            chunks.shutdown(cancel_futures=True)
        self._transport.close()

    def chunk_threads(self) -> ThreadPoolExecutor:
        """The threads that fetch pieces of large blobs, started when the first is wanted."""
        with self._lock:
            self.deadline.check()
            if self._chunks is None:
                count = self.settings.parallel_chunks * self.settings.parallel_layers
                self._chunks = ThreadPoolExecutor(max(1, count), thread_name_prefix="registry-chunk")
            return self._chunks

    def call(self, endpoint: Endpoint, call: Call, *, patient: bool = True) -> requests.Response:
        """Send a call and answer with its response, unread, once its status is one that `call` accepts.

        Tries again as the settings have it, unless `patient` is false because another host can be asked.
        Raises a RegistryError; any other status becomes one.
        """
        account = replace(call.account, host=endpoint.host)
        retries = Retries(self.settings, self.deadline, None if patient else 1)
        with self.timed(account):
            response = self._attempted(account, retries, lambda: self._identified(endpoint, call, account))
            if response.status_code in call.accept:
                return response
            raise refusal(response, replace(account, attempts=retries.used, status=response.status_code))

    def _attempted(
        self, account: Account, retries: Retries, send: Callable[[], requests.Response]
    ) -> requests.Response:
        """What `send` answers, tried again while that is a failure that may pass."""
        while True:
            try:
                response = send()
            except TransportFailure as failure:
                self.deadline.check()
                if failure.passing and retries.again():
                    continue
                told = replace(account, attempts=retries.used, status=retries.status)
                raise RegistryUnavailable(str(failure), told) from failure
            if response.status_code not in PASSING or not retries.again(response):
                return response

    def timed(self, account: Account) -> _Timed:
        """A `with` in which the end of the transfer's time is told with the facts of `account`."""
        return _Timed(account)

    def _identified(self, endpoint: Endpoint, call: Call, account: Account) -> requests.Response:
        """Send it, with an answer to each challenge; a last 401 is an error."""
        if endpoint.foreign:
            return self._redirected(endpoint, call, None, account)
        authorizer = self._authorizer(endpoint)
        for _ in range(MAX_CHALLENGES):
            sent = authorizer.header(call.scopes)
            response = self._redirected(endpoint, call, sent, account)
            if response.status_code != 401:
                return response
            with finishing(response):
                asked = challenge.parse(response.headers.get("WWW-Authenticate", ""))
            if not at_home(response.url, endpoint):
                raise RegistryUnauthenticated(
                    f"it sent us to {place(response.url)}, which wants credentials; none are sent there",
                    replace(account, status=401),
                )
            authorizer.answer(asked, call.scopes, sent, replace(account, status=401))
        raise RegistryUnauthenticated("it asks for credentials again and again", replace(account, status=401))

    def _redirected(
        self, endpoint: Endpoint, call: Call, authorization: str | None, account: Account
    ) -> requests.Response:
        """Send it to where the answer is. What is for this host alone is left off elsewhere."""
        url = call.url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._exchange(endpoint, call, url, authorization)
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or target is None:
                return response
            with finishing(response):
                account = replace(account, status=response.status_code)
            if call.method not in ("GET", "HEAD"):
                raise RegistryUnavailable(f"it redirects a {call.method}, which is not followed", account)
            url = followed(response.url, target, account)
        raise RegistryUnavailable(f"it redirects more than {MAX_REDIRECTS} times", account)

    def _exchange(
        self, endpoint: Endpoint, call: Call, url: str, authorization: str | None
    ) -> requests.Response:
        home = at_home(url, endpoint)
        if home and self._is_plain(endpoint):
            url = urlsplit(url)._replace(scheme="http").geturl()
        header = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **call.header}
        if home:
            header = {**dict(endpoint.header), **call.home_header, **header}
            if authorization is not None:
                header["Authorization"] = authorization
        trust = endpoint.trust if home else endpoint.trust.for_others()
        body = call.body() if call.body is not None else None
        try:
            response = self._transport.exchange(call.method, url, header, body, trust, call.answer_within)
            log.debug("%s %s: %d", call.method, url.partition("?")[0], response.status_code)
            return response
        except TransportFailure as failure:
            if not (failure.no_tls and endpoint.plain_if_no_tls and home and url.startswith("https:")):
                raise
            log.info("registry %s speaks no TLS; going on without", endpoint.host)
            self._plain.add(endpoint.host)
        return self._exchange(endpoint, call, url, authorization)

    def _is_plain(self, endpoint: Endpoint) -> bool:
        return endpoint.host in self._plain and endpoint.plain_if_no_tls

    def _authorizer(self, endpoint: Endpoint) -> Authorizer:
        with self._lock:
            key = (endpoint.host, endpoint.path)
            found = self._authorizers.get(key)
            if found is None:
                found = Authorizer(endpoint, self._credentials, self._asker(endpoint))
                self._authorizers[key] = found
            return found

    def _asker(self, endpoint: Endpoint) -> Callable[..., requests.Response]:
        """Sends what an authorizer asks a token server, with retries and without redirects."""

        def ask(method: str, url: str, header: Mapping[str, str], body: bytes | None) -> requests.Response:
            trust = endpoint.trust if at_home(url, endpoint) else endpoint.trust.for_others()
            account = Account("ask for a token", place(url))
            retries = Retries(self.settings, self.deadline)
            whole = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **header}
            return self._attempted(
                account, retries, lambda: self._transport.exchange(method, url, whole, body, trust)
            )

        return ask


class _Timed:
    """Gives the end of the time its facts."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, DeadlineExceeded) and not isinstance(error, RegistryDeadline):
            raise RegistryDeadline(str(error), self._account) from error
