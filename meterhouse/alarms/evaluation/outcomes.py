"""Writes what an evaluation found: states, history and the outbox, in one transaction, by few statements."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
from sqlalchemy import Connection, Row, bindparam, text, update

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.delivery.outbox import Notification, enqueue
from meterhouse.alarms.keeping import cycles, sequences, silences
from meterhouse.alarms.keeping.cycles import Cycle
from meterhouse.alarms.keeping.recording import History
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import UtcTime, alarm_history, alarms


@dataclass(frozen=True)
class Outcome:
    """The result of an alarm's evaluation.

    Attributes:
        state: ok, alarm or insufficient data.
        reason: why, for people; empty if nothing is to be said.
        reason_data: why, for programs.
        notify: whether the actions of the state are due.
        fault: what is wrong with the alarm; empty if it could be evaluated.
        evidence: what of the window goes into the history.
    """

    state: str
    reason: str
    reason_data: dict[str, Any]
    notify: bool
    fault: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """An alarm, as the warehouse has it, and the outcome of its evaluation.

    Attributes:
        alarm_id: its id.
        name: its name.
        severity: its severity.
        state: its state before the evaluation.
        outcome: the outcome.
        event_id: the UUID of what happens, if it must be the same whenever it is found; else one is made. It is then
            in the history even if the state stays, as Aodh records each event of an alarm that repeats its actions.
        project_id: whose it is; empty for the operators'.
    """

    alarm_id: str
    name: str
    severity: str
    state: str
    outcome: Outcome
    event_id: str = ""
    project_id: str = ""


@dataclass
class Saved:
    """What was written. `transitions` are (alarm name, previous, current); `cycle` is of `save` only."""

    transitions: list[tuple[str, str, str]] = field(default_factory=list)
    notifications: int = 0
    cycle: Cycle | None = None


@dataclass(frozen=True)
class Holds:
    """Alarms whose states are kept because intake is behind.

    Attributes:
        begun: those that were not held before; their outcomes say why.
        ended: the ids of those that are held no longer.
    """

    begun: Sequence[Change] = ()
    ended: Sequence[str] = ()


NO_HOLDS = Holds()


class _Actions(msgspec.Struct, gc=False):
    alarm_actions: list[str] = []
    ok_actions: list[str] = []
    insufficient_data_actions: list[str] = []

    def of(self, state: str) -> list[str]:
        return {"ok": self.ok_actions, "alarm": self.alarm_actions}.get(state, self.insufficient_data_actions)


_ACTIONS = msgspec.json.Decoder(_Actions)


def save(lease: Lease, changes: list[Change], cycle: Cycle, new: bool, holds: Holds = NO_HOLDS) -> Saved:
    """Write the outcomes in one transaction.

    An alarm whose definition or state has changed since it was read is left as it is.

    Args:
        lease: the lease of the evaluations.
        changes: alarms whose state changes, whose actions are due, or whose reason changes; in order.
        cycle: the cycle in which they were evaluated; its `history` is the newest entry when they were read.
        new: whether there are alarms that were never evaluated.
        holds: alarms that begin or cease to be held.

    Raises:
        LeaseLost: another process evaluates the alarms; nothing was written.
    """
    moment = cycle.evaluated_at
    with lease.begin() as connection:
        since = cycles.defined_since(cycle.history)
        other = set(connection.execute(since).scalars())
        saved = write(connection, [each for each in changes if each.alarm_id not in other], moment)
        _hold(connection, [each for each in holds.begun if each.alarm_id not in other], moment)
        _release(connection, holds.ended)
        if new:
            first = alarms.c.evaluate_timestamp.is_(None) & alarms.c.alarm_id.not_in(since)
            connection.execute(update(alarms).where(alarms.c.enabled, first).values(evaluate_timestamp=moment))
        # What was defined meanwhile was not evaluated: the next cycle must not take this one for the newest.
        saved.cycle = cycle if other else replace(cycle, history=cycles.newest_entry(connection))
        cycles.record(connection, saved.cycle)
    return saved


def write(connection: Connection, changes: list[Change], moment: datetime) -> Saved:
    """Write states, history and the outbox. An alarm whose state has changed meanwhile is left as it is.

    Args:
        connection: a writing transaction that has checked the lease of the evaluations.
        changes: as those of `save`. Of one alarm there may be several, of which only the first changes the state.
        moment: when they were evaluated, UTC.
    """
    saved = Saved()
    moved = [each for each in changes if each.outcome.state != each.state]
    same = [each for each in changes if each.outcome.state == each.state]
    written = _update(connection, moved, moment)
    written |= _unchanged(connection, list({each.alarm_id: each for each in same if each.outcome.notify}.values()))
    happened = [each for each in changes if each.outcome.notify and each.alarm_id in written]
    events = [each.event_id or str(uuid.uuid4()) for each in happened]
    silence_of = silences.silencing(connection, moment)
    silenced = {
        each.alarm_id: silence_of(each.name, written[each.alarm_id].project_id, each.severity) for each in happened
    }
    _add_history(connection, happened, events, moment, written, silenced)
    saved.transitions = [
        (each.name, each.state, each.outcome.state) for each in happened if each.outcome.state != each.state
    ]
    told = [
        _notification(each, event, written[each.alarm_id])
        for each, event in zip(happened, events, strict=True)
        if silenced[each.alarm_id] is None
    ]
    saved.notifications = enqueue(connection, told, moment)
    _update_reasons(connection, [each for each in same if each.state == UNKNOWN])
    _update_reasons(connection, list({each.alarm_id: each for each in same if each.event_id}.values()))
    return saved


_STAGE = "stage_alarms"


def _stage(connection: Connection, changes: Sequence[Change]) -> None:
    """Create the temporary table of some alarms: alarm_id, previous (state), state and reason."""
    connection.execute(text(f"DROP TABLE IF EXISTS {_STAGE}"))
    columns = "alarm_id, state AS previous, state, state_reason"
    connection.execute(text(f"CREATE TEMP TABLE {_STAGE} AS SELECT {columns} FROM alarms WHERE 1 = 0"))
    rows = {
        "alarm_id": [each.alarm_id for each in changes],
        "previous": [each.state for each in changes],
        "state": [each.outcome.state for each in changes],
        "state_reason": [each.outcome.reason for each in changes],
    }
    bulk_insert(connection, _STAGE, pa.table({name: pa.array(values, pa.string()) for name, values in rows.items()}))


def _update(connection: Connection, changes: list[Change], moment: datetime) -> dict[str, Row[Any]]:
    """Write the new states; return definition, origin and project of the alarms that had the one before, by id."""
    if not changes:
        return {}
    _stage(connection, changes)
    statement = text(
        "UPDATE alarms SET state = s.state, state_reason = s.state_reason, state_timestamp = :moment "
        f"FROM {_STAGE} AS s WHERE s.alarm_id = alarms.alarm_id AND s.previous = alarms.state "
        "RETURNING alarms.alarm_id, alarms.definition, alarms.origin, alarms.project_id"
    ).bindparams(bindparam("moment", moment, UtcTime()))
    return {row.alarm_id: row for row in connection.execute(statement)}


def _unchanged(connection: Connection, changes: list[Change]) -> dict[str, Row[Any]]:
    """Definition, origin and project of those of the alarms whose state is still the one before, by id."""
    if not changes:
        return {}
    _stage(connection, changes)
    query = text(
        "SELECT a.alarm_id, a.definition, a.origin, a.project_id FROM alarms AS a "
        f"JOIN {_STAGE} AS s ON s.alarm_id = a.alarm_id AND s.previous = a.state"
    )
    return {row.alarm_id: row for row in connection.execute(query)}


def _update_reasons(connection: Connection, changes: list[Change]) -> None:
    """Write why the state is still what it was."""
    if not changes:
        return
    _stage(connection, changes)
    connection.execute(
        text(
            f"UPDATE alarms SET state_reason = s.state_reason FROM {_STAGE} AS s "
            "WHERE s.alarm_id = alarms.alarm_id AND s.previous = alarms.state"
        )
    )


def _hold(connection: Connection, begun: Sequence[Change], moment: datetime) -> None:
    """Note since when alarms are held, and why: one entry of the history for each."""
    if not begun:
        return
    _stage(connection, begun)
    statement = text(
        f"UPDATE alarms SET held_since = :moment FROM {_STAGE} AS s "
        "WHERE s.alarm_id = alarms.alarm_id AND s.previous = alarms.state RETURNING alarms.alarm_id"
    ).bindparams(bindparam("moment", moment, UtcTime()))
    found = set(connection.execute(statement).scalars())
    history = History(connection, moment)
    for each in begun:
        if each.alarm_id in found:
            detail = {"state": each.outcome.state, "reason": each.outcome.reason, **each.outcome.evidence}
            owner = each.project_id or None
            history.add(each.alarm_id, cycles.HELD, json.dumps(detail), severity=each.severity, on_behalf_of=owner)
    history.write()


def _release(connection: Connection, alarm_ids: Sequence[str]) -> None:
    """Note that alarms are held no longer."""
    if alarm_ids:
        of_alarm = alarms.c.alarm_id == bindparam("of_alarm")
        connection.execute(update(alarms).where(of_alarm).values(held_since=None), [{"of_alarm": e} for e in alarm_ids])


def _add_history(
    connection: Connection,
    happened: list[Change],
    events: list[str],
    moment: datetime,
    rows: Mapping[str, Row[Any]],
    silenced: Mapping[str, str | None],
) -> None:
    changes = [
        (each, event)
        for each, event in zip(happened, events, strict=True)
        if each.outcome.state != each.state or each.event_id
    ]
    if not changes:
        return
    numbers = sequences.following(connection, alarm_history)
    details = [
        json.dumps(
            {
                "state": each.outcome.state,
                "transition_reason": each.outcome.reason,
                **({"silenced_by": silenced[each.alarm_id]} if silenced[each.alarm_id] else {}),
                **each.outcome.evidence,
            }
        )
        for each, _ in changes
    ]
    count = len(changes)
    bulk_insert(
        connection,
        "alarm_history",
        pa.table(
            {
                "event_id": [event for _, event in changes],
                "sequence": pa.array([next(numbers) for _ in changes], pa.int64()),
                "alarm_id": [each.alarm_id for each, _ in changes],
                "type": [cycles.TRANSITION] * count,
                "detail": details,
                "timestamp": pa.array([moment] * count, TIME),
                "on_behalf_of": pa.array([rows[each.alarm_id].project_id or None for each, _ in changes], pa.string()),
                "severity": [each.severity for each, _ in changes],
            }
        ),
    )


def _urls(definition: str, state: str) -> list[str]:
    try:
        return list(dict.fromkeys(_ACTIONS.decode(definition).of(state)))
    except (msgspec.MsgspecError, RecursionError, UnicodeError):  # a damaged definition
        return []


def _notification(change: Change, event_id: str, row: Row[Any]) -> Notification:
    return Notification(
        event_id=event_id,
        alarm_id=change.alarm_id,
        alarm_name=change.name,
        severity=change.severity,
        origin=row.origin,
        previous=change.state,
        current=change.outcome.state,
        reason=change.outcome.reason,
        reason_data=change.outcome.reason_data,
        urls=tuple(_urls(row.definition, change.outcome.state)),
        project_id=row.project_id,
    )
