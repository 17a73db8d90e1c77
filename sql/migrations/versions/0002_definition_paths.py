"""Schema drift: what the paths of definitions find"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "definition_paths",
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("missed", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", UtcTime(), nullable=False),
        sa.Column("last_found_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("event_type", "reader", "path"),
        comment="In how many messages of a type a path of the definitions found a value, and in how many since none.",
    )
