"""Decides absences: whether an event, or a good point of each series, came in time.

An event counts by when it was generated, but never by a time that had not come yet when it was landed: a clock that is
ahead does not hide an absence for longer than until the end of the arrival hour. An event that comes late, with a time
from before the span, does not end an absence. Points count by their own time.

An alarm that is new waits for `within` seconds before it fires for an event that never came.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import times
from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm
from meterhouse.alarms.definitions.rules.absence import AbsenceRule
from meterhouse.alarms.definitions.rules.event import Trait
from meterhouse.alarms.definitions.wanted import Condition, Wanted
from meterhouse.alarms.evaluation.event_matching import Interest, Matcher, described
from meterhouse.alarms.evaluation.given import Cycle, Given
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.alarms.evaluation.points import judge, read
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.selections import selections
from meterhouse.alarms.evaluation.windows import DIMENSIONS, needed, series_of, windows
from meterhouse.corrections.recorded import recorded
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import alarms

Ints = npt.NDArray[np.int64]

TABLE: Final = "events"
SHOWN: Final = 20
"""How many silent series are named at most."""

COLUMNS: Final = ("arrival_hour", "message_id", "event_type", "generated", "traits")
IDS_AT_ONCE: Final = 500
_HOUR: Final = 3_600_000_000
_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class Seen:
    """The newest event that an alarm waits for.

    Attributes:
        at: when it counts, µs since 1970, UTC.
        event: as it is told.
    """

    at: int
    event: Mapping[str, Any]


def rule_of(alarm: Alarm) -> AbsenceRule:
    """The rule of an absence alarm."""
    assert isinstance(alarm.rule, AbsenceRule)
    return alarm.rule


def interest_of(rule: AbsenceRule, project_id: str | None) -> Interest:
    """The events that an alarm waits for; `project_id` is that of the only project whose events it sees, or None."""
    return Interest(rule.event_type, tuple(each for each in rule.query if isinstance(each, Trait)), project_id)


def came(state: str, seen: Seen) -> Outcome:
    """The outcome for an alarm in a state: the event came in time."""
    event = seen.event
    reason = (
        f"{_happened(state, 'ok')} due to event <id={event['message_id']},event_type={event['event_type']}> "
        f"of {_text(seen.at)}"
    )
    data = {"type": "absence", "last": _text(seen.at), "silent": [], "count": 0}
    return Outcome("ok", reason, data, notify=state != "ok", evidence={"event": event})


def counted_at(events: pa.Table, present: int) -> Ints:
    """When events count: when they were generated, or else when they had come at the latest; µs since 1970, UTC.

    Args:
        events: the columns arrival_hour and generated.
        present: the end of the span, µs since 1970, UTC.
    """
    hours = events["arrival_hour"].combine_chunks().dictionary_encode()
    starts = [times.micros(times.parse(f"{hour}:00")) for hour in hours.dictionary.to_pylist()]
    end = np.array(starts, np.int64)[hours.indices.to_numpy()] + _HOUR
    latest = np.minimum(end, present)
    generated = pc.fill_null(events["generated"].combine_chunks().cast(pa.int64()), np.iinfo(np.int64).max)
    found: Ints = np.minimum(generated.to_numpy(), latest)
    return found


def _of_events(cycle: Cycle, given: Sequence[Given]) -> list[Outcome | None]:
    """The outcomes of alarms that wait for events, in their order; None: nothing happens."""
    present = times.micros(cycle.moment)
    rules = [rule_of(each.alarm) for each in given]
    matcher = Matcher([interest_of(r, each.project_id or None) for r, each in zip(rules, given, strict=True)])
    since = np.array([present - rule.within * _SECOND for rule in rules], np.int64)
    seen = newest(cycle.site, matcher, since, cycle.moment, cycle.known_at)
    lacking = [n for n, each in enumerate(seen) if each is None]
    began = _began(cycle.site, [given[n].alarm_id for n in lacking if given[n].state == UNKNOWN])
    made: list[Outcome | None] = [None] * len(given)
    for number, (each, rule, event) in enumerate(zip(given, rules, seen, strict=True)):
        if event is not None:
            made[number] = came(each.state, event) if each.state != "ok" or each.alarm.repeat_actions else None
        elif each.state == UNKNOWN and (first := began.get(each.alarm_id)) and times.micros(first) >= since[number]:
            made[number] = _waits(rule)
        elif each.state != "alarm" or each.alarm.repeat_actions:
            made[number] = _absent(cycle, each, rule)
    return made


def outcomes(cycle: Cycle, given: Sequence[Given]) -> list[Outcome | None]:
    """The outcomes of absence alarms, in their order; None: nothing happens.

    Raises:
        UsageError: a condition is none.
    """
    of_points = [rule_of(each.alarm).points is not None for each in given]
    waiting = iter(_of_events(cycle, [each for each, points in zip(given, of_points, strict=True) if not points]))
    silent = iter(_of_points(cycle, [each for each, points in zip(given, of_points, strict=True) if points]))
    return [next(silent if points else waiting) for points in of_points]


def _waits(rule: AbsenceRule) -> Outcome:
    reason = f"No {rule.event_type} event came yet; the alarm fires if none comes within {rule.within} seconds"
    data: dict[str, Any] = {"type": "absence", "last": None, "silent": [], "count": 0}
    return Outcome(UNKNOWN, reason, data, notify=False)


def _absent(cycle: Cycle, given: Given, rule: AbsenceRule) -> Outcome:
    """An event did not come in time. The last one is looked for in the `known_for` seconds before."""
    matcher = Matcher([interest_of(rule, given.project_id or None)])
    since = np.array([times.micros(cycle.moment) - (rule.within + rule.known_for) * _SECOND], np.int64)
    (last,) = newest(cycle.site, matcher, since, cycle.moment, cycle.known_at)
    reason = f"{_happened(given.state, 'alarm')} due to no {rule.event_type} event within {rule.within} seconds"
    reason += f", last: {_text(last.at)}" if last is not None else ""
    at = None if last is None else _text(last.at)
    data = {"type": "absence", "last": at, "silent": [rule.event_type], "count": 1}
    return Outcome("alarm", reason, data, notify=True, evidence={} if last is None else {"event": last.event})


# -- points -------------------------------------------------------------------------------------------------


def _of_points(cycle: Cycle, given: Sequence[Given]) -> list[Outcome | None]:
    """The outcomes of alarms that wait for points of series, in their order."""
    if not given:
        return []
    wanted = [_points_of(each.alarm) for each in given]
    found = windows(cycle.site, requests_of(wanted), cycle.moment, cycle.known_at)
    made: list[Outcome | None] = []
    for number, (each, points) in enumerate(zip(given, wanted, strict=True)):
        rule = rule_of(each.alarm)
        seen = found.seen(number)
        last = _last(cycle, points, rule, np.setdiff1d(_known(cycle, points, rule), seen))
        silent = np.array([key for key, at in last.items() if at is not None], np.int64)
        if not len(silent) and not len(seen):
            state, reason = UNKNOWN, f"No series had points of {rule.meter_name} within {rule.known_for} seconds"
        elif len(silent) and (rule.of == "any" or not len(seen)):
            state = "alarm"
            of = f"{len(silent)} of {len(silent) + len(seen)} series"
            reason = f"no points of {of} of {rule.meter_name} within {rule.within} seconds"
        else:
            state, silent = "ok", silent[:0]
            reason = f"points of {len(seen)} series of {rule.meter_name} within {rule.within} seconds"
        if state == each.state and not (each.alarm.repeat_actions and state != UNKNOWN):
            made.append(None)
            continue
        listed = [{"series_id": key, "last": _text(last[key] or 0)} for key in silent[:SHOWN].tolist()]
        data = {
            "type": "absence",
            "last": _text(max(last[key] or 0 for key in silent.tolist())) if len(silent) else None,
            "silent": listed,
            "count": len(silent),
        }
        said = reason if state == UNKNOWN else f"{_happened(each.state, state)} due to {reason}"
        notify = state != each.state or each.alarm.repeat_actions
        made.append(Outcome(state, said, data, notify=notify, evidence={"silent": listed} if listed else {}))
    return made


def _points_of(alarm: Alarm) -> Wanted:
    """The series of which points must come; of a tenant's alarm, those of its project."""
    points = rule_of(alarm).points
    assert points is not None
    if not alarm.only_project:
        return points
    return replace(points, query=(*points.query, Condition("project_id", "eq", alarm.only_project)))


