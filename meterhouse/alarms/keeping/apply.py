"""Brings the warehouse's alarms of origin `file` in line with the files that declare them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from meterhouse import times
from meterhouse.alarms.definitions import files, units
from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm
from meterhouse.alarms.keeping import checks, cycles
from meterhouse.alarms.keeping.origin import FILE
from meterhouse.alarms.keeping.recording import History, insert_rows
from meterhouse.errors import DefinitionError
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import alarm_files, alarms

LEASE: Final = "alarm_evaluations"
"""The lease of everything that writes definitions, states, history or notifications of alarms."""

WAIT_SECONDS = 30.0
"""How long to wait for another process that holds the lease: the schedule and a roll-up may evaluate together."""


@dataclass
class Applied:
    """What was, or would be, created, changed and deleted.

    Attributes:
        created: how many alarms.
        changed: how many alarms.
        deleted: how many alarms.
        faults: what is wrong with each alarm that was left as it is.
        warnings: what will not work as one might think, one text each.
        drift: (what: created, changed or deleted; name; the fields that differ) of each.
    """

    created: int = 0
    changed: int = 0
    deleted: int = 0
    faults: list[DefinitionError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    drift: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class _Plan:
    """What differs between files and warehouse.

    Attributes:
        known: the warehouse's alarms of files by id.
        changed: the alarms to create or to change, by id.
        gone: the rows to delete.
        done: the counts.
        declared: all alarms that the files declare, by id, each with its file and line.
        entry: the number of the newest entry of the history when it was made.
    """

    known: dict[str, Any]
    changed: dict[str, Alarm]
    gone: list[Any]
    done: Applied
    declared: Mapping[str, tuple[Alarm, str]]
    entry: int


def apply(site: Site, *, dry_run: bool = False) -> Applied:
    """Bring the warehouse's alarms in line with the files, if they have changed or had faults when they were applied.

    An alarm keeps its state. If it was changed, the next evaluation may change the state. An alarm that cannot work is
    left as the warehouse has it, and affects no other one. Alarms from outside are left alone.

    Args:
        site: the site.
        dry_run: change nothing, and say only what differs.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms after WAIT_SECONDS.
    """
    if dry_run:
        return _counted(_plan(site))
    with site.warehouse.lease(LEASE, wait_seconds=WAIT_SECONDS) as lease:
        same = _as_applied(site)
        return _apply(site, lease) if same is None or same.faults else same


def apply_under(site: Site, lease: Lease) -> Applied:
    """As `apply`, if the files have changed since they were last applied; the caller holds the lease."""
    same = _as_applied(site)
    return _apply(site, lease) if same is None else same


def _as_applied(site: Site) -> Applied | None:
    """What was wrong with the files when they were last applied; None if they have changed since."""
    with site.warehouse.read() as connection:
        last = connection.execute(select(alarm_files)).first()
    if last is None or last.digest != files.digest(site.settings.config_dir):
        return None
    faults = [DefinitionError(what, where=where, hint=hint) for what, where, hint in json.loads(last.faults)]
    return Applied(faults=faults)


def _apply(site: Site, lease: Lease) -> Applied:
    digest = files.digest(site.settings.config_dir)
    plan = _plan(site)
    with lease.begin() as connection:
        if connection.execute(cycles.defined_since(plan.entry)).first() is not None:
            _refuse_combinations(connection, plan)  # alarms from outside may combine others now
        faults = json.dumps([[each.what, each.where, each.hint] for each in plan.done.faults])
        _write(connection, plan)
        connection.execute(delete(alarm_files))
        connection.execute(insert(alarm_files).values(digest=digest, faults=faults))
    return _counted(plan)


def _plan(site: Site) -> _Plan:
    defined = files.read(site.settings.config_dir)
    done = Applied(faults=list(defined.faults))
    changed: dict[str, Alarm] = {}
    with site.warehouse.read() as connection:
        columns = (alarms.c.alarm_id, alarms.c.name, alarms.c.definition, alarms.c.severity)
        rows = connection.execute(select(*columns).where(alarms.c.origin == FILE))
        known = {row.alarm_id: row for row in rows}
        mixed = units.meters_of_several(connection)
        for alarm, where in defined.alarms:
            if not _differs(known.get(alarm.alarm_id), alarm):
                continue
            refusal = units.refusal(connection, alarm) if mixed.intersection(alarm.rule.meters) else None
            if refusal is None:
                changed[alarm.alarm_id] = alarm
            else:
                done.faults.append(DefinitionError(f"alarm '{alarm.name}' {refusal[0]}", where=where, hint=refusal[1]))
        declared = {alarm.alarm_id: (alarm, where) for alarm, where in defined.alarms}
        plan = _Plan(known, changed, [], done, declared, cycles.newest_entry(connection))
        _refuse_combinations(connection, plan)
    done.warnings = checks.warnings(site, list(changed.values()))
    names = {alarm.name for alarm in changed.values()}
    plan.gone += [
        row
        for alarm_id, row in known.items()
        if (defined.names is not None and row.name not in defined.names)
        or (alarm_id not in changed and row.name in names)
    ]
    return plan


def _refuse_combinations(connection: Connection, plan: _Plan) -> None:
    """Take combinations that cannot be evaluated beside the alarms from outside out of a plan."""
    outside = checks.combinations(connection, FILE)
    alarms_ = {alarm_id: alarm for alarm_id, (alarm, _) in plan.declared.items()}
    for alarm_id, what, hint in checks.refused_combinations(alarms_, outside):
        if plan.changed.pop(alarm_id, None) is not None:
            plan.done.faults.append(DefinitionError(what, where=plan.declared[alarm_id][1], hint=hint))


def _differs(row: Any, alarm: Alarm) -> bool:
    return row is None or bool(row.definition != alarm.as_json())


def _counted(plan: _Plan) -> Applied:
    """What is, or would be, done."""
    done = plan.done
    for row in plan.gone:
        done.deleted += 1
        done.drift.append(("deleted", row.name, ""))
    for alarm_id, alarm in plan.changed.items():
        if alarm_id in plan.known:
            done.changed += 1
            fields = ", ".join(json.loads(changes(plan.known[alarm_id].definition, alarm.as_json())))
            done.drift.append(("changed", alarm.name, fields))
        else:
            done.created += 1
            done.drift.append(("created", alarm.name, ""))
    return done


def _write(connection: Connection, plan: _Plan) -> None:
    moment = times.now()
    history = History(connection, moment)
    if plan.gone:
        connection.execute(
            delete(alarms).where(alarms.c.alarm_id == bindparam("gone")), [{"gone": row.alarm_id} for row in plan.gone]
        )
    for row in plan.gone:
        history.add(row.alarm_id, "deletion", row.definition, severity=row.severity)
    new, other = [], []
    for alarm_id, alarm in plan.changed.items():
        values = values_of(alarm, moment)
        before = plan.known.get(alarm_id)
        if before is None:
            new.append({"alarm_id": alarm_id, **FIRST_STATE, "state_timestamp": moment, **_OF_NOBODY, **values})
            history.add(alarm_id, "creation", values["definition"], severity=alarm.severity)
        else:
            other.append({"of_alarm": alarm_id, **{f"new_{name}": value for name, value in values.items()}})
            detail = changes(before.definition, values["definition"])
            history.add(alarm_id, "rule change", detail, severity=alarm.severity)
    insert_rows(connection, alarms, new)
    if other:
        cycles.keep_time(connection, *(row["of_alarm"] for row in other if not row["new_enabled"]))
        set_to: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in other[0] if name != "of_alarm"}
        connection.execute(update(alarms).where(alarms.c.alarm_id == bindparam("of_alarm")).values(**set_to), other)
    history.write()


FIRST_STATE: Final = {"state": UNKNOWN, "state_reason": "Not evaluated yet"}
_OF_NOBODY: Final = {"origin": FILE, "project_id": "", "user_id": ""}


def values_of(alarm: Alarm, moment: datetime) -> dict[str, Any]:
    """The columns of an alarm that its definition decides, changed at a moment."""
    return {
        "name": alarm.name,
        "type": alarm.type,
        "enabled": alarm.enabled,
        "severity": alarm.severity,
        "definition": alarm.as_json(),
        "description": alarm.description or alarm.rule.sentence,
        "repeat_actions": alarm.repeat_actions,
        "timestamp": moment,
    }


def changes(before: str, after: str) -> str:
    """The fields of a stored definition that differ from those before, as JSON."""
    try:
        old = json.loads(before)
    except ValueError:  # damaged: everything is new
        old = {}
    return json.dumps({key: value for key, value in json.loads(after).items() if old.get(key) != value}, sort_keys=True)
