"""Erasures: whose personal data was erased, by a salted hash, by whom and why"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    time = sa.DateTime(timezone=op.get_bind().dialect.name == "postgresql")
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("pseudonym", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("recorded_at", time, nullable=False),
        sa.Column("began_at", time, nullable=True),
        sa.Column("ended_at", time, nullable=True),
        sa.Column("versions", sa.Text(), nullable=True),
        sa.Column("rows", sa.Text(), nullable=False),
        comment="Users whose personal data was erased; their ids are known by a salted hash only.",
    )