def _known(cycle: Cycle, points: Wanted, rule: AbsenceRule) -> Ints:
    """The ids of the series that may have had good points within `known_for`.

    If metadata decides, they are those that had good points with such metadata.
    """
    requests = requests_of([points])
    if any(shape.by_metadata for shape in requests.shapes):
        longer = requests_of([replace(points, period=max(rule.known_for, rule.within))])
        return windows(cycle.site, longer, cycle.moment, cycle.known_at).seen(0)
    since = times.micros(cycle.moment) - max(rule.known_for, rule.within) * _SECOND
    known = series_of(cycle.site, requests, since, needed(requests, ()))
    with cycle.site.lake.connect() as duck:
        duck.register("dims", known.rows)
        chosen = selections(duck, requests, requests.shapes)
    return np.sort(known.table.ids[chosen.members])


def _last(cycle: Cycle, points: Wanted, rule: AbsenceRule, ids: Ints) -> dict[int, int | None]:
    """When the last good point of each of some series was, µs since 1970, UTC; None if there is none in `known_for`."""
    found: dict[int, int | None] = dict.fromkeys(ids.tolist())
    if not found:
        return found
    end = times.micros(cycle.moment)
    start = end - max(rule.known_for, rule.within) * _SECOND
    corrections = recorded(cycle.site)
    known = series_of(cycle.site, requests_of([replace(points, query=(), where="")]), start, DIMENSIONS)
    known = known.some(np.isin(known.table.ids, ids))
    came = read(cycle.site, known, start, end, metadata=False)
    if cycle.known_at is not None:
        came = came.some(np.flatnonzero(came.recorded <= times.micros(cycle.known_at)))
    good, _ = judge(cycle.site, known, came, corrections, metadata=False)
    for place, at in zip(good.place.tolist(), good.time.tolist(), strict=True):  # in order of time
        found[int(known.table.ids[place])] = at
    return found


