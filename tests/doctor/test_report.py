"""Lines that people read, and JSON that programs do."""

import json

from supervisor.doctor.finding import Check, failure, note, ok, some, warning
from supervisor.doctor.report import Lines, Result, as_json, is_fit, summary

A = Result(Check("files", "root", lambda: None), ok("/var/lib/x, mode 0711"))
B = Result(Check("files", "a longer name", lambda: None), failure("word " * 40, "do " * 40))
C = Result(
    Check("kernel", "version", lambda: None), warning("old", "boot /a/path/that/is/not/broken" + "x" * 80)
)
LONG = "/a/path/that/is/not/broken" + "x" * 80
ALL = [A, B, C]


def lines(width: int) -> list[str]:
    told = Lines([result.check for result in ALL], width)
    return [line for result in ALL for line in told.of(result)]


def test_columns_are_aligned_and_long_texts_wrapped() -> None:
    told = lines(80)
    assert told[:3] == ["", "files", "  ok       root           /var/lib/x, mode 0711"]
    column = told[2].index("/var/lib")
    seen = [line for line in told if "word" in line]
    assert len(seen) > 1
    assert {line.index("word") for line in seen} == {column}
    advice = [line for line in told if "do do" in line]
    assert len(advice) > 1
    assert advice[0].strip().startswith("> ")
    assert {line.index("do") for line in advice} == {column}
    assert max(map(len, seen + advice)) <= 80


def test_a_heading_comes_once_for_each_theme() -> None:
    assert [line for line in lines(80) if line in ("files", "kernel")] == ["files", "kernel"]


def test_what_may_be_copied_stays_whole() -> None:
    assert any(LONG in line for line in lines(60))


def test_fit_is_what_has_no_failure() -> None:
    assert not is_fit(ALL)
    assert is_fit([A, C])
    assert summary(ALL) == "not fit: 1 failure, 1 warning, 1 ok"
    assert summary([A, Result(A.check, note("a")), Result(A.check, note("b"))]) == "fit: 2 notes, 1 ok"


def test_json_has_everything() -> None:
    told = json.loads(as_json({"root": "/r"}, ALL))
    assert (told["root"], told["fit"]) == ("/r", False)
    assert told["findings"][0] == {
        "theme": "files",
        "name": "root",
        "verdict": "ok",
        "seen": "/var/lib/x, mode 0711",
        "advice": "",
    }
    assert [one["verdict"] for one in told["findings"]] == ["ok", "failure", "warning"]


def test_many_are_cut_and_counted() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some("abcde") == "a, b, c and 2 more"
