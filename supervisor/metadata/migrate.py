"""Bring the store's file to the schema of this version (Alembic), at every start.

The scripts are packaged as `supervisor/migrations`; there is no alembic.ini. An upgrade runs in one
transaction, so a crash in the middle leaves the old schema. Alembic is imported only where there is
something to do: for as long as it is being imported, a restarted daemon is away.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from supervisor.errors import FailedPrecondition


def upgrade(connection: Connection) -> None:
    """Run the migrations that the file has not seen; raises FailedPrecondition on a newer file."""
    with as_file(files("supervisor") / "migrations") as scripts, connection.begin():
        have = revision(connection)
        if have != max(_revisions(scripts)):
            _upgrade_from(connection, scripts, have)


def revisions() -> frozenset[str]:
    """The schema revisions that this version knows; the greatest is its own."""
    with as_file(files("supervisor") / "migrations") as scripts:
        return _revisions(scripts)


def _revisions(scripts: Path) -> frozenset[str]:
    """By the scripts' names: `NNNN_what.py` in an unbroken line."""
    return frozenset(script.name.partition("_")[0] for script in (scripts / "versions").glob("[0-9]*_*.py"))


def _upgrade_from(connection: Connection, scripts: Path, have: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if have is not None and have not in known:
        raise FailedPrecondition(
            f"the store has schema {have}, which this version does not know:"
            " it was written by a newer version; install that one, or restore a backup of before"
            " (`container-supervisor backup --list`)"
        )
    command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The schema revision of the file, None for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
