"""Usage and bills: what existed when, what things are called, closed months, and what exports are made of"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_FUNCTIONS = (  # SQLite's are in meterhouse/stores/sqlite_functions.py
    "CREATE OR REPLACE FUNCTION epoch_us(moment timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "AS $$ SELECT (extract(epoch FROM moment) * 1000000)::bigint $$",
    "CREATE OR REPLACE FUNCTION utc_date(microseconds bigint) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "AS $$ SELECT DATE '1970-01-01' + floor(microseconds / 86400000000.0)::integer $$",
)


def _speed_reports_up() -> None:
    op.create_index(
        "rollup_1d_rows_by_increase",
        "rollup_1d_rows",
        ["bucket", "series_id", "increase"],
        postgresql_where=sa.text("increase IS NOT NULL"),
        sqlite_where=sa.text("increase IS NOT NULL"),
    )
    op.create_index(
        "rollup_1d_rows_by_excluded",
        "rollup_1d_rows",
        ["bucket", "series_id", "excluded"],
        postgresql_where=sa.text("excluded > 0"),
        sqlite_where=sa.text("excluded > 0"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for function in _FUNCTIONS:
            op.execute(function)


def upgrade() -> None:
    time = sa.DateTime(timezone=op.get_bind().dialect.name == "postgresql")
    _speed_reports_up()
    op.create_table(
        "resource_periods",
        sa.Column("resource_type", sa.Text(), primary_key=True),
        sa.Column("resource_id", sa.Text(), primary_key=True),
        sa.Column("started_at", time, primary_key=True),
        sa.Column("ended_at", time, nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        *[
            sa.Column(name, sa.Text(), nullable=True)
            for name in ("project_id", "user_id", "name", "flavor", "state", "host", "zone", "image")
        ],
        *[
            sa.Column(name, sa.Float(53), nullable=True)
            for name in ("vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib")
        ],
        sa.Column("measures", sa.Text(), nullable=True),
        sa.Column("start_witness", sa.Text(), nullable=False),
        sa.Column("start_evidence", sa.Text(), nullable=True),
        sa.Column("start_reason", sa.Text(), nullable=True),
        sa.Column("start_earliest", time, nullable=False),
        sa.Column("start_latest", time, nullable=False),
        sa.Column("end_witness", sa.Text(), nullable=True),
        sa.Column("end_evidence", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("end_earliest", time, nullable=True),
        sa.Column("end_latest", time, nullable=True),
        sa.Column("confirmed_until", time, nullable=False),
        sa.Column("confirmed_by", sa.Text(), nullable=False),
        sa.Column("unconfirmed", sa.Boolean(), nullable=False),
        comment="What existed when: one row for each stretch of time in which a resource was the same.",
    )
    op.create_index("resource_periods_by_end", "resource_periods", ["ended_at", "started_at"])
    op.create_index("resource_periods_by_project", "resource_periods", ["project_id", "started_at"])
    op.create_index("resource_periods_by_resource", "resource_periods", ["resource_id", "started_at"])
    op.create_table(
        "resource_names",
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("valid_from", time, primary_key=True),
        sa.Column("witness", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain_name", sa.Text(), nullable=True),
        comment="What projects, users and flavors were called by time, and by which witness.",
    )
    op.create_table(
        "closed_bills",
        sa.Column("month", sa.Text(), primary_key=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("closed_at", time, nullable=False),
        sa.Column("closed_by", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("totals", sa.Text(), nullable=False),
        comment="Closed months: an index of the lake's folder bills/, which has what each bill is made of.",
    )
    op.create_table(
        "report_exports",
        sa.Column("report", sa.Text(), primary_key=True),
        sa.Column("partition", sa.Text(), primary_key=True),
        sa.Column("start_at", time, nullable=False),
        sa.Column("end_at", time, nullable=False),
        sa.Column("made_at", time, nullable=False),
        sa.Column("holds_until", time, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("made_of", sa.Text(), nullable=False),
        sa.Column("stale", sa.Text(), nullable=True),
        comment="Exports of reports, the state of what each was made of, and why it is stale if that was seen.",
    )
    op.create_table(
        "reconciliation",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("resource_type", sa.Text(), primary_key=True),
        sa.Column("resource_id", sa.Text(), primary_key=True),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("hours", sa.Float(53), nullable=False),
        sa.Column("event_hours", sa.BigInteger(), nullable=True),
        sa.Column("audit_hours", sa.BigInteger(), nullable=True),
        sa.Column("poll_hours", sa.BigInteger(), nullable=True),
        sa.Column("compared_hours", sa.BigInteger(), nullable=False),
        sa.Column("agreed_hours", sa.BigInteger(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=False),
        comment="Resources of a day on which events, audits and polls do not agree.",
    )
    op.create_table(
        "reconciliation_daily",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("resource_type", sa.Text(), primary_key=True),
        sa.Column("resources", sa.BigInteger(), nullable=False),
        sa.Column("hours", sa.Float(53), nullable=False),
        sa.Column("compared_hours", sa.BigInteger(), nullable=False),
        sa.Column("agreed_hours", sa.BigInteger(), nullable=False),
        sa.Column("differing_resources", sa.BigInteger(), nullable=False),
        comment="By day and type of resource: in how many hours events, audits and polls agree.",
    )
