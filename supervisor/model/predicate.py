"""What a filter means on an object (containerd: pkg/filters, `Match` and `Adaptor`).

An object is seen through a lookup: a field path to its text, or None where the field is absent. Regular
expressions are RE2, as containerd's are: what RE2 does not know matches nothing, and no pattern of a
client can take exponential time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import re2

from supervisor.model.filters import Filter, Operator, Selector

log = logging.getLogger(__name__)

Path = tuple[str, ...]
Lookup = Callable[[Path], str | None]
Predicate = Callable[[Lookup], bool]

_MAX_COMPILED = 256


class Filterable(Protocol):
    """An object that filters can look at."""

    def field(self, path: Path, /) -> str | None:
        """The text of the field that `path` names, None where it is absent."""
        ...


def predicate(filters: Sequence[Filter]) -> Predicate:
    """A test for lookups: no filter at all, an empty one, or one whose selectors all hold."""
    if not filters or () in filters:
        return _everything
    alternatives = [[_condition(selector) for selector in one] for one in filters]
    return lambda lookup: any(all(holds(lookup) for holds in one) for one in alternatives)


def entry(mapping: Mapping[str, str], path: Path) -> str | None:
    """The entry of `mapping` that the rest of a field path names: `labels.a.b` is the key `a.b`."""
    return mapping.get(".".join(path))


def present(text: str) -> str | None:
    """A field that counts as absent while it is empty."""
    return text or None


def _everything(lookup: Lookup) -> bool:
    return True


def _condition(selector: Selector) -> Predicate:
    path, value = selector.path, selector.value
    match selector.operator:
        case Operator.PRESENT:
            return lambda lookup: lookup(path) is not None
        case Operator.EQUAL:
            return lambda lookup: lookup(path) == value
        case Operator.NOT_EQUAL:
            # An absent field compares as empty text here, and in "~=" too.
            return lambda lookup: (lookup(path) or "") != value
        case Operator.MATCHES:
            found = search(value)
            return lambda lookup: found(lookup(path) or "")


@lru_cache(_MAX_COMPILED)
def search(pattern: str) -> Callable[[str], bool]:
    """A test for texts in which the RE2 pattern matches somewhere; none does for a malformed one."""
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        log.warning("filter: regular expression %r matches nothing: %s", pattern, error)
        return lambda text: False
    return lambda text: compiled.search(text) is not None
