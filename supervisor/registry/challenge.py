"""What a registry wants to see: the WWW-Authenticate header (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_HEADER = 8192
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105  # RFC 9110's word for a word
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|$|(?=\s))')
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|,|$)(?!=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to identify oneself: the scheme in lower case, and its parameters by lower-case name."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """A parameter, empty when it is not there."""
        return self.parameters.get(name, "")


def parse(header: str) -> list[Challenge]:
    """The challenges in a header, or in several joined by commas, as far as they can be read."""
    text, place = header[:MAX_HEADER], 0
    found: list[Challenge] = []
    while scheme := _SCHEME.match(text, place):
        place = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text, place):
            name, quoted, bare = parameter.groups()
            parameters.setdefault(name.lower(), bare or re.sub(r"\\(.)", r"\1", quoted or ""))
            place = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found
