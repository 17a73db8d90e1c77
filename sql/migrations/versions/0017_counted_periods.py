"""The view of periods by which bills and reports count: until when each one does"""

from alembic import op

revision = "0017"
down_revision = "0016"

_COUNTED_PERIODS = """
CREATE VIEW counted_periods AS
SELECT
    p.resource_type, p.resource_id, p.started_at, p.ended_at,
    CASE
        WHEN p.ended_at IS NOT NULL OR p.confirmed_by <> 'polls' OR EXISTS (
            SELECT 1 FROM resource_periods AS o
            WHERE o.resource_type = p.resource_type AND o.resource_id = p.resource_id AND o.confirmed_by <> 'polls'
        ) THEN p.ended_at
        ELSE {end_of_hour}
    END AS counted_until,
    p.source, p.project_id, p.user_id, p.name, p.flavor, p.state, p.host, p.zone, p.image,
    p.vcpus, p.memory_mib, p.root_gib, p.ephemeral_gib, p.size_gib, p.measures,
    p.start_witness, p.start_evidence, p.start_reason, p.start_earliest, p.start_latest,
    p.end_witness, p.end_evidence, p.end_reason, p.end_earliest, p.end_latest,
    p.confirmed_until, p.confirmed_by, p.unconfirmed
FROM resource_periods AS p
WHERE p.source <> 'meterhouse-verify'
"""

_END_OF_HOUR = {
    "postgresql": "date_trunc('hour', p.confirmed_until, 'UTC') + INTERVAL '1 hour'",
    "sqlite": "strftime('%Y-%m-%d %H:00:00.000000', p.confirmed_until, '+1 hour')",
}


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql(_COUNTED_PERIODS.format(end_of_hour=_END_OF_HOUR[connection.dialect.name]))
