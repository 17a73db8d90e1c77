"""The record of polling: schedules, tasks and members"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "poll_schedules",
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("pollster", sa.Text(), primary_key=True),
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column("namespaces", sa.Text(), nullable=False),
        sa.Column("interval_seconds", sa.Integer(), nullable=False),
        sa.Column("shards", sa.Integer(), nullable=False),
        sa.Column("history_seconds", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("next_slot_at", UtcTime(), nullable=False),
        sa.Column("done_slot_at", UtcTime()),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        comment="Which pollster of which source is polled how often, and up to which slot its tasks are made.",
    )
    op.create_index("poll_schedules_due", "poll_schedules", ["active", "next_slot_at"])
    op.create_table(
        "poll_tasks",
        sa.Column("task_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("pollster", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("slot_at", UtcTime(), nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("part", sa.Text()),
        sa.Column("end_at", UtcTime(), nullable=False),
        sa.Column("until", UtcTime(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", UtcTime(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", UtcTime()),
        sa.Column("generation", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("uncertain", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_result", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("resources", sa.Integer()),
        sa.Column("samples", sa.Integer()),
        sa.Column("seconds", sa.Float(53)),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("ended_at", UtcTime()),
        sa.UniqueConstraint("source", "pollster", "host", "slot_at", "shard", name="poll_tasks_once"),
        comment="What was, is or will be polled: a task is a source, a pollster, a shard of resources, and a slot.",
    )
    for name, columns, state in (
        ("poll_tasks_open", ["late", "due_at"], "open"),
        ("poll_tasks_ending", ["until"], "open"),
        ("poll_tasks_claimed", ["lease_until"], "claimed"),
        ("poll_tasks_missed", ["slot_at"], "missed"),
    ):
        only = sa.text(f"state = '{state}'")
        op.create_index(name, "poll_tasks", columns, postgresql_where=only, sqlite_where=only)
    op.create_index("poll_tasks_by_slot", "poll_tasks", ["slot_at"])
    op.create_table(
        "poll_members",
        sa.Column("member", sa.Text(), primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("namespaces", sa.Text(), nullable=False),
        sa.Column("joined_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("lease_seconds", sa.Float(53), nullable=False),
        sa.Column("left_at", UtcTime()),
        sa.Column("clock_ahead_seconds", sa.Float(53), nullable=False),
        sa.Column("definitions", sa.Text(), nullable=False),
        comment="The processes that poll, and when each was last seen.",
    )
