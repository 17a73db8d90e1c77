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
from meterhouse.alarms.evaluation.points import Series, judge, read
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
    interests = [interest_of(r, each.project_id or None) for r, each in zip(rules, given, strict=True)]
    matcher = Matcher(interests)
    since = np.array([present - rule.within * _SECOND for rule in rules], np.int64)
    seen = newest(cycle.site, matcher, since, cycle.moment, cycle.known_at)
    lacking = [n for n, each in enumerate(seen) if each is None]
    began = _began(cycle.site, [given[n].alarm_id for n in lacking if given[n].state == UNKNOWN])
    made: list[Outcome | None] = [None] * len(given)
    absent = []
    for number, (each, rule, event) in enumerate(zip(given, rules, seen, strict=True)):
        if event is not None:
            made[number] = came(each.state, event) if each.state != "ok" or each.alarm.repeat_actions else None
        elif each.state == UNKNOWN and (first := began.get(each.alarm_id)) and times.micros(first) >= since[number]:
            made[number] = _waits(rule)
        elif each.state != "alarm" or each.alarm.repeat_actions:
            absent.append(number)
    if absent:
        earlier = Matcher([interests[number] for number in absent])
        before = np.array([since[number] - rules[number].known_for * _SECOND for number in absent], np.int64)
        last = newest(cycle.site, earlier, before, cycle.moment, cycle.known_at)
        for number, event in zip(absent, last, strict=True):
            made[number] = _absent(given[number].state, rules[number], event)
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


def _absent(state: str, rule: AbsenceRule, last: Seen | None) -> Outcome:
    """An event did not come in time. The last one is that of the `known_for` seconds before, if there is one."""
    reason = f"{_happened(state, 'alarm')} due to no {rule.event_type} event within {rule.within} seconds"
    reason += f", last: {_text(last.at)}" if last is not None else ""
    at = None if last is None else _text(last.at)
    data = {"type": "absence", "last": at, "silent": [rule.event_type], "count": 1}
    return Outcome("alarm", reason, data, notify=True, evidence={} if last is None else {"event": last.event})


# -- points -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Points:
    """What an alarm that waits for points found.

    Attributes:
        rule: its rule.
        wanted: the series, whose points must come within the window.
        known: the ids of the series that it knows, in order.
        seen: the ids of those with good points in time.
        silent: the ids of those without.
    """

    rule: AbsenceRule
    wanted: Wanted
    known: Ints
    seen: Ints
    silent: Ints

    @property
    def state(self) -> str:
        """The state of the alarm."""
        if not len(self.known) and not len(self.seen):
            return UNKNOWN
        return "alarm" if len(self.silent) and (self.rule.of == "any" or not len(self.seen)) else "ok"

    @property
    def since(self) -> int:
        """For how many seconds series are known."""
        return max(self.rule.known_for, self.rule.within)

    def reason(self, before: str) -> str:
        """Why, for an alarm in a state before."""
        rule, state = self.rule, self.state
        match state:
            case "alarm":
                of = f"{len(self.silent)} of {len(np.union1d(self.known, self.seen))} series"
                said = f"no points of {of} of {rule.meter_name} within {rule.within} seconds"
            case "ok":
                said = f"points of {len(self.seen)} series of {rule.meter_name} within {rule.within} seconds"
            case _:
                return f"No series had points of {rule.meter_name} within {self.since} seconds"
        return f"{_happened(before, state)} due to {said}"


def _of_points(cycle: Cycle, given: Sequence[Given]) -> list[Outcome | None]:
    """The outcomes of alarms that wait for points of series, in their order."""
    if not given:
        return []
    rules, wanted = [rule_of(each.alarm) for each in given], [_points_of(each.alarm) for each in given]
    windows_of = windows(cycle.site, requests_of(wanted), cycle.moment, cycle.known_at)
    known = _known(cycle, rules, wanted)
    found = []
    for number, (rule, points) in enumerate(zip(rules, wanted, strict=True)):
        seen = windows_of.seen(number)
        found.append(_Points(rule, points, known[number], seen, np.setdiff1d(known[number], seen)))
    due = [
        each.state != of.state or (each.alarm.repeat_actions and of.state != UNKNOWN)
        for each, of in zip(given, found, strict=True)
    ]
    last = _last(cycle, [of for of, is_due in zip(found, due, strict=True) if is_due and of.state == "alarm"])
    return [
        _outcome(cycle, each, of, last) if is_due else None for each, of, is_due in zip(given, found, due, strict=True)
    ]


