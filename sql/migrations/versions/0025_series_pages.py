"""Indexes for pages of meters and of resources: in order, and by metadata"""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.drop_index("series_by_project", "series")
    op.create_index("series_by_project", "series", ["project_id", "resource_id"])
    op.drop_index("series_by_meter", "series")
    op.create_index("series_by_meter", "series", ["meter", "unit", "type"])
    op.create_index("series_by_meter_and_resource", "series", ["meter", "resource_id"])
    op.create_index("metadata_changes_by_metadata", "metadata_changes", ["metadata_id"])
