"""The filter language of every List and of Subscribe: text to a tree (containerd: pkg/filters).

    filter    = selector *( "," selector )
    selector  = fieldpath [ operator value ]
    fieldpath = field *( "." field )
    field     = 1*( ALPHA / DIGIT / "_" ) / dquoted
    operator  = "==" / "!=" / "~="
    value     = bare / dquoted / for "~=" also /.../ and |...|

Several filters are alternatives; the selectors of one all have to hold. White space is skipped before a
token, but not accepted between a value and the next comma. What a filter means on an object is
`supervisor.model.predicate`; other back ends can walk the same tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from supervisor.errors import InvalidArgument


class Operator(Enum):
    """How a selector compares."""

    PRESENT = ""
    EQUAL = "=="
    NOT_EQUAL = "!="
    MATCHES = "~="


@dataclass(frozen=True, slots=True)
class Selector:
    """One condition on the field that `path` names."""

    path: tuple[str, ...]
    operator: Operator = Operator.PRESENT
    value: str = ""


Filter = tuple[Selector, ...]


def parse_all(texts: Iterable[str]) -> tuple[Filter, ...]:
    """The filters that `texts` say; everything passes an empty one. Raises InvalidArgument."""
    return tuple(parse(text) for text in texts)


def parse(text: str) -> Filter:
    """The selectors of one filter; raises InvalidArgument with the offending character marked."""
    return _Parser(text).filter() if text else ()


class _Kind(Enum):
    FIELD = "field"
    VALUE = "value"
    QUOTED = "quoted"
    OPERATOR = "operator"
    SEPARATOR = "separator"
    END = "end"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    position: int


_OPERATOR_CHARACTERS = frozenset("=!~")
_SEPARATORS = frozenset(",.")
_QUOTES = frozenset('"/|')
_SIMPLE_ESCAPES = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
}
_ESCAPE_DIGITS = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
_MAX_CODE_POINT = 0x10FFFF


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def filter(self) -> Filter:
        selectors = [self._selector()]
        while (upcoming := self._peek()) == ",":
            self._position += 1
            selectors.append(self._selector())
        if upcoming:
            raise self._error(self._position, f"unexpected input: {upcoming}")
        return tuple(selectors)

    def _selector(self) -> Selector:
        path = self._path()
        if self._peek() in ("", ","):
            return Selector(path)
        operator = self._operator()
        return Selector(path, operator, self._value(operator))

    def _path(self) -> tuple[str, ...]:
        fields = [self._field()]
        while self._peek() == ".":
            self._position += 1
            fields.append(self._field())
        return tuple(fields)

    def _field(self) -> str:
        token = self._scan()
        if token.kind is _Kind.FIELD:
            return token.text
        if token.kind is _Kind.QUOTED:
            return self._unquote(token, other_quotes=False)
        raise self._error(token.position, "expected field or quoted")

    def _operator(self) -> Operator:
        token = self._scan()
        if token.kind is not _Kind.OPERATOR:
            raise self._error(token.position, 'expected an operator ("=="|"!="|"~=")')
        try:
            return Operator(token.text)
        except ValueError:
            raise self._error(token.position, f'unsupported operator "{token.text}"') from None

    def _value(self, operator: Operator) -> str:
        token = self._scan(value=True)
        if token.kind is _Kind.VALUE:
            return token.text
        if token.kind is _Kind.QUOTED:
            return self._unquote(token, other_quotes=operator is Operator.MATCHES)
        raise self._error(token.position, "expected value or quoted")

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _scan(self, *, value: bool = False) -> _Token:
        """The next token; a bare word is a value after an operator, else a field."""
        while self._peek().isspace():
            self._position += 1
        start, first = self._position, self._peek()
        kind = _kind_of(first, value=value)
        if kind is _Kind.QUOTED:
            self._skip_quoted(first)
        else:
            self._position = max(self._end_of_run(kind), start + len(first))
        return _Token(kind, self._text[start : self._position], start)

    def _end_of_run(self, kind: _Kind) -> int:
        """Where the run of characters that may continue a token of this kind ends."""
        belongs = _CONTINUES.get(kind)
        end = self._position
        while belongs and end < len(self._text) and belongs(self._text[end]):
            end += 1
        return end

    def _skip_quoted(self, quote: str) -> None:
        start = self._position
        self._position += 1
        while (character := self._peek()) != quote:
            if character in ("", "\n"):
                raise self._error(start, "quoted literal not terminated")
            self._position += 2 if character == "\\" else 1
        self._position += 1

    def _unquote(self, token: _Token, *, other_quotes: bool) -> str:
        quote = token.text[0]
        if quote != '"' and not other_quotes:
            raise self._error(token.position, "invalid quote encountered")
        out = bytearray()
        at, end = 1, len(token.text) - 1
        while at < end:
            if token.text[at] == "\\":
                at += self._escape(token, at + 1, quote, out)
            else:
                out += token.text[at].encode()
            at += 1
        return out.decode(errors="replace")

    def _escape(self, token: _Token, at: int, quote: str, out: bytearray) -> int:
        """Append what the escape at `at`, behind its backslash, stands for; how many characters it takes."""
        letter = token.text[at]
        if letter == quote or letter in _SIMPLE_ESCAPES:
            out += _SIMPLE_ESCAPES.get(letter) or letter.encode()
            return 1
        skip, count, base = (1, *_ESCAPE_DIGITS[letter]) if letter in _ESCAPE_DIGITS else (0, 3, 8)
        digits = token.text[at + skip : at + skip + count]
        number = _number(digits, count, base)
        if number is None or number > (0xFF if letter not in "uU" else _MAX_CODE_POINT):
            raise self._error(token.position, "illegal escape sequence")
        out += chr(number).encode(errors="replace") if letter in "uU" else bytes([number])
        return skip + count

    def _error(self, position: int, reason: str) -> InvalidArgument:
        text, at = self._text, position
        where = f"{text[:at]} >|{text[at]}|< {text[at + 1 :]}" if at < len(text) else text
        return InvalidArgument(f"filters: parse error: [{where}]: {reason}")


def _number(digits: str, count: int, base: int) -> int | None:
    allowed = "01234567" if base == 8 else "0123456789abcdefABCDEF"
    if len(digits) != count or not set(digits) <= set(allowed):
        return None
    return int(digits, base)


def _kind_of(first: str, *, value: bool) -> _Kind:
    for kind, characters in (
        (_Kind.QUOTED, _QUOTES),
        (_Kind.SEPARATOR, _SEPARATORS),
        (_Kind.OPERATOR, _OPERATOR_CHARACTERS),
    ):
        if first in characters:
            return kind
    if not first:
        return _Kind.END
    if value:
        return _Kind.VALUE if first.isprintable() else _Kind.OTHER
    return _Kind.FIELD if _is_field(first) else _Kind.OTHER


def _is_field(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _is_bare(character: str) -> bool:
    return character != "," and not character.isspace() and character.isprintable()


_CONTINUES = {
    _Kind.FIELD: _is_field,
    _Kind.VALUE: _is_bare,
    _Kind.OPERATOR: _OPERATOR_CHARACTERS.__contains__,
}
