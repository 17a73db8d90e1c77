"""Order of alarm history and notifications by a sequence instead of a clock"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TABLES = {"alarm_history": ("event_id", "timestamp"), "deliveries": ("delivery_id", "created_at")}


def upgrade() -> None:
    for table, (key, clock) in _TABLES.items():
        op.add_column(table, sa.Column("sequence", sa.BigInteger(), nullable=True))
        # Rows of the same instant: SQLite knows which came first.
        then = "rowid" if op.get_bind().dialect.name == "sqlite" else key
        op.execute(
            f"UPDATE {table} SET sequence = numbered.place FROM (SELECT {key} AS numbered_key, "
            f"row_number() OVER (ORDER BY {clock}, {then}) AS place FROM {table}) AS numbered "
            f"WHERE {table}.{key} = numbered.numbered_key"
        )
        with op.batch_alter_table(table) as batch:
            batch.alter_column("sequence", existing_type=sa.BigInteger(), nullable=False)
        op.create_index(f"{table}_in_order", table, ["sequence"], unique=True)
    op.drop_index("alarm_history_by_alarm", "alarm_history")
    op.create_index("alarm_history_by_alarm", "alarm_history", ["alarm_id", "sequence"])
    op.drop_index("deliveries_due", "deliveries")
    op.create_index("deliveries_due", "deliveries", ["state", "alarm_id", "url", "sequence"])
