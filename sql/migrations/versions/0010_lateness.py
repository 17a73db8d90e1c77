"""How late points came, what each event hour holds, and which run of Dagster did a step"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime, lateness

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "lateness",
        sa.Column("hour", UtcTime(), primary_key=True),
        sa.Column("meter", sa.Text(), primary_key=True),
        sa.Column("octave", sa.Integer(), primary_key=True),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("max_seconds", sa.Float(53), nullable=False),
        sa.Column("counted_at", UtcTime(), nullable=False),
        comment=lateness.comment,
    )
    op.add_column("dirty_hours", sa.Column("good_points", sa.BigInteger(), nullable=True))
    op.add_column("dirty_hours", sa.Column("excluded_points", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("dagster_run", sa.Text(), nullable=True))
    op.execute("UPDATE runs SET dagster_run = ''")  # it is not known who did them
