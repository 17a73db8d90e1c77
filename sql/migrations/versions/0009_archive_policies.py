"""Archive policies: by which ones each hour was rolled up, and the cadence of each series

Hours of earlier releases name none. They stay as they are until they get new points or are recomputed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("series", sa.Column("cadence_s", sa.Float(53), nullable=True))
    op.add_column("dirty_hours", sa.Column("policies", sa.Text(), nullable=True))
    op.create_index("dirty_hours_by_policies", "dirty_hours", ["policies", "hour"])
    op.create_table(
        "policy_meanings",
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        sa.Column("meaning", sa.Text(), nullable=False),
        comment="What the archive policies meant, by which hours were rolled up.",
    )
