"""Alembic's environment: the connection comes from `meterhouse.stores.warehouse.Warehouse.migrate`."""

from alembic import context

from meterhouse.stores.warehouse_tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
