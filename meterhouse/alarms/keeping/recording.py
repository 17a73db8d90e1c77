"""Writes the history of alarms, in order."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from meterhouse.alarms.keeping import sequences
from meterhouse.stores.warehouse_tables import alarm_history


class History:
    """Entries to be written together, in a writing transaction that has checked the lease of the evaluations.

    Args:
        connection: the transaction.
        moment: when it happened, UTC.
    """

    def __init__(self, connection: Connection, moment: datetime) -> None:
        self._connection, self._moment = connection, moment
        self._sequence = sequences.following(connection, alarm_history)
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
            detail: JSON.
            severity: of the alarm.
            user_id: who did it.
            project_id: of whoever did it.
            on_behalf_of: the project that the alarm belongs to.
        """
        event_id = str(uuid.uuid4())
        self._rows.append(
            {
                "event_id": event_id,
                "sequence": next(self._sequence),
                "alarm_id": alarm_id,
                "type": kind,
                "detail": detail,
                "timestamp": self._moment,
                "user_id": user_id,
                "project_id": project_id,
                "on_behalf_of": on_behalf_of,
                "severity": severity,
            }
        )
        return event_id

    def write(self) -> None:
        """Write them."""
        if self._rows:
            self._connection.execute(insert(alarm_history), self._rows)
        self._rows = []
