"""Field masks of Update requests: which fields, or which keys of a map, a request may change.

`labels.K` names one key; everything behind the first dot is the key, dots included (contract 1.4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from supervisor.errors import InvalidArgument

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class MaskPath:
    """A field to change; of a map, only the entry `key` unless it is None."""

    field: str
    key: str | None = None


def parse_mask(
    paths: Iterable[str], what: str, *, fields: Collection[str], maps: Collection[str] = ()
) -> tuple[MaskPath, ...]:
    """The mask that `paths` say; `what` names the object in the InvalidArgument for any other path.

    A field is replaced whole; of the fields in `maps` single keys can be named as well.
    """
    return tuple(_parse_path(path, what, fields, maps) for path in paths)


def _parse_path(path: str, what: str, fields: Collection[str], maps: Collection[str]) -> MaskPath:
    if path in fields:
        return MaskPath(path)
    field, dot, key = path.partition(".")
    if dot and key and field in maps:
        return MaskPath(field, key)
    keyed = [f"{name}.KEY" for name in maps]
    raise InvalidArgument(
        f"cannot update {path!r} field on {what}; allowed are {', '.join([*fields, *keyed])}"
    )


def merged_map(stored: Mapping[str, V], given: Mapping[str, V], key: str | None) -> dict[str, V]:
    """`stored` changed as a mask path says: replaced by `given`, or only its `key` taken from there.

    A key that the request does not bring is removed.
    """
    if key is None:
        return dict(given)
    merged = {name: value for name, value in stored.items() if name != key}
    if key in given:
        merged[key] = given[key]
    return merged
