"""The last cycle of evaluation: one row keeps when all enabled alarms were evaluated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from meterhouse.stores.warehouse_tables import alarm_cycles, alarm_history, alarms

THE_ROW: Final = 1

TRANSITION: Final = "state transition"
HELD: Final = "state held"
"""The entry of the history that says that an alarm keeps its state because intake is behind."""

OF_EVALUATION: Final = (TRANSITION, HELD)
"""The entries of the history that do not tell of a definition."""


@dataclass(frozen=True)
class Cycle:
    """A cycle.

    Attributes:
        evaluated_at: the end of the windows, UTC.
        alarms: how many enabled alarms there were.
        history: the number of the newest entry of the alarms' history after it: nothing was created, changed, deleted
            or evaluated to another state since, as long as that stays the newest.
        watched: the meters that alarms read, and the longest window of each in seconds; None if points are not all
            that decides.
    """

    evaluated_at: datetime
    alarms: int
    history: int
    watched: Mapping[str, int] | None

    def again(self, moment: datetime) -> "Cycle":
        """The same cycle at another moment: nothing has happened since."""
        return replace(self, evaluated_at=moment)


def last(connection: Connection) -> Cycle | None:
    """The last cycle; None before the first one."""
    row = connection.execute(select(alarm_cycles).where(alarm_cycles.c.cycle_id == THE_ROW)).first()
    return None if row is None else Cycle(row.evaluated_at, row.alarms, row.history, json.loads(row.watched))


def record(connection: Connection, cycle: Cycle) -> None:
    """Write the last cycle.

    Args:
        connection: a writing transaction that has checked the lease of the evaluations.
        cycle: the cycle.
    """
    values: dict[str, Any] = {
        "evaluated_at": cycle.evaluated_at,
        "alarms": cycle.alarms,
        "history": cycle.history,
        "watched": json.dumps(cycle.watched),
    }
    if not connection.execute(update(alarm_cycles).where(alarm_cycles.c.cycle_id == THE_ROW).values(**values)).rowcount:
        connection.execute(insert(alarm_cycles).values(cycle_id=THE_ROW, **values))


def newest_entry(connection: Connection) -> int:
    """The number of the newest entry of the alarms' history; 0 without any."""
    return int(connection.execute(select(func.max(alarm_history.c.sequence))).scalar() or 0)


def defined_since(entry: int) -> Select[str]:
    """The ids of the alarms that were created, changed or deleted after an entry of the history.

    Args:
        entry: its number.
    """
    columns = alarm_history.c
    return select(columns.alarm_id).where(columns.sequence > entry, columns.type.not_in(OF_EVALUATION))


def evaluate_timestamp() -> ColumnElement[datetime | None]:
    """When each row of `alarms` was last evaluated: an enabled one in the last cycle, if it was evaluated at all.

    The column itself has the first time, or the last one before the alarm was disabled.
    """
    of_cycle = select(alarm_cycles.c.evaluated_at).where(alarm_cycles.c.cycle_id == THE_ROW).scalar_subquery()
    own = alarms.c.evaluate_timestamp
    return case((alarms.c.enabled & own.is_not(None), func.coalesce(of_cycle, own)), else_=own)


def keep_time(connection: Connection, *alarm_ids: str) -> None:
    """Write the time of evaluation of alarms to their rows, because they may be disabled next."""
    if alarm_ids:
        connection.execute(
            update(alarms)
            .where(alarms.c.alarm_id == bindparam("of_alarm"))
            .values(evaluate_timestamp=evaluate_timestamp()),
            [{"of_alarm": alarm_id} for alarm_id in alarm_ids],
        )
