"""What came of tasks: recorded by their owner, if they are still its own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, exists, insert, or_, select, text, update

from meterhouse.polling.polled import Rest
from meterhouse.polling.record import shards
from meterhouse.polling.record.claimed import Claimed, part
from meterhouse.polling.record.members import Member, batched
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_schedules as schedules
from meterhouse.stores.warehouse_tables import poll_tasks as tasks
from meterhouse.stream.envelope import clean

LONGEST_PAUSE: Final = 300.0
"""Seconds before a retry, at most."""

_TEXT: Final = 1_000


@dataclass(frozen=True)
class Finished:
    """A task whose samples have been landed, by this member now or by a member before it.

    Attributes:
        claim: the task.
        samples, resources: their numbers.
        seconds: how long it took to poll.
        rests: what is left to do: it becomes tasks of the same slot.
        polled_by: the member that polled it, if it was another.
        warning: what is wrong with entries that were polled.
    """

    claim: Claimed
    samples: int
    resources: int
    seconds: float
    rests: Sequence[Rest] = ()
    polled_by: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Failed:
    """A task of which nothing was polled, and nothing will be landed by this member.

    Attributes:
        claim: the task.
        error: why, without secrets.
        permanent: whether a retry in this slot is of no use.
        seconds: how long it took.
    """

    claim: Claimed
    error: str
    permanent: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Missed:
    """A task of `overdue` with whose message_id an empty batch was landed, so that no samples of it ever will be.

    Attributes:
        claim: the task.
        error: why nothing was polled.
    """

    claim: Claimed
    error: str


Outcome = Finished | Failed | Missed


def settle(warehouse: Warehouse, member: Member, outcomes: Sequence[Outcome]) -> set[int]:
    """Record what came of tasks, in one transaction. It may be repeated after an outage.

    - `Finished`: the task is done. Its rests are tasks of the slot: further pages are due at once; what failed is due
      after a pause, or recorded as missed if the slot is over by then. If all tasks of the slot are done, so is the
      slot (`poll_schedules.done_slot_at`).
    - `Failed`: the task is due again after a pause (1 s, 2 s, 4 s … at most half an interval and 5 minutes). If it is
      `permanent`, or if it is too late by then, it is recorded as missed; an uncertain one is left to `overdue`.
    - `Missed`: the task is recorded as missed.

    Returns:
        The ids of the tasks that are not this member's any more. Nothing of them was written.

    Raises:
        Unavailable: the warehouse does not answer. Nothing was written, or all.
    """
    by_task = {outcome.claim.task_id: outcome for outcome in outcomes}
    if not by_task:
        return set()
    with begin(warehouse) as (connection, present):
        _lock_schedules(connection, [outcome.claim for outcome in by_task.values()])
        rows = _still_ours(connection, member, by_task)
        changes: list[dict[str, Any]] = []
        made: list[dict[str, Any]] = []
        for task_id, row in rows.items():
            outcome = by_task[task_id]
            if isinstance(outcome, Finished):
                changes.append(_finished(row, outcome, present, member))
                made += [_rest(row, number, rest, present) for number, rest in enumerate(outcome.rests)]
            elif isinstance(outcome, Failed):
                changes.append(_failed(row, outcome, present))
            else:
                changes.append(_ended(row, present, "missed", outcome.error))
        if changes:
            _write(connection, changes)
        if made:
            connection.execute(insert(tasks), made)
        slots = {
            (row.source, row.pollster, row.host, row.slot_at)
            for task_id, row in rows.items()
            if isinstance(by_task[task_id], Finished)
        }
        _mark_done(connection, slots)
    return by_task.keys() - rows.keys()


_CHANGED = {
    name: tasks.c[name]
    for name in (
        *("state", "due_at", "until", "late", "owner", "lease_until", "generation", "last_result", "error"),
        *("resources", "samples", "seconds", "ended_at"),
    )
}


def _write(connection: Connection, changes: list[dict[str, Any]]) -> None:
    """Update rows, each with values of its own. PostgreSQL takes all in one statement, as JSON."""
    if connection.dialect.name == "sqlite":
        columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _CHANGED}
        connection.execute(update(tasks).where(tasks.c.task_id == bindparam("of_task")).values(columns), changes)
        return
    types = ", ".join(f"new_{name} {column.type.compile(connection.dialect)}" for name, column in _CHANGED.items())
    values = ", ".join(f"{name} = new_{name}" for name in _CHANGED)
    connection.execute(
        text(
            f"UPDATE poll_tasks SET {values} FROM json_to_recordset(CAST(:changes AS json)) "
            f"AS changes (of_task bigint, {types}) WHERE task_id = of_task"
        ),
        {"changes": json.dumps(changes, default=datetime.isoformat)},
    )


def pause_seconds(attempts: int, interval_seconds: float) -> float:
    """How long a task waits after this many attempts have failed."""
    return min(2.0 ** min(attempts - 1, 20), max(interval_seconds / 2, 0.5), LONGEST_PAUSE)


def _lock_schedules(connection: Connection, claims: Sequence[Claimed]) -> None:
    """Let nobody else finish tasks of the same slots meanwhile: who finishes the last one has to see it."""
    if connection.dialect.name == "sqlite":  # its writing transactions are one at a time
        return
    keys = sorted({(claim.slot.source, claim.slot.pollster, claim.slot.host) for claim in claims})
    connection.execute(
        text(
            "SELECT 1 FROM poll_schedules "
            "JOIN unnest(CAST(:sources AS text[]), CAST(:pollsters AS text[]), CAST(:hosts AS text[])) "
            "AS keys (source, pollster, host) USING (source, pollster, host) "
            "ORDER BY poll_schedules.source, poll_schedules.pollster, poll_schedules.host FOR UPDATE OF poll_schedules"
        ),
        dict(zip(("sources", "pollsters", "hosts"), map(list, zip(*keys, strict=True)), strict=True)),
    )


def _still_ours(connection: Connection, member: Member, by_task: dict[int, Outcome]) -> dict[int, Row[Any]]:
    found: dict[int, Row[Any]] = {}
    for ids in batched(sorted(by_task)):
        mine = select(tasks).where(
            tasks.c.task_id.in_(ids), tasks.c.owner == member.name, tasks.c.state.in_(("claimed", "open"))
        )
        for row in connection.execute(mine.order_by(tasks.c.task_id).with_for_update()):
            if row.generation == by_task[row.task_id].claim.generation:
                found[row.task_id] = row
    return found


def _text(error: str | None) -> str | None:
    """A reason as every database can hold it."""
    return error and clean(error[:_TEXT])


def _unchanged(row: Row[Any]) -> dict[str, Any]:
    values = {f"new_{name}": getattr(row, name) for name in _CHANGED}
    return values | {"of_task": row.task_id, "new_lease_until": None}


def _ended(row: Row[Any], present: datetime, state: str, error: str | None) -> dict[str, Any]:
    ended = {"new_state": state, "new_ended_at": present, "new_error": _text(error)}
    return _unchanged(row) | ended


def _finished(row: Row[Any], outcome: Finished, present: datetime, member: Member) -> dict[str, Any]:
    return _ended(row, present, "done", outcome.warning) | {
        "new_owner": outcome.polled_by or member.name,
        "new_last_result": "polled",
        "new_resources": outcome.resources,
        "new_samples": outcome.samples,
        "new_seconds": outcome.seconds,
    }


def _failed(row: Row[Any], outcome: Failed, present: datetime) -> dict[str, Any]:
    due_at = max(present + _pause(row, row.attempts), row.slot_at)
    changed = {"new_last_result": "failed", "new_seconds": outcome.seconds, "new_generation": row.generation + 1}
    if not outcome.permanent and due_at < row.until:
        again = {"new_state": "open", "new_due_at": due_at, "new_late": row.end_at <= due_at}
        return _unchanged(row) | changed | again | {"new_error": _text(outcome.error)}
    if row.uncertain:
        closing = {"new_state": "open", "new_until": min(row.until, present), "new_error": _text(outcome.error)}
        return _unchanged(row) | changed | closing
    return _ended(row, present, "missed", outcome.error) | changed


def _pause(row: Row[Any], attempts: int) -> timedelta:
    return timedelta(seconds=pause_seconds(attempts, (row.end_at - row.slot_at).total_seconds()))


def _rest(row: Row[Any], number: int, rest: Rest, present: datetime) -> dict[str, Any]:
    shard = shards.rest(row.shard, number)
    due_at = max(present if rest.error is None else present + _pause(row, row.attempts), row.slot_at)
    missed = due_at >= row.until and rest.error is not None
    return {
        "source": row.source,
        "pollster": row.pollster,
        "host": row.host,
        "slot_at": row.slot_at,
        "end_at": row.end_at,
        "until": row.until,
        "shard": shard,
        "part": part(rest.piece),
        "state": "missed" if missed else "open",
        "due_at": due_at,
        "late": row.end_at <= due_at,
        "attempts": 0 if rest.error is None else row.attempts,
        "last_result": None if rest.error is None else "failed",
        "error": _text(rest.error),
        "ended_at": present if missed else None,
        "message_id": shards.task_message_id(row.source, row.pollster, row.host, row.slot_at, shard),
    }


def _mark_done(connection: Connection, slots: set[tuple[str, str, str, datetime]]) -> None:
    """Mark slots of which all tasks are done."""
    schedule = (
        schedules.c.source == bindparam("of_source"),
        schedules.c.pollster == bindparam("of_pollster"),
        schedules.c.host == bindparam("of_host"),
        or_(schedules.c.done_slot_at.is_(None), schedules.c.done_slot_at < bindparam("slot")),
    )
    undone = exists().where(
        tasks.c.source == bindparam("of_source"),
        tasks.c.pollster == bindparam("of_pollster"),
        tasks.c.host == bindparam("of_host"),
        tasks.c.slot_at == bindparam("slot"),
        tasks.c.state != "done",
    )
    if slots:
        names = ("of_source", "of_pollster", "of_host", "slot")
        connection.execute(
            update(schedules).where(*schedule, ~undone).values(done_slot_at=bindparam("slot")),
            [dict(zip(names, slot, strict=True)) for slot in sorted(slots)],
        )
