"""Bring the store's file to the schema of this version (Alembic), at every start.

The scripts are packaged as `supervisor/migrations`; there is no alembic.ini. An upgrade runs in one
transaction, so a crash in the middle leaves the old schema.
"""

from __future__ import annotations

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from supervisor.errors import FailedPrecondition


def upgrade(connection: Connection) -> None:
    """Run the migrations that the file has not seen; raises FailedPrecondition on a newer file."""
    with as_file(files("supervisor") / "migrations") as scripts, connection.begin():
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        have = revision(connection)
        known = ScriptDirectory.from_config(config)
        if have == known.get_current_head():
            return
        if have is not None and have not in {script.revision for script in known.walk_revisions()}:
            raise FailedPrecondition(
                f"the store has schema {have}, which this version does not know:"
                " it was written by a newer version; install that one, or restore a backup"
            )
        command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The schema revision of the file, None for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
