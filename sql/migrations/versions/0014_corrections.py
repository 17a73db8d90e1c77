"""Corrections of points: what was deleted, replaced or accepted, by whom and why"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    time = sa.DateTime(timezone=op.get_bind().dialect.name == "postgresql")
    op.create_table(
        "corrections",
        sa.Column("correction_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("start_at", time, nullable=False),
        sa.Column("end_at", time, nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("volume", sa.Float(53), nullable=True),
        sa.Column("factor", sa.Float(53), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("recorded_at", time, nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", time, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        comment="Points that people deleted, replaced or accepted; a revoked correction has no effect.",
    )
