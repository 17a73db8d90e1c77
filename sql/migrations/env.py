"""Alembic's environment; `meterhouse.stores.warehouse.Warehouse.migrate` gives it the connection and the tables."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], target_metadata=given["metadata"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
