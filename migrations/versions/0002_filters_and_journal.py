"""Filters by index: labels as rows, kept by triggers. A journal that can be trimmed by age."""

import time

import sqlalchemy as sa
from alembic import op

from supervisor.metadata.labels import triggers

revision = "0002"
down_revision = "0001"

_LABELLED = (
    triggers("containers", "'container'", "id"),
    triggers("images", "'image'", "name"),
    triggers("images", "'annotation'", "name", "annotations"),
    triggers("blobs", "'content'", "digest"),
    triggers("snapshots", "'snapshot/' || {row}.snapshotter", '"key"'),
    triggers("leases", "'lease'", "id"),
)


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "type", "name", "value", "key", name="pk_labels"),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    for statements in _LABELLED:
        for statement in statements:
            connection.exec_driver_sql(statement)
    # With the key at their end they give the order of a list too; else SQLite prefers the primary key.
    op.create_index("ix_containers_namespace_image_id", "containers", ["namespace", "image", "id"])
    op.create_index("ix_images_namespace_digest_name", "images", ["namespace", "digest", "name"])
    op.add_column("events", sa.Column("recorded_at", sa.BigInteger(), nullable=False, server_default="0"))
    # When an event was recorded is not known: its timestamp is its sender's. They age from now on.
    connection.execute(sa.text("UPDATE events SET recorded_at = :now"), {"now": time.time_ns()})
