"""Posted samples: which Idempotency-Key stands for which; which series meterhouse verify has made"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("first_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "idempotency_key"),
        comment="The Idempotency-Key of posted samples, by the project that posted them: what came with it, and when.",
    )
    of_verify = sa.text("source = 'meterhouse-verify'")
    op.create_index("series_of_verify", "series", ["meter"], sqlite_where=of_verify, postgresql_where=of_verify)