def _outcome(cycle: Cycle, given: Given, of: _Points, last: Mapping[int, int]) -> Outcome:
    silent = of.silent if of.state == "alarm" else of.silent[:0]
    earliest = times.micros(cycle.moment) - of.since * _SECOND
    at = {key: moment for key in silent[:SHOWN].tolist() if (moment := last.get(key, earliest - 1)) >= earliest}
    listed = [{"series_id": key, "last": _text(at[key]) if key in at else None} for key in silent[:SHOWN].tolist()]
    data = {
        "type": "absence",
        "last": _text(max(at.values())) if at else None,
        "silent": listed,
        "count": len(silent),
    }
    evidence = {"silent": listed} if listed else {}
    return Outcome(of.state, of.reason(given.state), data, notify=True, evidence=evidence)


def _points_of(alarm: Alarm) -> Wanted:
    """The series of which points must come; of a tenant's alarm, those of its project."""
    points = rule_of(alarm).points
    assert points is not None
    if not alarm.only_project:
        return points
    return replace(points, query=(*points.query, Condition("project_id", "eq", alarm.only_project)))


def _known(cycle: Cycle, rules: Sequence[AbsenceRule], wanted: Sequence[Wanted]) -> list[Ints]:
    """For each alarm, the ids of the series that had points, good or not, within `known_for`, to the hour.

    If metadata decides, they are those that had good points with such metadata.
    """
    found = [np.zeros(0, np.int64)] * len(rules)
    spans = [max(rule.known_for, rule.within) for rule in rules]
    described = {n for shape in requests_of(wanted).shapes if shape.by_metadata for n in shape.numbers}
    if described:
        numbers = sorted(described)
        longer = requests_of([replace(wanted[n], period=spans[n]) for n in numbers])
        seen = windows(cycle.site, longer, cycle.moment, cycle.known_at)
        for place, number in enumerate(numbers):
            found[number] = seen.seen(place)
    for span in sorted({span for n, span in enumerate(spans) if n not in described}):
        numbers = [n for n, each in enumerate(spans) if each == span and n not in described]
        requests = requests_of([wanted[n] for n in numbers])
        known = series_of(cycle.site, requests, times.micros(cycle.moment) - span * _SECOND, needed(requests, ()))
        with cycle.site.lake.connect() as duck:
            duck.register("dims", known.rows)
            chosen = selections(duck, requests, requests.shapes)
        for place, number in enumerate(numbers):
            of = int(chosen.of_request[place])
            members = chosen.members[int(chosen.first[of]) : int(chosen.first[of + 1])]
            found[number] = np.sort(known.table.ids[members])
        if cycle.known_at is not None:  # the catalog is of today
            then = _had_points(cycle, known, span, cycle.known_at)
            found = [ids[np.isin(ids, then)] if n in numbers else ids for n, ids in enumerate(found)]
    return found


def _had_points(cycle: Cycle, known: Series, span: int, known_at: datetime) -> Ints:
    """The ids of the series that had points within a span of seconds, to the hour, as the catalog was at a time."""
    end = times.micros(cycle.moment)
    came = read(cycle.site, known, (end - span * _SECOND) // _HOUR * _HOUR, end, metadata=False)
    found: Ints = known.table.ids[np.unique(came.place[came.recorded <= times.micros(known_at)])]
    return found


def _last(cycle: Cycle, found: Sequence[_Points]) -> dict[int, int]:
    """When the last good point of each of the silent series that are shown was, µs since 1970, UTC, by id."""
    if not found:
        return {}
    ids = np.unique(np.concatenate([of.silent[:SHOWN] for of in found]))
    end = times.micros(cycle.moment)
    start = end - max(of.since for of in found) * _SECOND
    asked = requests_of([replace(of.wanted, query=(), where="") for of in found])
    known = series_of(cycle.site, asked, start, DIMENSIONS)
    known = known.some(np.isin(known.table.ids, ids))
    came = read(cycle.site, known, start, end, metadata=False)
    if cycle.known_at is not None:
        came = came.some(np.flatnonzero(came.recorded <= times.micros(cycle.known_at)))
    corrections = [each for each in recorded(cycle.site) if each.is_active]
    good, _ = judge(cycle.site, known, came, corrections, metadata=False)
    return dict(zip(known.table.ids[good.place].tolist(), good.time.tolist(), strict=True))  # in order of time


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
        wanted = [name for name in types if name is not None and active[matcher.about(name)].any()]
        if not wanted:
            continue
        rows = lake.rows_of(TABLE, path, {"arrival_hour": hour}, COLUMNS).select(COLUMNS)
        keep = pc.is_in(rows["event_type"], pa.array(wanted, pa.string()))
        if known_at is not None:
            keep = pc.and_kleene(keep, pc.fill_null(pc.less_equal(rows["generated"], known_at), True))
        yield end, rows.filter(keep).combine_chunks()
