"""Series and resources: what good points say, and the times of all points beside it

Excluded points may have spoilt the old values. The daily roll-ups know the good points, so they are read by key: the
first and the last day of each series.
"""

import sqlalchemy as sa
from alembic import op

from meterhouse.stores.warehouse_tables import UtcTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("series") as series:
        series.add_column(sa.Column("first_point_at", UtcTime(), nullable=True))
        series.add_column(sa.Column("last_point_at", UtcTime(), nullable=True))
        series.alter_column("first_seen", existing_type=UtcTime(), nullable=True)
        series.alter_column("last_seen", existing_type=UtcTime(), nullable=True)
    with op.batch_alter_table("resources") as resources:
        resources.alter_column("first_sample_at", existing_type=UtcTime(), nullable=True)
        resources.alter_column("last_sample_at", existing_type=UtcTime(), nullable=True)
    op.execute("UPDATE series SET first_point_at = first_seen, last_point_at = last_seen")
    with op.batch_alter_table("series") as series:
        series.alter_column("first_point_at", existing_type=UtcTime(), nullable=False)
        series.alter_column("last_point_at", existing_type=UtcTime(), nullable=False)
    good = "SELECT {} FROM rollup_1d AS r WHERE r.series_id = series.series_id AND r.count > 0 ORDER BY r.bucket"
    op.execute(
        f"UPDATE series SET first_seen = ({good.format('r.first_at')} LIMIT 1), "
        f"last_seen = ({good.format('r.last_at')} DESC LIMIT 1)"
    )
    of_resource = "FROM series AS s WHERE s.source = resources.source AND s.resource_id = resources.resource_id"
    newest = f"{of_resource} AND s.last_seen IS NOT NULL ORDER BY s.last_seen DESC, s.series_id LIMIT 1"
    spoilt = f"last_sample_at <> (SELECT max(s.last_seen) {of_resource})"
    # Their metadata is read again with the points of these hours.
    hour = (
        "strftime('%Y-%m-%d %H:00:00.000000', {})"
        if op.get_bind().dialect.name == "sqlite"
        else "date_trunc('hour', {}, 'UTC')"
    ).format(f"(SELECT max(s.last_seen) {of_resource})")
    op.execute(
        "UPDATE dirty_hours SET rolled_marks = 0, why = 'it has the newest good point of a resource' "
        f"WHERE hour IN (SELECT {hour} FROM resources WHERE {spoilt})"
    )
    op.execute(
        "UPDATE resources SET metadata_id = NULL, "
        f"(project_id, user_id) = (SELECT s.project_id, s.user_id {newest}) WHERE {spoilt}"
    )
    op.execute(
        f"UPDATE resources SET first_sample_at = (SELECT min(s.first_seen) {of_resource}), "
        f"last_sample_at = (SELECT max(s.last_seen) {of_resource})"
    )
