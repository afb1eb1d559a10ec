"""What the restart monitor remembers of each container, so that back-off outlives the daemon."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "restarts",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("container_id", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("namespace", "container_id", name="pk_restarts"),
    )
    op.execute(
        "CREATE TRIGGER restarts_of_removed AFTER DELETE ON containers BEGIN"
        " DELETE FROM restarts WHERE namespace = OLD.namespace AND container_id = OLD.id; END"
    )
