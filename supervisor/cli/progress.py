"""How a transfer goes, for people: a line per part on a terminal, redrawn; plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from supervisor.cli import words
from supervisor.cli.terminal import size
from supervisor.client.transfers import Progress

_BAR = 24
_REDRAW_SECONDS = 0.1
_DONE = frozenset(("complete", "already exists", "extracted", "saved"))
_STAGES = {
    "waiting": "waiting",
    "downloading": "download",
    "uploading": "upload",
    "extracting": "unpack",
    "extracted": "done",
    "complete": "done",
    "already exists": "here already",
}


@dataclass(slots=True)
class _Line:
    stage: str = "waiting"
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.monotonic)
    moved: int = 0

    def text(self, name: str, width: int) -> str:
        share = 1.0 if self.stage in ("done", "here already") else self.done / self.total if self.total else 0
        filled = int(share * _BAR)
        bar = "#" * filled + "-" * (_BAR - filled)
        return f"{name:20} {self.stage:13} [{bar}] {words.size(self.total):>10}  {self._speed()}"[:width]

    def _speed(self) -> str:
        seconds = time.monotonic() - self.began
        if not self.moved or self.stage not in ("download", "upload") or seconds < _REDRAW_SECONDS:
            return ""
        return f"{words.size(int(self.moved / seconds))}/s"


class Bars:
    """Shows progress on `out`; call `finish` at the end. Redraws ten times a second at most."""

    def __init__(self, out: TextIO = sys.stderr, *, quiet: bool = False) -> None:
        self._out = out
        self._live = out.isatty() and not quiet
        self._quiet = quiet
        self._lines: dict[str, _Line] = {}
        self._drawn = 0
        self._last = 0.0

    def report(self, progress: Progress) -> None:
        """Take one thing that was told."""
        if self._quiet:
            return
        if progress.event not in _STAGES or "-sha" not in progress.name:
            self._say(progress)
            return
        line = self._lines.setdefault(progress.name, _Line())
        stage = _STAGES[progress.event]
        if stage in ("download", "upload"):
            if line.stage != stage:
                line.began, line.moved = time.monotonic(), 0
            else:
                line.moved += max(0, progress.progress - line.done)
        changed = stage != line.stage
        line.stage, line.done, line.total = stage, progress.progress, progress.total
        if self._live:
            self._draw(force=False)
        elif changed and stage != "waiting":
            print(f"{_name(progress.name)}: {stage} {words.size(line.total)}", file=self._out, flush=True)

    def finish(self) -> None:
        """Leave the last state on the screen."""
        if self._live:
            self._draw(force=True)

    def _say(self, progress: Progress) -> None:
        text = f"{progress.name}: {progress.event}" if progress.name else progress.event
        if self._live:
            self._erase()
            print(text, file=self._out, flush=True)
            self._draw(force=True)
        else:
            print(text, file=self._out, flush=True)

    def _draw(self, *, force: bool) -> None:
        if not force and time.monotonic() - self._last < _REDRAW_SECONDS:
            return
        self._erase()
        columns, rows = size() or (80, 24)
        shown = list(self._lines.items())[-(rows - 2) :]
        for name, line in shown:
            print(line.text(_name(name), columns - 1), file=self._out)
        self._out.flush()
        self._drawn, self._last = len(shown), time.monotonic()

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def _name(part: str) -> str:
    """`layer-sha256:0123...` as people want to read it."""
    kind, _, digest = part.partition("-")
    return f"{kind} {words.short(digest)}"
