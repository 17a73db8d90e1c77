"""Indexes for pages of resources, of all projects and of one"""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.create_index("resources_by_id", "resources", ["resource_id", "source"])
    op.drop_index("resources_by_project", "resources")
    op.create_index("resources_by_project", "resources", ["project_id", "resource_id", "source"])
