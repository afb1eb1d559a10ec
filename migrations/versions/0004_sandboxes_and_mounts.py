"""Records of sandboxes, and the activations of the mount manager."""

import sqlalchemy as sa
from alembic import op

from supervisor.metadata.labels import triggers

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "sandboxes",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("runtime_name", sa.Text(), nullable=False),
        sa.Column("runtime_options", sa.LargeBinary(), nullable=True),
        sa.Column("spec", sa.LargeBinary(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("extensions", sa.Text(), nullable=False),
        sa.Column("sandboxer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "id", name="pk_sandboxes"),
    )
    op.create_table(
        "mounts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("leased", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mounts"),
        sa.UniqueConstraint("namespace", "name", name="uq_mounts_namespace_name"),
        sqlite_autoincrement=True,
    )
    connection = op.get_bind()
    for statements in (triggers("sandboxes", "'sandbox'", "id"), triggers("mounts", "'mount'", "name")):
        for statement in statements:
            connection.exec_driver_sql(statement)
