"""Alarms as the warehouse has them: definition, state and history."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from meterhouse.alarms.definitions.actions import shown_definition, shown_json
from meterhouse.alarms.keeping.callers import Caller
from meterhouse.alarms.keeping.finding import COLUMNS, Wanted, find
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_history, alarms

TRANSITIONS = 10
"""How many transitions `alarm` returns at most."""


def alarm_list(site: Site, caller: Caller) -> list[dict[str, Any]]:
    """The alarms that a caller may see, by name: the columns of `alarms`, with the definition as an object."""
    with site.warehouse.read() as connection:
        query = caller.visible(select(*COLUMNS).order_by(alarms.c.name, alarms.c.alarm_id))
        return [shown(row._mapping) for row in connection.execute(query)]


def one(site: Site, wanted: Wanted, caller: Caller) -> dict[str, Any]:
    """An alarm as in `alarm_list`.

    Raises:
        UnknownName: there is no such alarm; names near misses.
        UsageError: several have the name.
    """
    with site.warehouse.read() as connection:
        return shown(find(connection, wanted, caller)._mapping)


def alarm(site: Site, wanted: Wanted, caller: Caller) -> dict[str, Any]:
    """An alarm as in `alarm_list`, with `transitions`: timestamp, state and reason of the last ones, newest first.

    Args:
        site: the site.
        wanted: its id or its name.
        caller: who asks.

    Raises:
        UnknownName: there is no such alarm; names near misses.
        UsageError: several have the name.
    """
    with site.warehouse.read() as connection:
        found = find(connection, wanted, caller)
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
    return {**shown(found._mapping), "transitions": transitions}


def history(site: Site, wanted: str, limit: int, caller: Caller) -> list[dict[str, Any]]:
    """What happened to an alarm, newest first: the columns of `alarm_history`, `detail` as JSON text.

    The history of an alarm that was deleted stays; it is found by the id.

    Args:
        site: the site.
        wanted: its id or its name.
        limit: the maximum number of entries.
        caller: who asks.

    Raises:
        UnknownName: there is no such alarm; names near misses.
        UsageError: several have the name.
    """
    columns = [column for column in alarm_history.columns if column.name != "sequence"]
    with site.warehouse.read() as connection:
        query = select(*columns).order_by(alarm_history.c.sequence.desc()).limit(limit)
        past = query.where(alarm_history.c.alarm_id == wanted)
        if not caller.admin:
            past = past.where(alarm_history.c.on_behalf_of == caller.project_id)
        rows = connection.execute(past).all()
        if not rows:
            found = find(connection, wanted, caller)
            rows = connection.execute(query.where(alarm_history.c.alarm_id == found.alarm_id)).all()
        # Entries of earlier releases may have users and passwords of actions.
        return [{**row._mapping, "detail": shown_json(row.detail)} for row in rows]


def shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of `alarms` as others may see it: with the definition as an object, without users and passwords."""
    try:
        definition = json.loads(row["definition"])
    except (ValueError, RecursionError):  # damaged: its evaluation says so
        definition = {}
    return {**row, "definition": shown_definition(definition)}
