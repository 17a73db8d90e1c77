"""What alarms are listed by: description, repeated actions, and indexes for pages of alarms and of their history"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_AT_ONCE = 10_000

# Whoever calls it has the row of the lease, so that nobody else numbers entries until the statement is committed. Each
# of its statements sees what was committed before it.
_NEXT_ENTRY = """
CREATE OR REPLACE FUNCTION next_alarm_entry(lease text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM 1 FROM leases WHERE name = lease FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO leases (name, holder, expires_at, generation, seconds) VALUES (lease, '', now(), 0, 0)
            ON CONFLICT DO NOTHING;
        PERFORM 1 FROM leases WHERE name = lease FOR UPDATE;
    END IF;
    RETURN (SELECT coalesce(max(sequence), 0) + 1 FROM alarm_history);
END $$
"""


def upgrade() -> None:
    op.add_column("alarms", sa.Column("description", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("alarms", sa.Column("repeat_actions", sa.Boolean(), nullable=False, server_default=sa.false()))
    connection = op.get_bind()
    table = sa.table("alarms", *map(sa.column, ("alarm_id", "definition", "description", "repeat_actions")))
    new = {"description": sa.bindparam("text"), "repeat_actions": sa.bindparam("repeat", type_=sa.Boolean)}
    change = sa.update(table).where(table.c.alarm_id == sa.bindparam("of_alarm")).values(new)
    rows = connection.execute(sa.select(table.c.alarm_id, table.c.definition)).all()
    found = list(_described(rows))
    for start in range(0, len(found), _AT_ONCE):
        connection.execute(change, found[start : start + _AT_ONCE])
    op.create_index("alarms_in_time", "alarms", ["timestamp", "alarm_id"])
    op.create_index("alarms_in_time_by_project", "alarms", ["project_id", "timestamp", "alarm_id"])
    op.create_index("alarms_by_user", "alarms", ["user_id"])
    op.create_index("alarms_named", "alarms", ["name", "alarm_id"])
    op.create_index("alarms_named_by_project", "alarms", ["project_id", "name", "alarm_id"])
    op.create_index("alarm_history_by_project", "alarm_history", ["on_behalf_of", "sequence"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_NEXT_ENTRY)
        # Room on each page for another version of its rows: a change of state then changes no index.
        op.execute("ALTER TABLE alarms SET (fillfactor = 50)")
    op.drop_index("series_by_meter", "series")
    op.create_index("series_by_meter", "series", ["meter", "unit"])


def _described(rows: Any) -> Iterator[dict[str, Any]]:
    """The alarms that have a description or repeat their actions; a description that is made up comes with a change."""
    for alarm_id, definition in rows:
        try:
            content = json.loads(definition)
        except (ValueError, RecursionError):  # damaged: its evaluation says so
            continue
        if not isinstance(content, dict):
            continue
        description, repeat = content.get("description"), content.get("repeat_actions") is True
        if repeat or (isinstance(description, str) and description):
            text = description if isinstance(description, str) else ""
            yield {"of_alarm": alarm_id, "text": text, "repeat": repeat}
