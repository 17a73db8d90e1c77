"""What was followed is bound to the history that it was read from"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # An older record has neither: the next run takes the lake's commit of that version for the one that was followed.
    op.add_column("followed", sa.Column("mark", sa.BigInteger(), nullable=True))
    op.add_column("followed", sa.Column("committed_at", UtcTime(), nullable=True))
