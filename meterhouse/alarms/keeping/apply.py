"""Brings the warehouse's alarms in line with alarms.yaml."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from meterhouse import times
from meterhouse.alarms.definitions import units
from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm, read
from meterhouse.alarms.keeping import sequences
from meterhouse.errors import DefinitionError
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import alarm_history, alarms

LEASE: Final = "alarm_evaluations"
"""The lease of everything that writes definitions, states, history or notifications of alarms."""

WAIT_SECONDS = 30.0
"""How long to wait for another process that holds the lease: the schedule and a roll-up may evaluate together."""


@dataclass
class Applied:
    """How many alarms were created, changed and deleted, and what is wrong with each alarm that was left as it is."""

    created: int = 0
    changed: int = 0
    deleted: int = 0
    faults: list[DefinitionError] = field(default_factory=list)


def apply(site: Site) -> Applied:
    """Bring the warehouse's alarms in line with the file.

    An alarm keeps its state. If it was changed, the next evaluation may change the state. An alarm that cannot work is
    left as the warehouse has it, and affects no other one.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms after WAIT_SECONDS.
        DefinitionError: the file cannot be read; nothing was changed.
    """
    with site.warehouse.lease(LEASE, wait_seconds=WAIT_SECONDS) as lease:
        return apply_under(site, lease)


def apply_under(site: Site, lease: Lease) -> Applied:
    """See `apply`; the caller holds the lease."""
    defined = read(site.settings.config_dir)
    done = Applied(faults=list(defined.faults))
    with site.warehouse.read() as connection:
        known = {row.alarm_id: row for row in connection.execute(select(alarms))}
        changed = {}
        for alarm, where in defined.alarms:
            if not _differs(known.get(alarm.alarm_id), alarm):
                continue
            refusal = units.refusal(connection, alarm)
            if refusal is None:
                changed[alarm.alarm_id] = alarm
            else:
                done.faults.append(DefinitionError(f"alarm '{alarm.name}' {refusal[0]}", where=where, hint=refusal[1]))
    names = {alarm.name for alarm in changed.values()}
    gone = [
        row
        for alarm_id, row in known.items()
        if (defined.names is not None and row.name not in defined.names)
        or (alarm_id not in changed and row.name in names)
    ]
    if changed or gone:
        with lease.begin() as connection:
            _write(connection, changed, known, gone, done)
    return done


def _differs(row: Any, alarm: Alarm) -> bool:
    return row is None or bool(row.definition != alarm.as_json())


def _write(
    connection: Connection, changed: Mapping[str, Alarm], known: Mapping[str, Any], gone: list[Any], done: Applied
) -> None:
    moment = times.now()
    history: list[dict[str, Any]] = []
    sequence = sequences.following(connection, alarm_history)

    def add_history(alarm_id: str, kind: str, detail: str) -> None:
        row = {"event_id": str(uuid.uuid4()), "sequence": next(sequence), "alarm_id": alarm_id, "type": kind}
        history.append({**row, "detail": detail, "timestamp": moment})

    for row in gone:
        connection.execute(delete(alarms).where(alarms.c.alarm_id == row.alarm_id))
        add_history(row.alarm_id, "deletion", row.definition)
        done.deleted += 1
    for alarm_id, alarm in changed.items():
        if alarm_id in known:
            connection.execute(update(alarms).where(alarms.c.alarm_id == alarm_id).values(**_values(alarm, moment)))
            add_history(alarm_id, "rule change", _changes(known[alarm_id].definition, alarm.as_json()))
            done.changed += 1
        else:
            state = {"state": UNKNOWN, "state_reason": "Not evaluated yet", "state_timestamp": moment}
            connection.execute(insert(alarms).values(alarm_id=alarm_id, **state, **_values(alarm, moment)))
            add_history(alarm_id, "creation", alarm.as_json())
            done.created += 1
    connection.execute(insert(alarm_history), history)


def _values(alarm: Alarm, moment: datetime) -> dict[str, Any]:
    return {
        "name": alarm.name,
        "type": alarm.type,
        "enabled": alarm.enabled,
        "severity": alarm.severity,
        "definition": alarm.as_json(),
        "timestamp": moment,
    }


def _changes(before: str, after: str) -> str:
    try:
        old = json.loads(before)
    except ValueError:  # damaged: everything is new
        old = {}
    return json.dumps({key: value for key, value in json.loads(after).items() if old.get(key) != value}, sort_keys=True)
