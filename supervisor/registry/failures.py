"""What went wrong with a registry: every error says host, reference, bytes, attempts and last status.

A status of HTTP or a failing connection becomes the project's error of that meaning here, so that what
crosses the wire to a client is one of `supervisor.errors`; its `account` holds the facts for programs.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
import urllib3

from supervisor.errors import (
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SupervisorError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

ERROR_BODY_BYTES = 16 << 10
"""Of a registry's own words, so many bytes are read."""
_ERROR_TEXT = 300


@dataclass(frozen=True, slots=True)
class Account:
    """What was being done, and how far it came."""

    doing: str
    host: str = ""
    reference: str = ""
    received: int = 0
    total: int = 0
    attempts: int = 0
    status: int = 0

    def tell(self, reason: str) -> str:
        """One line: the attempt, the reason, and the figures that are known."""
        place = f" of {self.reference}" if self.reference else ""
        host = f" at {self.host}" if self.host else ""
        figures = []
        if self.total:
            figures.append(f"{self.received} of {self.total} bytes")
        if self.attempts:
            figures.append("1 attempt" if self.attempts == 1 else f"{self.attempts} attempts")
        if self.status:
            figures.append(f"last status {self.status}")
        return f"{self.doing}{place}{host}: {reason}" + (f" ({', '.join(figures)})" if figures else "")


class RegistryError(SupervisorError):
    """An error of a registry or of the way to it; each that is raised is also one of the project's own."""

    def __init__(self, reason: str, account: Account) -> None:
        """Tell `reason` with the facts of `account`."""
        super().__init__(account.tell(reason))
        self.reason = reason
        self.account = account


class RegistryUnavailable(RegistryError, Unavailable):
    """The host cannot be reached, fails, or asks for more patience than is allowed."""


class RegistryNotFound(RegistryError, NotFound):
    """The registry has no such image, blob or repository, or does not show it."""


class RegistryUnauthenticated(RegistryError, Unauthenticated):
    """The registry wants credentials, or does not accept those that were given."""


class RegistryDenied(RegistryError, PermissionDenied):
    """The registry knows who asks, and refuses."""


class RegistryDeadline(RegistryError, DeadlineExceeded):
    """The time of the whole transfer ran out."""


class RegistryDataLoss(RegistryError, DataLoss):
    """What the host sent is not what was asked for."""


class RegistryRefused(RegistryError, InvalidArgument):
    """The registry does not accept what was sent."""


class RegistryUnsupported(RegistryError, Unimplemented):
    """Something that is not spoken here, or not there."""


class TransportFailure(Exception):
    """A request got no whole answer. `passing`: it may go well later; `no_tls`: the host speaks none."""

    def __init__(self, reason: str, *, passing: bool = True, no_tls: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing
        self.no_tls = no_tls


class Stalled(Exception):
    """A connection is slower than what is waited for."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what requests and urllib3 raise inside the `with` into TransportFailure, without any URL."""
    try:
        yield
    except Stalled as error:
        raise TransportFailure(str(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _transport_failure(error) from error


def _transport_failure(error: Exception) -> TransportFailure:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {cause.verify_message}"
            return TransportFailure(f"{reason}; name its CA in hosts.toml", passing=False)
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            hint = "; if it is to be plain, say so by http:// in hosts.toml" if _is_plain(cause) else ""
            return TransportFailure(f"TLS failed: {cause.reason or cause}{hint}", no_tls=bool(hint))
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
        return TransportFailure("its name is not known")
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, TimeoutError):
            return TransportFailure(cause.strerror.lower())
    if any(isinstance(cause, urllib3.exceptions.ConnectTimeoutError) for cause in causes):
        return TransportFailure("no connection in time")
    if any(isinstance(cause, TimeoutError | urllib3.exceptions.ReadTimeoutError) for cause in causes):
        return TransportFailure("no answer in time", no_tls=any(_in_handshake(one) for one in causes))
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return TransportFailure(f"the request cannot be made: {type(error).__name__}", passing=False)
    return TransportFailure("the connection was cut")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it: its causes, and the errors that libraries carry as arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        carried = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [other for other in carried if isinstance(other, BaseException)]


def _is_plain(error: ssl.SSLError) -> bool:
    """Whether the other side answered a TLS greeting in another language (OpenSSL's names of it)."""
    names = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")
    return any(name in str(error.reason or error).upper().replace(" ", "_") for name in names)


def _in_handshake(error: BaseException) -> bool:
    return "handshake" in str(error)


_BY_STATUS: dict[int, type[RegistryError]] = {
    400: RegistryRefused,
    401: RegistryUnauthenticated,
    403: RegistryDenied,
    404: RegistryNotFound,
    405: RegistryUnsupported,
    410: RegistryNotFound,
    413: RegistryRefused,
    415: RegistryRefused,
    416: RegistryDataLoss,
}
_HINTS = {
    401: "log in, or look at the credentials for this host",
    403: "these credentials may not do this",
    404: "it is not there, or not shown without credentials",
    413: "a proxy in front of the registry takes no requests of this size",
    429: "too many requests; try again later, or log in for a higher limit",
}


def refusal(response: requests.Response, account: Account) -> RegistryError:
    """The error that an answer means; reads and closes it."""
    status = response.status_code
    kind = _BY_STATUS.get(status, RegistryUnavailable)
    words = _words(response)
    hint = _HINTS.get(status, "")
    reason = "; ".join(part for part in (words or response.reason or f"status {status}", hint) if part)
    return kind(printable(reason, _ERROR_TEXT + 100), account)


def _words(response: requests.Response) -> str:
    """Codes and messages of the registry's errors (OCI distribution spec, "Error Codes")."""
    try:
        with translated():
            body = response.raw.read(ERROR_BODY_BYTES)
    except TransportFailure:
        return ""
    finally:
        response.close()
    try:
        errors = json.loads(body)["errors"]
        told = [f"{one.get('code', '')}: {one.get('message', '')}".strip(": ") for one in errors[:3]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""
    return printable("; ".join(told), _ERROR_TEXT)


def printable(text: str, limit: int) -> str:
    """Text from outside, made fit for a message and a log: one line, no control characters, not long."""
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]+", " ", text)[:limit].strip()
