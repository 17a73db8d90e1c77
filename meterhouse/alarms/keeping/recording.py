"""Writes the history of alarms, in order."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Connection, Table, insert

from meterhouse.alarms.definitions.actions import shown_json
from meterhouse.alarms.keeping import sequences
from meterhouse.stores.warehouse_tables import UtcTime, alarm_history


class History:
    """Entries to be written together, in a writing transaction that has checked the lease of the evaluations.

    Args:
        connection: the transaction.
        moment: when it happened, UTC.
    """

    def __init__(self, connection: Connection, moment: datetime) -> None:
        self._connection, self._moment = connection, moment
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        alarm_id: str,
        kind: str,
        detail: str,
        *,
        severity: str,
        user_id: str | None = None,
        project_id: str | None = None,
        on_behalf_of: str | None = None,
    ) -> str:
        """Add an entry; return its id.

        Args:
            alarm_id: the alarm.
            kind: creation, rule change, state transition or deletion.
            detail: JSON; user and password of its actions are left out.
            severity: of the alarm.
            user_id: who did it.
            project_id: of whoever did it.
            on_behalf_of: the project that the alarm belongs to.
        """
        entry = {
            "event_id": str(uuid.uuid4()),
            "alarm_id": alarm_id,
            "type": kind,
            "detail": shown_json(detail),
            "timestamp": self._moment,
            "user_id": user_id,
            "project_id": project_id,
            "on_behalf_of": on_behalf_of,
            "severity": severity,
        }
        self._rows.append(entry)
        return str(entry["event_id"])

    def write(self) -> None:
        """Write them."""
        rows, self._rows = self._rows, []
        insert_entries(self._connection, rows)


def insert_entries(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Number entries of the history, and insert them.

    Args:
        connection: a writing transaction that has checked the lease of the evaluations.
        rows: the columns but `sequence`.
    """
    if len(rows) == 1:
        connection.execute(_FOLLOWING, list(rows))
    elif rows:
        numbers = sequences.following(connection, alarm_history)
        numbered = [{**row, "sequence": number} for row, number in zip(rows, numbers, strict=False)]
        insert_rows(connection, alarm_history, numbered)


_FOLLOWING: Final = insert(alarm_history).values(sequence=sequences.next_of(alarm_history))
"""Inserts one entry, numbered by the statement itself."""

MANY: Final = 1_000


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with the same keys into a table of texts, times and whole numbers: many of them by way of Arrow."""
    if len(rows) < MANY:
        if rows:
            connection.execute(insert(table), list(rows))
        return
    import pyarrow as pa

    from meterhouse.stores.bulk import bulk_insert
    from meterhouse.stores.lake_tables import TIME

    kinds = {UtcTime: TIME, BigInteger: pa.int64(), Boolean: pa.bool_()}
    arrays = {
        name: pa.array([row[name] for row in rows], kinds.get(type(table.c[name].type), pa.string()))
        for name in rows[0]
    }
    bulk_insert(connection, table.name, pa.table(arrays))
