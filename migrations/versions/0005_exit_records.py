"""Exit records that outlive their tasks, and what explains an exit: signal, memory, error, start."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name, kind, default in (
        ("signal", sa.Integer(), "0"),
        ("oom_killed", sa.Boolean(), "0"),
        ("error", sa.Text(), ""),
        ("past", sa.Boolean(), "0"),
    ):
        op.add_column("exits", sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column("exits", sa.Column("started_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_exits_past", "exits", ["past", "exited_at"])
    op.add_column("tasks", sa.Column("oom_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "exec_starts",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("container_id", sa.Text(), nullable=False),
        sa.Column("exec_id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "container_id", "exec_id", name="pk_exec_starts"),
    )
    # Only the status was kept; what it says of a signal is what is known.
    op.execute("UPDATE exits SET signal = exit_status - 128 WHERE exit_status BETWEEN 129 AND 192")
    op.execute(
        """UPDATE exits SET started_at = (
            SELECT tasks.started_at FROM tasks
            WHERE tasks.namespace = exits.namespace AND tasks.id = exits.container_id
        ) WHERE exec_id = ''"""
    )
