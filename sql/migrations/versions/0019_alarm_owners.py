"""Owners and origin of alarms, quotas, silences, and what was last read of the files of alarms"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0019"
down_revision = "0018"

_KEPT = (
    "alarm_id, name, type, enabled, severity, definition, state, state_reason, state_timestamp, timestamp, "
    "evaluate_timestamp"
)


def upgrade() -> None:
    # Made again: the unique constraint on the name, which has to go, has no name in SQLite.
    op.create_table(
        "alarms_again",
        sa.Column("alarm_id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("state_timestamp", UtcTime(), nullable=False),
        sa.Column("timestamp", UtcTime(), nullable=False),
        sa.Column("evaluate_timestamp", UtcTime(), nullable=True),
    )
    op.execute(
        f"INSERT INTO alarms_again ({_KEPT}, origin, project_id, user_id) SELECT {_KEPT}, 'file', '', '' FROM alarms"
    )
    op.drop_table("alarms")
    op.rename_table("alarms_again", "alarms")
    of_files = sa.text("origin = 'file'")
    op.create_index("alarms_by_name", "alarms", ["name"], unique=True, sqlite_where=of_files, postgresql_where=of_files)
    op.create_index("alarms_by_owner", "alarms", ["project_id", "user_id"])
    for name in ("user_id", "project_id", "on_behalf_of", "severity"):
        op.add_column("alarm_history", sa.Column(name, sa.Text(), nullable=True))
    op.create_table(
        "alarm_files",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("faults", sa.Text(), nullable=False),
    )
    op.create_table(
        "alarm_quotas",
        sa.Column("project_id", sa.Text(), primary_key=True),
        sa.Column("maximum", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "alarm_silences",
        sa.Column("silence_id", sa.Text(), primary_key=True),
        sa.Column("name_glob", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("begins_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
    )
