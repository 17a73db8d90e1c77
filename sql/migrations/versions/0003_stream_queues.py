"""Lag of collection: what is known about each queue"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "stream_queues",
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("looked_at", UtcTime(), nullable=True),
        sa.Column("messages", sa.BigInteger(), nullable=True),
        sa.Column("empty_at", UtcTime(), nullable=True),
        sa.Column("newest_at", UtcTime(), nullable=True),
        sa.Column("oldest_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("place"),
        comment="What was last seen of each queue that notifications are collected from.",
    )
