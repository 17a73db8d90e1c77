"""Writes what an evaluation found: states, history and the outbox, in one transaction."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, update

from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm
from meterhouse.alarms.delivery.outbox import Notification, enqueue
from meterhouse.alarms.keeping import sequences
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import alarm_history, alarms


@dataclass(frozen=True)
class Outcome:
    """The result of an alarm's evaluation.

    Attributes:
        state: ok, alarm or insufficient data.
        reason: why, for people; empty if nothing is to be said.
        reason_data: why, for programs.
        notify: whether the actions of the state are due.
        fault: what is wrong with the alarm; empty if it could be evaluated.
    """

    state: str
    reason: str
    reason_data: dict[str, Any]
    notify: bool
    fault: str = ""


@dataclass(frozen=True)
class Watched:
    """An alarm as the warehouse has it.

    Attributes:
        alarm_id: its id.
        name: its name.
        severity: its severity.
        state: its state before the evaluation.
        reason: the reason for that state.
        alarm: its definition; None if that cannot be used.
        fault: why not.
        origin: `file` or `outside`.
        project_id: its project; empty if it has none.
    """

    alarm_id: str
    name: str
    severity: str
    state: str
    reason: str
    alarm: Alarm | None
    fault: str = ""
    origin: str = "file"
    project_id: str = ""


@dataclass
class Saved:
    """What was written. `transitions` are (alarm name, previous, current)."""

    transitions: list[tuple[str, str, str]] = field(default_factory=list)
    notifications: int = 0


def save(lease: Lease, found: list[tuple[Watched, Outcome]], moment: datetime) -> Saved:
    """Write the outcomes in one transaction. An alarm whose state has changed meanwhile is left as it is.

    Args:
        lease: the lease of the evaluations.
        found: each alarm with its outcome.
        moment: when they were evaluated.

    Raises:
        LeaseLost: another process evaluates the alarms; nothing was written.
    """
    saved = Saved()
    history: list[dict[str, Any]] = []
    outbox: list[Notification] = []
    with lease.begin() as connection:
        of_history = sequences.following(connection, alarm_history)
        for watched, outcome in found:
            if not outcome.notify:
                continue
            values: dict[str, Any] = {"evaluate_timestamp": moment}
            if outcome.state != watched.state:
                values |= {"state": outcome.state, "state_reason": outcome.reason, "state_timestamp": moment}
            same = (alarms.c.alarm_id == watched.alarm_id, alarms.c.state == watched.state)
            if connection.execute(update(alarms).where(*same).values(**values)).rowcount != 1:
                continue
            event_id = str(uuid.uuid4())
            if outcome.state != watched.state:
                detail = {"state": outcome.state, "transition_reason": outcome.reason}
                history.append(
                    {
                        "event_id": event_id,
                        "sequence": next(of_history),
                        "alarm_id": watched.alarm_id,
                        "type": "state transition",
                        "detail": json.dumps(detail),
                        "timestamp": moment,
                    }
                )
                saved.transitions.append((watched.name, watched.state, outcome.state))
            if watched.alarm is not None:
                outbox.append(_notification(watched, outcome, event_id, watched.alarm.actions(outcome.state)))
        if history:
            connection.execute(insert(alarm_history), history)
        saved.notifications = enqueue(connection, outbox, moment)
        reasons = [
            {"of_alarm": watched.alarm_id, "new_reason": outcome.reason}
            for watched, outcome in found
            if watched.state == outcome.state == UNKNOWN and outcome.reason != watched.reason
        ]
        if reasons:
            same = (alarms.c.alarm_id == bindparam("of_alarm"), alarms.c.state == UNKNOWN)
            connection.execute(update(alarms).where(*same).values(state_reason=bindparam("new_reason")), reasons)
        connection.execute(update(alarms).where(alarms.c.enabled).values(evaluate_timestamp=moment))
    return saved


def _notification(watched: Watched, outcome: Outcome, event_id: str, urls: tuple[str, ...]) -> Notification:
    return Notification(
        event_id=event_id,
        alarm_id=watched.alarm_id,
        alarm_name=watched.name,
        severity=watched.severity,
        origin=watched.origin,
        previous=watched.state,
        current=outcome.state,
        reason=outcome.reason,
        reason_data=outcome.reason_data,
        urls=urls,
        project_id=watched.project_id,
    )
