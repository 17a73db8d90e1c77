"""Deliveries: whose alarm it was, when it was queued, and what each attempt was answered"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    for name, kind, default in (
        ("alarm_name", sa.Text(), sa.text("''")),
        ("origin", sa.Text(), "file"),
        ("project_id", sa.Text(), sa.text("''")),
        ("receiver", sa.Text(), sa.text("''")),
        ("attempts_before", sa.Integer(), "0"),
    ):
        op.add_column("deliveries", sa.Column(name, kind, nullable=False, server_default=default))
    op.add_column("deliveries", sa.Column("alone", sa.Boolean(), nullable=True))
    op.add_column("deliveries", sa.Column("queued_at", UtcTime(), nullable=True))
    op.execute("UPDATE deliveries SET queued_at = created_at")
    op.execute(
        "UPDATE deliveries SET alarm_name = (SELECT name FROM alarms WHERE alarms.alarm_id = deliveries.alarm_id) "
        "WHERE alarm_id IN (SELECT alarm_id FROM alarms)"
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("digest_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", "attempt"),
    )
    op.create_table(
        "webhook_credentials",
        sa.Column("alarm_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("userinfo", sa.Text(), nullable=False),
        sa.Column("kept_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("alarm_id", "url"),
    )
