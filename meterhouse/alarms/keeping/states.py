"""Alarms as the warehouse has them: definition, state and history."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from meterhouse.alarms.keeping.cycles import evaluate_timestamp
from meterhouse.errors import UnknownName
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_history, alarms

_COLUMNS = [
    evaluate_timestamp().label(each.name) if each.name == "evaluate_timestamp" else each for each in alarms.columns
]

TRANSITIONS = 10
"""How many transitions `alarm` returns at most."""


def alarm_list(site: Site) -> list[dict[str, Any]]:
    """All alarms by name: the columns of `alarms`, with the definition as an object."""
    with site.warehouse.read() as connection:
        return [_alarm(row._mapping) for row in connection.execute(select(*_COLUMNS).order_by(alarms.c.name))]


def alarm(site: Site, name: str) -> dict[str, Any]:
    """An alarm as in `alarm_list`, with `transitions`: timestamp, state and reason of the last ones, newest first.

    Raises:
        UnknownName: there is no such alarm; names near misses.
    """
    with site.warehouse.read() as connection:
        found = _found(connection, name)
        rows = connection.execute(
            select(alarm_history.c.timestamp, alarm_history.c.detail)
            .where(alarm_history.c.alarm_id == found.alarm_id, alarm_history.c.type == "state transition")
            .order_by(alarm_history.c.sequence.desc())
            .limit(TRANSITIONS)
        )
        details = [(row.timestamp, json.loads(row.detail)) for row in rows]
    transitions = [
        {"timestamp": moment, "state": detail["state"], "reason": detail["transition_reason"]}
        for moment, detail in details
    ]
    return {**_alarm(found._mapping), "transitions": transitions}


def history(site: Site, name: str, limit: int) -> list[dict[str, Any]]:
    """What happened to an alarm, newest first: timestamp, type and detail (JSON text).

    Raises:
        UnknownName: there is no such alarm; names near misses.
    """
    with site.warehouse.read() as connection:
        query = (
            select(alarm_history.c.timestamp, alarm_history.c.type, alarm_history.c.detail)
            .where(alarm_history.c.alarm_id == _found(connection, name).alarm_id)
            .order_by(alarm_history.c.sequence.desc())
            .limit(limit)
        )
        return [dict(row._mapping) for row in connection.execute(query)]


def _found(connection: Connection, name: str) -> Row[Any]:
    found = connection.execute(select(*_COLUMNS).where(alarms.c.name == name)).first()
    if found is None:
        raise UnknownName("alarm", name, list(connection.execute(select(alarms.c.name)).scalars()))
    return found


def _alarm(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {**row, "definition": json.loads(row["definition"])}
