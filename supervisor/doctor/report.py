"""Findings for people, in aligned lines, and for programs, as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from supervisor.doctor.finding import Check, Finding, Verdict

_VERDICT_WIDTH = max(map(len, Verdict))
_NARROWEST = 40


@dataclass(frozen=True, slots=True)
class Result:
    """A check and what it found."""

    check: Check
    finding: Finding


def is_fit(results: Iterable[Result]) -> bool:
    """Whether nothing failed."""
    return all(result.finding.verdict is not Verdict.FAILURE for result in results)


class Lines:
    """Results as lines of at most `width` columns, theme by theme."""

    def __init__(self, checks: Sequence[Check], width: int) -> None:
        self._names = max(len(check.name) for check in checks)
        self._indent = 2 + _VERDICT_WIDTH + 2 + self._names + 2
        self._width = max(width - self._indent, _NARROWEST)
        self._theme = ""

    def of(self, result: Result) -> Iterator[str]:
        """The lines of one result, with a heading where a theme begins."""
        check, finding = result.check, result.finding
        if check.theme != self._theme:
            self._theme = check.theme
            yield ""
            yield check.theme
        first, *rest = self._wrapped(finding.seen)
        yield f"  {finding.verdict:{_VERDICT_WIDTH}}  {check.name:{self._names}}  {first}".rstrip()
        for line in rest:
            yield f"{'':{self._indent}}{line}"
        for number, line in enumerate(self._wrapped(finding.advice) if finding.advice else ()):
            yield f"{'':{self._indent - 2}}{'  ' if number else '> '}{line}"

    def _wrapped(self, text: str) -> list[str]:
        # Paths and commands stay whole, so that they can be copied.
        return textwrap.wrap(text, self._width, break_long_words=False, break_on_hyphens=False) or [""]


def summary(results: Sequence[Result]) -> str:
    """How many of each, in one line."""
    counts = dict.fromkeys(Verdict, 0)
    for result in results:
        counts[result.finding.verdict] += 1
    told = [
        _counted(counts[verdict], verdict)
        for verdict in (Verdict.FAILURE, Verdict.WARNING, Verdict.NOTE)
        if counts[verdict]
    ]
    word = "fit" if is_fit(results) else "not fit"
    return f"{word}: {', '.join([*told, f'{counts[Verdict.OK]} ok'])}"


def as_json(about: Mapping[str, object], results: Sequence[Result]) -> str:
    """All of it as one JSON object: what was looked at, whether it is fit, and the findings."""
    findings = [
        {
            "theme": result.check.theme,
            "name": result.check.name,
            "verdict": result.finding.verdict,
            "seen": result.finding.seen,
            "advice": result.finding.advice,
        }
        for result in results
    ]
    return json.dumps({**about, "fit": is_fit(results), "findings": findings}, indent=2)


def _counted(count: int, verdict: Verdict) -> str:
    return f"{count} {verdict}" + ("s" if count != 1 else "")
