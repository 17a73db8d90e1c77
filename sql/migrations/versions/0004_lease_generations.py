"""Leases: a generation for each taking, and how long it is valid without a renewal"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("leases", sa.Column("generation", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("leases", sa.Column("seconds", sa.Float(53), nullable=False, server_default="60"))
