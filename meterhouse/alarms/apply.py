"""Brings the warehouse's alarms in line with alarms.yaml."""

import json
import uuid

from sqlalchemy import delete, insert, select, update

from meterhouse import times
from meterhouse.alarms.definitions import UNKNOWN, load
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_history, alarms


def apply(site: Site) -> dict[str, int]:
    """Bring the warehouse's alarms in line with the file; return how many were created, changed and deleted.

    An alarm keeps its state. If it was changed, the next evaluation may change the state.
    """
    wanted = {alarm.alarm_id: alarm for alarm in load(site.settings.config_dir)}
    counts = {"created": 0, "changed": 0, "deleted": 0}
    with site.warehouse.read() as connection:
        known = {row.alarm_id: row.definition for row in connection.execute(select(alarms))}
    if known == {alarm_id: alarm.as_json() for alarm_id, alarm in wanted.items()}:
        return counts
    moment = times.now()
    with site.warehouse.begin() as connection:

        def add_history(alarm_id: str, kind: str, detail: str) -> None:
            connection.execute(
                insert(alarm_history).values(
                    event_id=str(uuid.uuid4()), alarm_id=alarm_id, type=kind, detail=detail, timestamp=moment
                )
            )

        for alarm_id, alarm in wanted.items():
            values = {
                "name": alarm.name,
                "type": alarm.type,
                "enabled": alarm.enabled,
                "severity": alarm.severity,
                "definition": alarm.as_json(),
                "timestamp": moment,
            }
            if alarm_id not in known:
                connection.execute(
                    insert(alarms).values(
                        alarm_id=alarm_id,
                        state=UNKNOWN,
                        state_reason="Not evaluated yet",
                        state_timestamp=moment,
                        **values,
                    )
                )
                add_history(alarm_id, "creation", alarm.as_json())
                counts["created"] += 1
            elif known[alarm_id] != alarm.as_json():
                connection.execute(update(alarms).where(alarms.c.alarm_id == alarm_id).values(**values))
                add_history(alarm_id, "rule change", _changes(known[alarm_id], alarm.as_json()))
                counts["changed"] += 1
        for alarm_id in known.keys() - wanted.keys():
            connection.execute(delete(alarms).where(alarms.c.alarm_id == alarm_id))
            add_history(alarm_id, "deletion", known[alarm_id])
            counts["deleted"] += 1
    return counts


def _changes(before: str, after: str) -> str:
    old, new = json.loads(before), json.loads(after)
    return json.dumps({key: value for key, value in new.items() if old.get(key) != value}, sort_keys=True)
