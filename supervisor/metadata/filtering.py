"""Filters as SQL, for everything in the store (containerd: pkg/filters; core/metadata/adaptors.go).

The second back end of `supervisor.model.filters`: it finds exactly what `supervisor.model.predicate`
would, without loading the rest. Columns are compared as they are. Labels are looked up in their rows
(`supervisor.metadata.labels`), by index for `==`, for presence, and for regular expressions that begin
with literal text; an absent one is empty text for `!=` and `~=`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any as Anything

from sqlalchemy import ColumnElement, Connection, Select, and_, false, func, not_, select, true, union
from sqlalchemy.orm import InstrumentedAttribute

from supervisor.errors import InvalidArgument
from supervisor.metadata.schema import LabelRow
from supervisor.metadata.statements import Parameters, Prepared, Row
from supervisor.model.filters import Filter, Operator, Selector
from supervisor.model.predicate import Path, search

Column = ColumnElement[str] | InstrumentedAttribute[str]
Condition = ColumnElement[bool]

MATCHES = "re2_search"
"""Name of the SQL function that searches its second argument for the regular expression in its first."""

MAX_SELECTORS = 500
"""Conditions that one filter may have: SQLite's bound on the depth of an expression is 1000."""

_AT_ONCE = 50
_MAX_PREPARED = 256
_METACHARACTERS = frozenset(r"\.+*?()|[]{}^$")
_MAYBE_NONE = frozenset("*?{")
_SURROGATES = range(0xD800, 0xE000)
_MAX_CODE_POINT = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Text:
    """A field that is a column; an `optional` one counts as absent while it is empty."""

    column: Column
    optional: bool = False

    def condition(self, path: Path, operator: Operator, value: str) -> Condition:
        """What has to hold of the column; it has no parts, so the rest of the path means nothing."""
        match operator:
            case Operator.PRESENT:
                return self.column != "" if self.optional else true()
            case Operator.EQUAL:
                return false() if self.optional and not value else self.column == value
            case Operator.NOT_EQUAL:
                return self.column != value
            case Operator.MATCHES:
                return and_(*_matching(self.column, value))


@dataclass(frozen=True, slots=True)
class Labels:
    """Fields that are rows of `labels`: those of this type and namespace whose key is the object's."""

    namespace: ColumnElement[str]
    type: ColumnElement[str]
    key: Column

    def condition(self, path: Path, operator: Operator, value: str) -> Condition:
        """What has to hold of the label that the path names, dots included."""
        match operator:
            case Operator.PRESENT:
                return self.key.in_(self._having(path))
            case Operator.EQUAL:
                return self.key.in_(self._having(path, LabelRow.value == value))
            case Operator.NOT_EQUAL if not value:
                return self.key.in_(self._having(path, LabelRow.value != ""))
            case Operator.NOT_EQUAL:
                return self.key.not_in(self._having(path, LabelRow.value == value))
            case Operator.MATCHES if search(value)(""):
                return self.key.not_in(self._having(path, not_(_matches(LabelRow.value, value))))
            case Operator.MATCHES:
                return self.key.in_(self._having(path, *_matching(LabelRow.value, value)))

    def _having(self, path: Path, *conditions: Condition) -> Select[str]:
        return select(LabelRow.key).where(
            LabelRow.namespace == self.namespace,
            LabelRow.type == self.type,
            LabelRow.name == ".".join(path),
            *conditions,
        )


class _Absent:
    """A field that no object has."""

    def condition(self, path: Path, operator: Operator, value: str) -> Condition:
        match operator:
            case Operator.NOT_EQUAL:
                return true() if value else false()
            case Operator.MATCHES:
                return true() if search(value)("") else false()
        return false()


Fields = Mapping[Path, Text | Labels]
"""What filters can name of a kind of objects: the beginning of a path to what it stands for."""


