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
    names = {candidate: _word(candidate) for candidate in known}
    word = _word(name)
    close = get_close_matches(word, set(names.values()), n=3, cutoff=0.6)
    chosen = [full for full, short in names.items() if short in close or (word and word in short)]
    return sorted(chosen, key=lambda full: (names[full] != word, full))[:5]


def _word(name: str) -> str:
    """The last part of a name's path, by which people remember it."""
    return name.rpartition("/")[2].partition("@")[0].partition(":")[0]
