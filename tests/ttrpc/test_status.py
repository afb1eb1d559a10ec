"""Errors and codes: contract tasks 1.3."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import os

import pytest

from supervisor import errors
from supervisor.ttrpc import status


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.NotFound("task x"), (5, "task x: not found")),
        (errors.NotFound("task x: not found"), (5, "task x: not found")),
        (errors.SupervisorError("odd"), (2, "odd")),
        (FileExistsError(errno.EEXIST, "File exists", "/a"), (6, "/a: file exists: already exists")),
        (
            FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/a"),
            (5, "/a: no such file or directory: not found"),
        ),
        (
            PermissionError(errno.EPERM, "Operation not permitted"),
            (7, "operation not permitted: permission denied"),
        ),
        (PermissionError(errno.EACCES, "Permission denied"), (7, "permission denied")),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), (9, "broken pipe: failed precondition")),
        (TimeoutError(), (4, "context deadline exceeded")),
        (asyncio.CancelledError(), (1, "context canceled")),
        (concurrent.futures.CancelledError(), (1, "context canceled")),
        (EOFError(), (11, "EOF: out of range")),
        (OSError(errno.EIO, "Input/output error"), (2, "input/output error")),
        (KeyError("k"), (2, "KeyError: 'k'")),
    ],
)
def test_from_error(error: BaseException, expected: tuple[int, str]) -> None:
    assert status.from_error(error) == expected


@pytest.mark.parametrize("code", range(1, 17))
def test_there_and_back_keeps_code_and_text(code: int) -> None:
    first = status.from_error(status.to_error(code, "what happened"))
    assert status.from_error(status.to_error(*first)) == first
    assert first[0] == code


def test_an_unknown_code_is_unknown() -> None:
    assert type(status.to_error(99, "x")) is errors.SupervisorError
