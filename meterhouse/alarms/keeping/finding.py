"""Finds an alarm by its id or its name."""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, bindparam, or_, select

from meterhouse.alarms.keeping.callers import Caller
from meterhouse.alarms.keeping.cycles import evaluate_timestamp
from meterhouse.errors import UnknownName, UsageError
from meterhouse.stores.warehouse_tables import alarms
from meterhouse.untrusted import is_plain

COLUMNS = tuple(
    evaluate_timestamp().label(column.name) if column is alarms.c.evaluate_timestamp else column
    for column in alarms.columns
)
"""The columns of `alarms`, with the time of the last cycle as that of the evaluation."""


@dataclass(frozen=True)
class AlarmId:
    """An id, for programs: it is not looked for among the names, and nothing near it is proposed."""

    value: str


Wanted: TypeAlias = str | AlarmId
"""What an alarm is asked for by: its id or its name; or its id alone."""


def find(connection: Connection, wanted: Wanted, caller: Caller) -> Row[Any]:
    """The row of an alarm.

    Args:
        connection: the warehouse.
        wanted: the id, or a name that only one alarm has that the caller may see.
        caller: who asks.

    Raises:
        UnknownName: there is none that the caller may see; names near misses.
        UsageError: several alarms have the name.
    """
    if isinstance(wanted, AlarmId):
        return _by_id(connection, wanted.value, caller)
    query = caller.visible(select(*COLUMNS).where(or_(alarms.c.alarm_id == wanted, alarms.c.name == wanted)))
    found = connection.execute(query.order_by(alarms.c.alarm_id)).all()
    exact = [row for row in found if row.alarm_id == wanted] or found
    if len(exact) == 1:
        return exact[0]
    if exact:
        ids = ", ".join(row.alarm_id for row in exact[:5])
        raise UsageError(f"{len(exact)} alarms are named '{wanted}'", hint=f"Name one by its id: {ids}")
    names = connection.execute(caller.visible(select(alarms.c.name).distinct())).scalars()
    raise UnknownName("alarm", wanted, list(names))


_BY_ID: Final = select(*COLUMNS).where(alarms.c.alarm_id == bindparam("wanted"))
"""Made once: the statement is long."""


def _by_id(connection: Connection, alarm_id: str, caller: Caller) -> Row[Any]:
    found = None
    if is_plain(alarm_id):  # no database takes a NUL
        found = connection.execute(_BY_ID, {"wanted": alarm_id}).first()
    if found is None or not caller.may_see(found.project_id):
        raise UnknownName("alarm", alarm_id, [], hint="List the alarms for their ids")
    return found
