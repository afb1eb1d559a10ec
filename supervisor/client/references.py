"""Image names as people type them (containerd: pkg/reference, distribution/reference).

`busybox` is `docker.io/library/busybox:latest`: the short form is Docker's, the long one is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_DEFAULT_HOST = "docker.io"
_DEFAULT_FOLDER = "library"
_DEFAULT_TAG = "latest"


def normal(name: str) -> str:
    """The full form of an image's name: host, path, and tag or digest."""
    path, at, digest = name.partition("@")
    host, slash, rest = path.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = _DEFAULT_HOST, path
    if host == _DEFAULT_HOST and "/" not in rest:
        rest = f"{_DEFAULT_FOLDER}/{rest}"
    if not at and ":" not in rest.rpartition("/")[2]:
        rest = f"{rest}:{_DEFAULT_TAG}"
    return f"{host}/{rest}{at}{digest}"


def near(name: str, known: Iterable[str]) -> list[str]:
    """The known names that somebody who typed `name` may have meant, the likeliest first."""
    names = list(known)
    word = name.rpartition("/")[2].partition(":")[0]
    inside = [candidate for candidate in names if word and word in candidate]
    close = get_close_matches(normal(name), names, n=3, cutoff=0.6)
    return list(dict.fromkeys([*inside[:3], *close]))[:5]
