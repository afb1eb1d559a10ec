"""A store of an older schema, to be upgraded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine


@contextmanager
def store_of(path: Path, revision: str) -> Iterator[sqlite3.Connection]:
    """Make the store as it was at `revision`, and give the driver's connection to put rows in."""
    engine = create_engine(f"sqlite:///{path}")
    with as_file(files("supervisor") / "migrations") as scripts, engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(path)) as raw, raw:
        yield raw
