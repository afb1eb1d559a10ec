"""What every command is given: the connection, and how to answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.client.client import Client

JSON, TEXT = "json", "text"


@dataclass(frozen=True, slots=True)
class Context:
    """The client, the parsed arguments, and the form of answers."""

    client: Client
    args: argparse.Namespace

    @property
    def as_json(self) -> bool:
        """Whether answers are to be JSON."""
        return bool(self.args.output == JSON)

    @property
    def fifo_directory(self) -> Path:
        """Where fifos are made: beside the socket, which is as private as they must be."""
        beside = Path(self.client.address).parent
        if os.access(beside, os.W_OK):
            return beside / "fifo"
        return Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/sctr-{os.geteuid()}")) / "sctr-fifo"  # noqa: S108

    def table(self, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
        """Print rows as a table of `columns`, or whole as JSON."""
        listed = list(rows)
        if self.as_json:
            self.document(listed)
            return
        cells = [[column.upper() for column in columns]]
        cells += [[str(row[column]) for column in columns] for row in listed]
        widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
        for line in cells:
            print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def document(self, value: object) -> None:
        """Print a value as JSON."""
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def line(self, value: Mapping[str, object], text: str) -> None:
        """Print one of a stream of answers: a line of JSON, or text."""
        print(json.dumps(value, ensure_ascii=False) if self.as_json else text, flush=True)

    def answer(self, value: Mapping[str, object], text: str) -> None:
        """Print the answer of a command that gives one."""
        if self.as_json:
            self.document(value)
        elif text:
            print(text)

    def progress(self, text: str) -> None:
        """Tell somebody who watches a terminal what is being done; machines are not told."""
        if sys.stderr.isatty() and not self.as_json:
            print(text, file=sys.stderr)
