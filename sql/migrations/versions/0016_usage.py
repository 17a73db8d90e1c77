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
        "rollup_1d_rows_by_counter",
        "rollup_1d_rows",
        ["series_id", "bucket", "increase"],
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


_NAME_HISTORY = """
CREATE VIEW name_history AS
WITH points AS (SELECT DISTINCT kind, id, valid_from FROM resource_names),
known AS (
    SELECT
        p.kind, p.id, p.valid_from, n.name, n.domain_name, n.witness,
        row_number() OVER (
            PARTITION BY p.kind, p.id, p.valid_from
            ORDER BY CASE n.witness WHEN 'file' THEN 0 WHEN 'keystone' THEN 1 ELSE 2 END, n.valid_from DESC
        ) AS place
    FROM points AS p
    JOIN resource_names AS n ON n.kind = p.kind AND n.id = p.id AND n.valid_from <= p.valid_from
),
compared AS (
    SELECT
        kind, id, valid_from, name, domain_name, witness,
        lag(name) OVER by_time AS name_before,
        lag(domain_name) OVER by_time AS domain_before
    FROM known
    WHERE place = 1
    WINDOW by_time AS (PARTITION BY kind, id ORDER BY valid_from)
)
SELECT
    kind, id,
    CASE WHEN row_number() OVER by_time = 1 THEN {epoch} ELSE valid_from END AS valid_from,
    lead(valid_from) OVER by_time AS valid_to,
    name, domain_name, witness
FROM compared
WHERE name_before IS DISTINCT FROM name OR domain_before IS DISTINCT FROM domain_name
WINDOW by_time AS (PARTITION BY kind, id ORDER BY valid_from)
"""

_NAMES_NOW = """
CREATE VIEW names_now AS
SELECT kind, id, name, domain_name, witness FROM name_history
WHERE valid_from <= CURRENT_TIMESTAMP AND (valid_to IS NULL OR valid_to > CURRENT_TIMESTAMP)
"""

# A message says nothing of keys that its kind never has. So a key is gone if a series has had it, and no longer has it.
_METADATA_HISTORY = """
CREATE VIEW resource_metadata_history AS
WITH snapshots AS (
    SELECT DISTINCT source, resource_id, valid_from, metadata_id, metadata_before
    FROM (
        SELECT
            s.source, s.resource_id, c.valid_from, c.metadata_id,
            lag(c.metadata_id) OVER (
                PARTITION BY s.source, s.resource_id, c.series_id ORDER BY c.valid_from
            ) AS metadata_before
        FROM series AS s
        JOIN metadata_changes AS c ON c.series_id = s.series_id
        WHERE s.resource_id IS NOT NULL
    ) AS of_series
    WHERE metadata_before IS DISTINCT FROM metadata_id
),
told AS (
    SELECT
        n.source, n.resource_id, k."key", n.valid_from,
        CASE WHEN k.metadata_id = n.metadata_id THEN k.value END AS value
    FROM snapshots AS n
    CROSS JOIN (SELECT 0 AS earlier UNION ALL SELECT 1) AS of_two
    JOIN resource_metadata_keys AS k
        ON k.metadata_id = CASE of_two.earlier WHEN 0 THEN n.metadata_id ELSE n.metadata_before END
),
said AS (
    SELECT source, resource_id, "key", valid_from, max(value) AS value
    FROM told
    GROUP BY source, resource_id, "key", valid_from
),
compared AS (
    SELECT
        source, resource_id, "key", valid_from, value,
        lag(value) OVER by_time AS value_before,
        row_number() OVER by_time AS number
    FROM said
    WINDOW by_time AS (PARTITION BY source, resource_id, "key" ORDER BY valid_from)
),
changes AS (
    SELECT
        source, resource_id, "key", value, number, valid_from,
        lead(valid_from) OVER (PARTITION BY source, resource_id, "key" ORDER BY valid_from) AS valid_to
    FROM compared
    WHERE number = 1 OR value IS DISTINCT FROM value_before
)
SELECT
    source, resource_id,
    CASE WHEN number = 1 THEN {epoch} ELSE valid_from END AS valid_from,
    valid_to, "key", value
FROM changes
WHERE value IS NOT NULL
"""

_KEYS_IN_SQLITE = """
CREATE VIEW resource_metadata_keys AS
SELECT
    m.metadata_id,
    replace(replace(replace(substr(t.fullkey, 3), '"', ''), '[', '.'), ']', '') AS "key",
    CASE t.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(t.atom AS TEXT) END AS value
FROM resource_metadata AS m, json_tree(m.metadata) AS t
WHERE t.type NOT IN ('object', 'array', 'null') AND t.fullkey <> '$'
"""

_KEYS_IN_POSTGRESQL = """
CREATE VIEW resource_metadata_keys AS
SELECT m.metadata_id, k.key, k.value
FROM resource_metadata AS m
CROSS JOIN LATERAL (
    WITH RECURSIVE tree (key, value) AS (
        SELECT e.key, e.value FROM json_each(
            CASE json_typeof(m.metadata::json) WHEN 'object' THEN m.metadata::json ELSE '{}'::json END
        ) AS e
        UNION ALL
        SELECT tree.key || '.' || e.key, e.value
        FROM tree CROSS JOIN LATERAL (
            SELECT o.key, o.value FROM json_each(
                CASE json_typeof(tree.value) WHEN 'object' THEN tree.value ELSE '{}'::json END
            ) AS o
            UNION ALL
            SELECT (a.place - 1)::text, a.value FROM json_array_elements(
                CASE json_typeof(tree.value) WHEN 'array' THEN tree.value ELSE '[]'::json END
            ) WITH ORDINALITY AS a (value, place)
        ) AS e
    )
    SELECT tree.key, tree.value #>> '{}' AS value FROM tree
    WHERE json_typeof(tree.value) NOT IN ('object', 'array', 'null')
) AS k
"""


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
        sa.Column("digest", sa.BigInteger(), nullable=False, server_default="0"),
        comment="What existed when: one row for each stretch of time in which a resource was the same.",
    )
    op.create_index("resource_periods_by_end", "resource_periods", ["ended_at", "started_at"])
    op.create_index("resource_periods_by_project", "resource_periods", ["project_id", "started_at"])
    op.create_index("resource_periods_by_resource", "resource_periods", ["resource_id", "started_at"])
    op.create_table(
        "period_months",
        sa.Column("month", time, primary_key=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        comment="By which resources.yaml and units.yaml the periods of each month were made: a fingerprint in "
        "`meanings`.",
    )
    op.create_index("period_months_by_fingerprint", "period_months", ["fingerprint"])
    op.create_table(
        "resource_names",
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("valid_from", time, primary_key=True),
        sa.Column("witness", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain_name", sa.Text(), nullable=True),
        sa.Column("seen_until", time, nullable=False),
        comment="What projects, users and flavors were called by time, and by which witness.",
    )
    _add_views()
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


def _add_views() -> None:
    """Add what reads names and metadata by time."""
    postgres = op.get_bind().dialect.name == "postgresql"
    epoch = "TIMESTAMPTZ '1970-01-01 00:00:00+00'" if postgres else "'1970-01-01 00:00:00.000000'"
    op.execute(_NAME_HISTORY.format(epoch=epoch))
    op.execute(_NAMES_NOW)
    op.get_bind().exec_driver_sql(_KEYS_IN_POSTGRESQL if postgres else _KEYS_IN_SQLITE)
    op.execute(_METADATA_HISTORY.format(epoch=epoch))
