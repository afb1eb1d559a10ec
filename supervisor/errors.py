"""The one hierarchy of errors, drawn as a tree; each class is a status that survives the wire.

    SupervisorError                     (an error that is none of the below: UNKNOWN)
    ├── Cancelled                       the caller gave up
    ├── InvalidArgument                 the request is malformed, whatever the state
    ├── DeadlineExceeded                a stated time ran out
    ├── NotFound
    ├── AlreadyExists
    ├── PermissionDenied
    ├── ResourceExhausted               a bound was reached: messages, queues, disk
    ├── FailedPrecondition              the state does not allow it now
    │   ├── Conflict
    │   └── NotModified
    ├── Aborted
    ├── OutOfRange
    ├── Unimplemented
    ├── Internal                        a promise of our own was broken
    ├── Unavailable                     try again later
    ├── DataLoss
    └── Unauthenticated

Each class carries its gRPC code as a plain number and the words that close its message on the
wire (containerd: errdefs, errgrpc). An error's text says what was attempted, on what, and what
the caller can do. Errors of libraries are translated where they enter, by a table at that border.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class SupervisorError(Exception):
    """Base of every error raised on purpose; by itself it is UNKNOWN."""

    code: ClassVar[int] = 2
    words: ClassVar[str] = ""

    def wire_text(self) -> str:
        """The message with the class's words behind it, as containerd's clients expect."""
        text = str(self)
        if not self.words or text.endswith(self.words):
            return text
        return f"{text}: {self.words}" if text else self.words


class Cancelled(SupervisorError):
    """The caller gave up before the work was done."""

    code, words = 1, "context canceled"


class InvalidArgument(SupervisorError):
    """The request is malformed, whatever the state of the store."""

    code, words = 3, "invalid argument"


class DeadlineExceeded(SupervisorError):
    """A stated time ran out."""

    code, words = 4, "context deadline exceeded"


class NotFound(SupervisorError):
    """The named object does not exist here."""

    code, words = 5, "not found"


class AlreadyExists(SupervisorError):
    """An object of that name is there already."""

    code, words = 6, "already exists"


class PermissionDenied(SupervisorError):
    """The caller may not do this."""

    code, words = 7, "permission denied"


class ResourceExhausted(SupervisorError):
    """A bound was reached: a message's size, a queue's length, the disk."""

    code, words = 8, "resource exhausted"


class FailedPrecondition(SupervisorError):
    """The state of the object does not allow this now."""

    code, words = 9, "failed precondition"


class Conflict(FailedPrecondition):
    """Somebody else changed the object meanwhile."""

    words = "conflict"


class NotModified(FailedPrecondition):
    """The change asked for changes nothing."""

    words = "not modified"


class Aborted(SupervisorError):
    """The operation was given up half way and undone."""

    code, words = 10, "aborted"


class OutOfRange(SupervisorError):
    """An offset or a number lies outside what is there."""

    code, words = 11, "out of range"


class Unimplemented(SupervisorError):
    """This daemon does not offer it."""

    code, words = 12, "not implemented"


class Internal(SupervisorError):
    """A promise of our own was broken; a defect to report."""

    code, words = 13, "internal"


class Unavailable(SupervisorError):
    """Not now; the same call may succeed later."""

    code, words = 14, "unavailable"


class DataLoss(SupervisorError):
    """Bytes are missing or damaged."""

    code, words = 15, "data loss"


class Unauthenticated(SupervisorError):
    """The caller did not say, or not prove, who it is."""

    code, words = 16, "unauthorized"


def _all_classes(root: type[SupervisorError]) -> Iterator[type[SupervisorError]]:
    for child in root.__subclasses__():
        yield child
        yield from _all_classes(child)


_CLASSES = tuple(_all_classes(SupervisorError))


def from_code(code: int, text: str) -> SupervisorError:
    """The error that `code` and `text` stood for on the other side of a wire.

    Of the classes that share a code, the one whose words end the text is taken; the words are
    cut off, so that a message does not grow each time it is passed on.
    """
    candidates = [cls for cls in _CLASSES if cls.code == code]
    for cls in candidates:
        if text.endswith(f": {cls.words}"):
            return cls(text.removesuffix(f": {cls.words}"))
    return candidates[0](text) if candidates else SupervisorError(text)
