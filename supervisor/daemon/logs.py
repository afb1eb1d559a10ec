"""Structured logs on standard error: one line an entry, as key=value text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time

_TEXT_KEYS = ("time", "level", "logger", "message")


class _Entries(logging.Formatter):
    """Turns a record into its fields; a traceback is one field among them."""

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("supervisor."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return fields


class TextEntries(_Entries):
    """`time level logger message`, and the traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One entry."""
        fields = self.fields(record)
        line = " ".join(fields[key] for key in _TEXT_KEYS)
        return f"{line}\n{fields['traceback']}" if "traceback" in fields else line


class JsonEntries(_Entries):
    """One JSON object an entry."""

    def format(self, record: logging.LogRecord) -> str:
        """One entry."""
        return json.dumps(self.fields(record), ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Send all logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonEntries() if form == "json" else TextEntries())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("alembic", "asyncio", "grpc", "hpack", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
