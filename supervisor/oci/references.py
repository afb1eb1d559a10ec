"""Names of images in registries (OCI distribution spec, "Pulling manifests"; containerd: pkg/reference).

`busybox` is `docker.io/library/busybox:latest`: the short form is Docker's, the long one is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from supervisor.errors import InvalidArgument
from supervisor.model.digest import Digest, digest

_DEFAULT_HOST = "docker.io"
_DEFAULT_FOLDER = "library"
_DEFAULT_TAG = "latest"

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_REPOSITORY = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A name taken apart; every part is such that it can stand in a URL as it is."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def object(self) -> Digest | str:
        """What to ask the registry for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        at = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{at}"


def parse(name: str) -> Reference:
    """Take the full form of a name apart: `host/repository:tag`, `...@digest`, or both.

    Raises InvalidArgument unless each part follows its grammar; neither tag nor digest is required.
    """
    path, at, found = name.partition("@")
    host, slash, rest = path.partition("/")
    head, colon, tag = rest.partition(":")
    if not slash or not _HOST.fullmatch(host):
        raise _wrong(name, "it must begin with the host of a registry and a slash")
    if not _REPOSITORY.fullmatch(head) or len(head) > _MAX_REPOSITORY:
        raise _wrong(name, f"the repository {head[:99]!r} is not made of lower-case words and slashes")
    if colon and not _TAG.fullmatch(tag):
        raise _wrong(name, f"{tag[:150]!r} is no tag")
    return Reference(host, head, tag, digest(found) if at else None)


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


def familiar(name: str) -> str:
    """The short form of an image's name in full, as Docker's users know it."""
    short = name.removeprefix(f"{_DEFAULT_HOST}/")
    return short.removeprefix(f"{_DEFAULT_FOLDER}/") if short != name else name


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


def _wrong(name: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"image name {name[:300]!r}: {reason}; the form is host/repository:tag or @digest")
