"""One row keeps when alarms were evaluated; an alarm knows since when late intake holds its state"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    time = sa.DateTime(timezone=op.get_bind().dialect.name == "postgresql")
    op.create_table(
        "alarm_cycles",
        sa.Column("cycle_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("evaluated_at", time, nullable=False),
        sa.Column("alarms", sa.BigInteger(), nullable=False),
        sa.Column("history", sa.BigInteger(), nullable=False),
        sa.Column("watched", sa.Text(), nullable=False),
        comment="One row: the last cycle in which the enabled alarms were evaluated.",
    )
    op.add_column("alarms", sa.Column("held_since", time, nullable=True))