class Search:
    """A query for one kind of objects, narrowed by filters; each set of filters is prepared once."""

    def __init__(self, query: Select[Anything], key: Column, fields: Fields) -> None:
        """`query` finds all objects in the order of `key`; filters add conditions to it."""
        self._query = query
        self._key = key
        self._fields = fields
        self._prepared: Callable[[tuple[Filter, ...]], Prepared] = lru_cache(_MAX_PREPARED)(self._prepare)

    def rows(self, connection: Connection, parameters: Parameters, filters: Iterable[Filter]) -> list[Row]:
        """The rows of the objects that pass the filters; raises InvalidArgument for one that is too long."""
        parts = _parted(tuple(filters))
        if len(parts) == 1:
            return self._prepared(parts[0]).rows(connection, parameters)
        found = {
            row[self._key.key or ""]: row
            for part in parts
            for row in self._prepared(part).rows(connection, parameters)
        }
        return [found[key] for key in sorted(found)]

    def prepared(self, filters: Iterable[Filter]) -> Prepared:
        """The statement that finds the objects which pass the filters."""
        return self._prepared(tuple(filters))

    def _prepare(self, filters: tuple[Filter, ...]) -> Prepared:
        if not filters:
            return Prepared(self._query)
        alternatives = [and_(*map(self._condition, one)) for one in filters]
        if len(alternatives) == 1:
            return Prepared(self._query.where(*alternatives))
        # SQLite would rather look at all objects than use an index per alternative of an OR.
        keys = self._query.with_only_columns(self._key).order_by(None).correlate(None)
        return Prepared(self._query.where(self._key.in_(union(*map(keys.where, alternatives)))))

    def _condition(self, selector: Selector) -> Condition:
        for beginning, field in self._fields.items():
            if selector.path[: len(beginning)] == beginning:
                return field.condition(selector.path[len(beginning) :], selector.operator, selector.value)
        return _Absent().condition(selector.path, selector.operator, selector.value)


def _parted(filters: tuple[Filter, ...]) -> list[tuple[Filter, ...]]:
    """Filters in numbers that SQLite takes in one statement; none at all when everything passes."""
    if not filters or () in filters:
        return [()]
    if any(len(one) > MAX_SELECTORS for one in filters):
        raise InvalidArgument(f"filters: more than {MAX_SELECTORS} conditions in one filter")
    return [filters[start : start + _AT_ONCE] for start in range(0, len(filters), _AT_ONCE)]


def matches(pattern: str, text: str) -> bool:
    """What `MATCHES` does, for SQLite to call."""
    return search(pattern)(text)


def literal_beginning(pattern: str) -> str:
    """Text that everything begins with which an anchored regular expression matches; empty if unknown."""
    if not pattern.startswith("^") or "|" in pattern:
        return ""
    found, rest = "", pattern[1:]
    while rest:
        escaped = rest[0] == "\\" and rest[1:2] in _METACHARACTERS
        character, after = (rest[1:2], rest[2:]) if escaped else (rest[0], rest[1:])
        if (not escaped and character in _METACHARACTERS) or after[:1] in _MAYBE_NONE:
            break
        found, rest = found + character, after
    return found


def _matching(column: Column, pattern: str) -> list[Condition]:
    """That the column matches, and what of that an index can tell."""
    beginning = literal_beginning(pattern)
    conditions = [_matches(column, pattern)]
    if beginning:
        conditions.append(column >= beginning)
        if above := _successor(beginning):
            conditions.append(column < above)
    return conditions


def _matches(column: Column, pattern: str) -> Condition:
    found: Condition = getattr(func, MATCHES)(pattern, column) == 1
    return found


def _successor(text: str) -> str:
    """The least text above all that begin with `text`; SQLite compares UTF-8, so as code points."""
    number = ord(text[-1]) + 1
    if number in _SURROGATES:
        number = _SURROGATES.stop
    return text[:-1] + chr(number) if number <= _MAX_CODE_POINT else ""
