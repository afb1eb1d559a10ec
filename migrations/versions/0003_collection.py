"""What garbage collection asks for by index: roots as edges, back references, when images expire."""

import json

import sqlalchemy as sa
from alembic import op

from supervisor.model.lease import expiry

revision = "0003"
down_revision = "0002"

_ROOTS = """
INSERT OR IGNORE INTO edges (namespace, source_type, source_key, kind, target_type, target_key, condition)
SELECT DISTINCT objects.namespace, objects.type, objects.key, 'root', '', '', ''
FROM (
    SELECT namespace, 'content' AS type, digest AS key, labels FROM blobs
    UNION ALL SELECT namespace, 'snapshot/' || snapshotter, key, labels FROM snapshots
) AS objects, json_each(objects.labels) AS label
WHERE label.key LIKE 'containerd.io/gc.root%' AND label.value <> ''
"""
_EXPIRING = """
SELECT namespace, name, labels FROM images WHERE labels LIKE '%containerd.io/gc.expire%'
"""
_EXPIRES = "UPDATE images SET expires_at = :at WHERE namespace = :namespace AND name = :name"


def upgrade() -> None:
    op.create_index("ix_edges_roots", "edges", ["namespace"], sqlite_where=sa.text("kind = 'root'"))
    op.create_index(
        "ix_edges_back_references",
        "edges",
        ["namespace", "target_type", "target_key"],
        sqlite_where=sa.text("kind = 'bref'"),
    )
    op.add_column("images", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    connection = op.get_bind()
    connection.execute(sa.text(_ROOTS))
    for namespace, name, labels in connection.execute(sa.text(_EXPIRING)).all():
        at = expiry(json.loads(labels))
        connection.execute(sa.text(_EXPIRES), {"at": at, "namespace": namespace, "name": name})
