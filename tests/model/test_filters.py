"""The filter language, checked against what containerd 1.6 answers to the same texts."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import InvalidArgument
from supervisor.model.filters import Operator, Selector, parse, parse_all
from supervisor.model.predicate import Path, entry, predicate

LABELS = {"a": "1", "a.b": "2", "slash/y": "3"}


def lookup(path: Path) -> str | None:
    match path:
        case ("id", *_):
            return "lx"
        case ("empty", *_):
            return None
        case ("labels", *rest):
            return entry(LABELS, tuple(rest))
    return None


def accepts(*texts: str) -> bool:
    return predicate(parse_all(texts))(lookup)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id",
        "id==lx",
        "id == lx",
        "id==lx, labels.a",
        "labels.a.b==2",
        'labels."a.b"==2',
        'labels."slash/y"==3',
        '"id"==lx',
        r'id=="l\170"',
        r'id=="l\x78"',
        r'id=="\u006cx"',
        r'id=="\U0000006cx"',
        "id~=x",
        "id~=|^l|,id==lx",
        "id~=/^lx$/",
        r"id~=|\||",
        "id!=ly",
        "labels.zz!=x",
        "labels.zz~=^$",
        "unknown~=^$",
        "id. x==lx",
    ],
)
def test_accepts(text: str) -> None:
    assert accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "id==ly",
        "id!=lx",
        "labels.zz",
        'labels.zz==""',
        'labels.zz!=""',
        "labels",
        "empty",
        "unknown",
        'id==lx"q',
        "id==lx|y",
        "id==lx==y",
        "id=='lx'",
        "id==[",
        "id~=(?=l)",
        r'id~="(l)\\1"',
        "id~=(",
        "labels.a,id==ly",
    ],
)
def test_refuses(text: str) -> None:
    assert not accepts(text)


def test_several_filters_are_alternatives() -> None:
    assert accepts("id==no", "id==lx")
    assert accepts("id==no", "")
    assert accepts()
    assert not accepts("id==no", "id==neither")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digest=x", '[digest >|=|< x]: unsupported operator "="'),
        ("id==~x", '[id >|=|< =~x]: unsupported operator "==~"'),
        ("id===x", '[id >|=|< ==x]: unsupported operator "==="'),
        ("a==b ", "[a==b >| |< ]: unexpected input:  "),
        ("a==é b", "[a==é >| |< b]: unexpected input:  "),
        ("id==l\x01", "[id==l >|\x01|< ]: unexpected input: \x01"),
        ("labels.a ", '[labels.a ]: expected an operator ("=="|"!="|"~=")'),
        ("i-d==x", '[i >|-|< d==x]: expected an operator ("=="|"!="|"~=")'),
        (",", "[ >|,|< ]: expected field or quoted"),
        (" ", "[ ]: expected field or quoted"),
        ("id,", "[id,]: expected field or quoted"),
        (".id", "[ >|.|< id]: expected field or quoted"),
        ("labels.", "[labels.]: expected field or quoted"),
        ("é", "[ >|é|< ]: expected field or quoted"),
        ("a==", "[a==]: expected value or quoted"),
        ("id==.x", "[id== >|.|< x]: expected value or quoted"),
        ("topic==/tasks/start", "[topic== >|/|< tasks/start]: invalid quote encountered"),
        ("/a/", "[ >|/|< a/]: invalid quote encountered"),
        ('a=="b', '[a== >|"|< b]: quoted literal not terminated'),
        ('id=="a\nb"', '[id== >|"|< a\nb"]: quoted literal not terminated'),
        ('x=="\\"', '[x== >|"|< \\"]: quoted literal not terminated'),
        (r'name~="docker\.io"', r'[name~= >|"|< docker\.io"]: illegal escape sequence'),
        (r'id=="\777"', r'[id== >|"|< \777"]: illegal escape sequence'),
        (r'id=="\x4"', r'[id== >|"|< \x4"]: illegal escape sequence'),
        (r'id=="\U00110000"', r'[id== >|"|< \U00110000"]: illegal escape sequence'),
        ('labels."a"b==1', '[labels."a" >|b|< ==1]: expected an operator ("=="|"!="|"~=")'),
    ],
)
def test_errors_mark_the_place(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert caught.value.wire_text() == f"filters: parse error: {message}: invalid argument"


@pytest.mark.parametrize(
    "text",
    [
        "namespace==moby,topic~=|^/tasks/|",
        "type==io.containerd.snapshotter.v1, id==overlayfs",
        'type=="io.containerd.snapshotter.v1"',
        'target.digest==sha256:abcdef,labels."k"',
        'target.digest~="^sha256:ab[0-9a-fA-F]{62}$"',
        r"name~=^docker\.io/library/alpine:",
    ],
)
def test_filters_of_known_clients(text: str) -> None:
    assert parse(text)


def test_tree() -> None:
    assert parse("namespace==moby,topic~=|^/tasks/|,labels.a.b") == (
        Selector(("namespace",), Operator.EQUAL, "moby"),
        Selector(("topic",), Operator.MATCHES, "^/tasks/"),
        Selector(("labels", "a", "b")),
    )


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(InvalidArgument):
        predicate([parse(text)])(lookup)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_quoted_value_says_itself(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse(f'id=="{quoted}"') == (Selector(("id",), Operator.EQUAL, value),)
