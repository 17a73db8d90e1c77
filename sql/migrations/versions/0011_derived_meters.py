"""Derived meters, and what resources were by time

Resource history of earlier releases' hours is made when they are rolled up again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_HISTORY = """
CREATE VIEW resource_history AS
WITH changes AS (
    SELECT
        s.source, s.resource_id, c.valid_from, c.metadata_id, s.project_id, s.user_id,
        row_number() OVER (
            PARTITION BY s.source, s.resource_id, c.valid_from ORDER BY s.meter DESC, s.series_id
        ) AS place
    FROM metadata_changes AS c JOIN series AS s ON s.series_id = c.series_id
    WHERE s.resource_id IS NOT NULL
),
compared AS (
    SELECT
        source, resource_id, valid_from, metadata_id, project_id, user_id,
        lag(metadata_id) OVER by_time AS metadata_before,
        lag(project_id) OVER by_time AS project_before,
        lag(user_id) OVER by_time AS user_before
    FROM changes
    WHERE place = 1
    WINDOW by_time AS (PARTITION BY source, resource_id ORDER BY valid_from)
)
SELECT
    source, resource_id, valid_from,
    lead(valid_from) OVER (PARTITION BY source, resource_id ORDER BY valid_from) AS valid_to,
    project_id, user_id, metadata_id
FROM compared
WHERE metadata_before IS DISTINCT FROM metadata_id
    OR project_before IS DISTINCT FROM project_id
    OR user_before IS DISTINCT FROM user_id
"""


def upgrade() -> None:
    time = sa.DateTime(timezone=op.get_bind().dialect.name == "postgresql")
    op.create_table(
        "metadata_changes",
        sa.Column("series_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("valid_from", time, primary_key=True),
        sa.Column("metadata_id", sa.BigInteger(), nullable=False),
        comment="When the resource metadata of a series changed, by its good points; resource_history is made of it.",
    )
    op.create_index("metadata_changes_by_time", "metadata_changes", ["valid_from"])
    op.create_table(
        "derived_meters",
        sa.Column("meter", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("made_of", sa.Text(), nullable=False),
        sa.Column("computed_at", time, nullable=False),
        comment="What each derived meter is made of, by the definition that last computed points of it.",
    )
    op.create_table(
        "received_meters",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("meter", sa.Text(), primary_key=True),
        sa.Column("resource_id", sa.Text(), primary_key=True),
        comment="Days on which samples of a derived meter were received for a resource: nothing is derived there.",
    )
    op.execute(_HISTORY)
