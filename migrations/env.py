"""Run by Alembic: the connection comes from supervisor.metadata.migrate, in a transaction of its own."""

from alembic import context

from supervisor.metadata.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
