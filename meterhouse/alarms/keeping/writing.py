"""Writes what somebody does to one alarm, and the entries of its history, in one transaction.

On PostgreSQL it is planned beside what others do, and then written by one statement, which locks the row of the
evaluations' lease for its own time only. If the alarm has changed since it was read, it is planned again. What needs
that nobody defines an alarm meanwhile, and everything on SQLite, is planned and written in one transaction: see
`defining`.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Update,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from meterhouse.alarms.definitions.actions import shown_json
from meterhouse.alarms.keeping import cycles
from meterhouse.alarms.keeping.apply import LEASE
from meterhouse.alarms.keeping.callers import Caller
from meterhouse.alarms.keeping.defining import defining
from meterhouse.alarms.keeping.recording import insert_entries
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_history, alarms

Kind: TypeAlias = Literal["insert", "update", "delete"]


@dataclass(frozen=True)
class Write:
    """What happens to one alarm.

    Attributes:
        kind: of the statement.
        alarm_id: the alarm.
        values: columns of `alarms`: all to insert; those to change; none to delete.
        entries: of the history.
        as_read: columns as they were read, of which none may have changed.
        alone: whether nobody may define an alarm between the plan and the write.
    """

    kind: Kind
    alarm_id: str
    values: Mapping[str, Any]
    entries: Sequence[Mapping[str, Any]]
    as_read: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


Plan: TypeAlias = Callable[[Connection], Write | None]
"""What is to be written, given a connection that reads; None for nothing."""


def entry(row: Mapping[Any, Any], kind: str, detail: str, moment: datetime, caller: Caller) -> dict[str, Any]:
    """An entry of the history: what a caller has done to an alarm.

    Args:
        row: of `alarms`.
        kind: creation, rule change, state transition or deletion.
        detail: JSON; user and password of its actions are left out.
        moment: when, UTC.
        caller: who did it.
    """
    return {
        "event_id": str(uuid.uuid4()),
        "alarm_id": row["alarm_id"],
        "type": kind,
        "detail": shown_json(detail),
        "timestamp": moment,
        "user_id": caller.user_id or None,
        "project_id": caller.project_id or None,
        "on_behalf_of": row["project_id"] or None,
        "severity": row["severity"],
    }


def carry_out(site: Site, plan: Plan) -> Write | None:
    """Write what is planned; return it. The plan may be made several times, and what it raises is raised."""
    while not site.warehouse.is_sqlite:
        with site.warehouse.statements() as connection:
            wanted = plan(connection)
            if wanted is None:
                return None
            if wanted.alone or len(wanted.entries) != 1:
                break
            if _write_at_once(connection, wanted):
                return wanted
    with defining(site) as connection:
        wanted = plan(connection)
        if wanted is not None:
            _write(connection, wanted)
    return wanted


def _write(connection: Connection, wanted: Write) -> None:
    """Write, in a transaction in which nobody else defines alarms."""
    if wanted.kind == "insert":
        connection.execute(insert(alarms), dict(wanted.values))
    elif wanted.values or wanted.kind == "delete":
        connection.execute(_changing(wanted.kind, frozenset(wanted.values), frozenset()), _bound(wanted))
    insert_entries(connection, wanted.entries)


def _write_at_once(connection: Connection, wanted: Write) -> bool:
    """Write by one statement; return whether the alarm was as it was read."""
    statement = _whole(wanted.kind, frozenset(wanted.values), frozenset(wanted.as_read))
    (row,) = wanted.entries
    entry = {f"entry_{name}": value for name, value in row.items()}
    return connection.execute(statement, {**_bound(wanted), **entry}).first() is not None


def _bound(wanted: Write) -> dict[str, Any]:
    """The parameters of a statement; one that had the name of a column would be set by each part of it."""
    return {
        "of_alarm": wanted.alarm_id,
        **{f"new_{name}": value for name, value in wanted.values.items()},
        **{f"was_{name}": value for name, value in wanted.as_read.items()},
    }


@cache
def _whole(kind: Kind, values: frozenset[str], as_read: frozenset[str]) -> Insert:
    """A statement that numbers, changes an alarm, and notes it; it returns the id of the entry if it did."""
    # The function locks the row of the lease first, and sees what was committed until then.
    number = select(func.next_alarm_entry(literal(LEASE)).label("sequence")).cte("number")
    changed = _changing(kind, values, as_read, number).returning(alarms.c.alarm_id).cte("changed")
    entry = select(number.c.sequence, *(_typed(f"entry_{name}", alarm_history.c[name]) for name in _ENTRY))
    return (
        insert(alarm_history)
        .from_select(["sequence", *_ENTRY], entry.select_from(number.join(changed, true())))
        .returning(alarm_history.c.event_id)
    )


_ENTRY: Final = tuple(column.name for column in alarm_history.columns if column.name != "sequence")


@cache
def _changing(
    kind: Kind, values: frozenset[str], as_read: frozenset[str], number: CTE | None = None
) -> Insert | Update | Delete:
    """The statement on `alarms`; with the number of the entry, it begins when that is known."""
    new = {name: _typed(f"new_{name}", alarms.c[name]) for name in sorted(values)}
    is_numbered = [] if number is None else [select(number.c.sequence).scalar_subquery().is_not(None)]
    if kind == "insert":
        return insert(alarms).from_select(list(new), select(*new.values()).where(*is_numbered))
    where: list[ColumnElement[bool]] = [
        alarms.c.alarm_id == bindparam("of_alarm"),
        *(alarms.c[name] == _typed(f"was_{name}", alarms.c[name]) for name in sorted(as_read)),
        *is_numbered,
    ]
    if kind == "delete":
        return delete(alarms).where(*where)
    changes: dict[str, Any] = dict(new)
    if "definition" in new:  # it may be disabled next
        changes["evaluate_timestamp"] = cycles.evaluate_timestamp()
    return update(alarms).where(*where).values(changes)


def _typed(name: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    return bindparam(name, type_=column.type)