def _happened(state: str, now: str) -> str:
    return f"Remaining as {now}" if state == now else f"Transition to {now}"


def _text(micros: int) -> str:
    return times.text(times.EPOCH + timedelta(microseconds=micros))


def _began(site: Site, ids: Sequence[str]) -> dict[str, datetime]:
    """Since when alarms are defined as they are, by id."""
    found: dict[str, datetime] = {}
    if not ids:
        return found
    with site.warehouse.read() as connection:
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = alarms.c.alarm_id.in_(ids[start : start + IDS_AT_ONCE])
            rows = connection.execute(select(alarms.c.alarm_id, alarms.c.timestamp).where(some))
            found.update((row.alarm_id, row.timestamp) for row in rows)
    return found


@retried
def newest(
    site: Site, matcher: Matcher, since: Ints, moment: datetime, known_at: datetime | None = None
) -> list[Seen | None]:
    """For each interest, its newest event that counts at a time or later; None if there is none.

    Files are read from the newest on, and only until what is left of them cannot have a newer one.

    Args:
        site: the site.
        matcher: the interests.
        since: for each of them, µs since 1970, UTC.
        moment: the end of the span, UTC.
        known_at: only events that had arrived until then count, to the hour; default all.
    """
    present = times.micros(moment)
    found: list[Seen | None] = [None] * len(matcher)
    reached = since - 1
    for newest_there, rows in _pieces(site, matcher, found, reached, moment, known_at):
        active = reached < newest_there
        events, of = matcher.pairs(rows, active)
        if not len(events):
            continue
        at = counted_at(rows, present)[events]
        for number in np.unique(of).tolist():
            own = np.flatnonzero(of == number)
            best = own[np.argmax(at[own])]
            if at[best] > reached[number]:
                reached[number] = at[best]
                found[number] = Seen(int(at[best]), described(rows, int(events[best])))
    return found


def _pieces(
    site: Site,
    matcher: Matcher,
    found: Sequence[Seen | None],
    reached: Ints,
    moment: datetime,
    known_at: datetime | None,
) -> Iterator[tuple[int, pa.Table]]:
    """Files that may have a newer event of some interest, newest first: their newest time, and events of its type."""
    lake, present = site.lake, times.micros(moment)
    first = times.EPOCH + timedelta(microseconds=int(reached.min(initial=present)))
    files = lake.matching(TABLE, overlapping=("generated", [(first, datetime.max.replace(tzinfo=UTC))]))
    if known_at is not None:
        files = files.filter(pc.less_equal(files["partition.arrival_hour"], times.arrival_hour(known_at)))
    if not len(files):
        return
    if "max.generated" in files.column_names:
        bounds = files["max.generated"].cast(TIME).cast(pa.int64()).fill_null(present).to_numpy()
        ends = np.minimum(bounds + 1_000, present)  # Delta truncates bounds of times to milliseconds
    else:
        ends = np.full(len(files), present)
    listed = files.select(["path", "partition.arrival_hour"]).to_pylist()
    for place in np.argsort(-ends, kind="stable").tolist():
        end = int(ends[place])
        active = reached < end
        if not active.any():
            return
        path, hour = listed[place]["path"], listed[place]["partition.arrival_hour"]
        types = pc.unique(lake.read_file(TABLE, path, ["event_type"])["event_type"]).to_pylist()
        wanted = [name for name in types if name is not None and matcher.may_be(name, active)]
        if not wanted:
            continue
        rows = lake.rows_of(TABLE, path, {"arrival_hour": hour}, COLUMNS).select(COLUMNS)
        keep = pc.is_in(rows["event_type"], pa.array(wanted, pa.string()))
        if known_at is not None:
            keep = pc.and_kleene(keep, pc.fill_null(pc.less_equal(rows["generated"], known_at), True))
        yield end, rows.filter(keep).combine_chunks()
