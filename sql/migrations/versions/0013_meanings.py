"""By which definitions each arrival hour was converted, by which quality rules each event hour was judged

Hours of earlier releases name none, and do not count as stale.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    time = sa.DateTime(timezone=is_postgres)
    op.rename_table("policy_meanings", "meanings")
    op.add_column("meanings", sa.Column("files", sa.Text(), nullable=True))
    op.add_column("meanings", sa.Column("since", time, nullable=True))
    if is_postgres:
        op.create_table_comment(
            "meanings", "What definitions, quality rules and archive policies meant, by fingerprint."
        )
    op.add_column("dirty_hours", sa.Column("rules", sa.Text(), nullable=True))
    op.create_index("dirty_hours_by_rules", "dirty_hours", ["rules", "hour"])
    op.create_table(
        "conversions",
        sa.Column("table_name", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        sa.Column("arrival_hour", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        comment="By which definitions the rows of an arrival hour of samples and events were made.",
    )
    op.create_table(
        "backfills",
        sa.Column("asset", sa.Text(), primary_key=True),
        sa.Column("start_at", time, primary_key=True),
        sa.Column("end_at", time, nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.Column("reached", time, nullable=True),
        sa.Column("worked_at", time, nullable=False),
        comment="Backfills that have not ended: the same command continues them.",
    )
