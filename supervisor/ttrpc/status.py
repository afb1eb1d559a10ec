"""One table from errors to status codes and back, as plain numbers (containerd: errgrpc, ttrpc/server.go).

It serves ttrpc and gRPC alike, so it knows neither. Classes of `supervisor.errors` carry their own
code; what the standard library raises is classified here.
"""

from __future__ import annotations

import errno

from supervisor import errors

OK = 0
UNKNOWN = 2

_BY_ERRNO = {
    errno.EEXIST: errors.AlreadyExists,
    errno.ENOENT: errors.NotFound,
    errno.EPERM: errors.PermissionDenied,
    errno.EACCES: errors.PermissionDenied,
    errno.EPIPE: errors.FailedPrecondition,
    errno.ETIMEDOUT: errors.DeadlineExceeded,
    errno.ENOSPC: errors.ResourceExhausted,
    errno.EDQUOT: errors.ResourceExhausted,
}


def classify(error: BaseException) -> errors.SupervisorError:
    """The error of our hierarchy that `error` stands for; itself when it is one already."""
    if isinstance(error, errors.SupervisorError):
        return error
    if isinstance(error, TimeoutError):
        return errors.DeadlineExceeded(str(error))
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, errors.SupervisorError)(_os_text(error))
    if isinstance(error, EOFError):
        return errors.OutOfRange(str(error) or "EOF")
    # By name: asyncio and concurrent.futures each have one, and this module loads neither.
    if type(error).__name__ == "CancelledError":
        return errors.Cancelled(str(error))
    return errors.SupervisorError(f"{type(error).__name__}: {error}")


def from_error(error: BaseException) -> tuple[int, str]:
    """Code and text under which `error` crosses a wire."""
    known = classify(error)
    return known.code, known.wire_text()


def to_error(code: int, text: str) -> errors.SupervisorError:
    """The error that a code and a text from the other side stand for."""
    return errors.from_code(code, text)


def _os_text(error: OSError) -> str:
    # Lower case as other implementations print it: clients search error texts for such phrases.
    reason = (error.strerror or str(error)).lower()
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(names)}: {reason}" if names else reason
