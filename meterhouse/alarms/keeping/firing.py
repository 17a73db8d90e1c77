"""Which alarms fire now, and what changed last: for people who look at the site."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import select

from meterhouse import times
from meterhouse.alarms.definitions.alarm import SEVERITIES
from meterhouse.alarms.keeping.silences import silencing
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_history, alarms

SHOWN: Final = 50
"""How many alarms or transitions are listed at most."""


@dataclass
class Firing:
    """The alarms of a severity that are enabled, not silenced, and in the state alarm.

    Attributes:
        count: how many.
        listed: name, since when, reason and project of those that fire the longest.
        silenced: how many more fire, and are silenced.
    """

    count: int = 0
    listed: list[tuple[str, datetime, str, str]] = field(default_factory=list)
    silenced: int = 0


def firing(site: Site) -> dict[str, Firing]:
    """The alarms that fire, by severity; each severity is there."""
    found = {severity: Firing() for severity in SEVERITIES}
    query = (
        select(alarms.c.name, alarms.c.state_timestamp, alarms.c.state_reason, alarms.c.project_id, alarms.c.severity)
        .where(alarms.c.enabled, alarms.c.state == "alarm")
        .order_by(alarms.c.state_timestamp, alarms.c.name)
    )
    with site.warehouse.read() as connection:
        silence_of = silencing(connection, times.now())
        for row in connection.execute(query):
            of = found[row.severity]
            if silence_of(row.name, row.project_id, row.severity) is not None:
                of.silenced += 1
                continue
            of.count += 1
            if of.count <= SHOWN:
                of.listed.append((row.name, row.state_timestamp, row.state_reason, row.project_id))
    return found


def last_transitions(site: Site, limit: int = SHOWN) -> list[tuple[datetime, str, str, str, str]]:
    """When, alarm, severity, state and reason of the last transitions, newest first. A deleted alarm has its id."""
    query = (
        select(alarm_history.c.timestamp, alarm_history.c.alarm_id, alarm_history.c.detail, alarms.c.name)
        .add_columns(alarms.c.severity)
        .outerjoin(alarms, alarms.c.alarm_id == alarm_history.c.alarm_id)
        .where(alarm_history.c.type == "state transition")
        .order_by(alarm_history.c.sequence.desc())
        .limit(limit)
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(query).all()
    made = []
    for row in rows:
        detail = json.loads(row.detail)
        reason = detail.get("transition_reason", "")
        made.append((row.timestamp, row.name or row.alarm_id, row.severity or "", detail["state"], reason))
    return made
