"""From where the parts of an answer come: roll-ups where they say it exactly, points for the rest.

An hour is read from points if it is dirty (its points, or the quality rules of the meter, changed since it was rolled
up), or if the question or a period starts or ends within it. Of a series, it is read from points if the series changes
its group within it, and if the increase of a counter starts from a point in a dirty hour. The hours of a day that is
whole are read as the day. So an answer is never older than the points, and never holds a bad one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, select

from meterhouse import meanings, times
from meterhouse.catalog import FOLLOWER, TABLE
from meterhouse.definitions.meanings import Meaning
from meterhouse.definitions.quality_rules import differ
from meterhouse.errors import Replaced
from meterhouse.history import is_same_history, kept_position
from meterhouse.queries.periods import Periods
from meterhouse.queries.selection import DIMENSIONS, Selection
from meterhouse.rollups.policy_changes import Declared
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import CUMULATIVE, Flags, Ints, Places
from meterhouse.sample_quality.verdicts import HOUR
from meterhouse.site import Site
from meterhouse.stores.lake import is_append
from meterhouse.stores.warehouse_tables import dirty_hours

DAY = 24 * HOUR

MAX_DIRTY = 1_000
"""With more dirty hours, a question for increases is answered from points."""


@dataclass(frozen=True)
class Fresh:
    """Samples that the catalog has not taken up yet.

    Attributes:
        hours: numbers of the event hours that have some; None if that is not known: then all may.
        series: DIMENSIONS of those of the meter.
        span: the times of the first and the last of them, µs; None if there are none.
    """

    hours: Ints | None
    series: pa.Table | None = None
    span: tuple[int, int] | None = None


def fresh_samples(site: Site, version: int, meter: str) -> Fresh:
    """What came to the lake's samples up to a version, and is not in the catalog.

    Nothing is known of it if the lake or the warehouse was restored, and no step has run since.
    """
    if not _of_one_history(site):
        return Fresh(None)
    reached = kept_position(site, FOLLOWER).version
    if version <= reached:
        return Fresh(np.zeros(0, np.int64))
    instants, found = [np.zeros(0, np.int64)], []
    try:
        commits = list(site.lake.commits(TABLE, reached, version))
    except Replaced:
        return Fresh(None)
    for file in [each for commit in commits if is_append(commit) for each in commit.added]:
        rows = site.lake.read_file(TABLE, file["path"], [*DIMENSIONS, "meter", "timestamp"])
        rows = rows.filter(pc.equal(rows["meter"], pa.scalar(meter, pa.string())))
        instants.append(plain(rows["timestamp"].combine_chunks()))
        found.append(rows.select(DIMENSIONS))
    time = np.concatenate(instants)
    if not len(time):
        return Fresh(time)
    return Fresh(np.unique(time // HOUR), pa.concat_tables(found), (int(time.min()), int(time.max())))


def _of_one_history(site: Site) -> bool:
    """Whether the lake's samples and roll-ups are those that the warehouse has followed and recorded."""
    lake = site.lake
    if not lake.agrees:  # a store is not restored while a process uses it
        lake.agrees = all(
            is_same_history(lake, table, kept_position(site, follower))
            for follower, table in ((FOLLOWER, TABLE), ("rollups", "rollups"))
        )
    return lake.agrees


@dataclass(frozen=True)
class Pairs:
    """Series and hours or days, by number; in order."""

    place: Places
    number: Ints

    def hold(self, place: Places, number: Ints) -> Flags:
        """Which of these pairs are among them."""
        if not len(self.place):
            return np.zeros(len(place), np.bool_)
        keys = self.place.astype(np.int64) << 32 | self.number
        return np.isin(place.astype(np.int64) << 32 | number, keys)


NO_PAIRS = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Plan:
    """What is read from where. Hours and days are numbers since 1970, UTC, ascending.

    Attributes:
        first: the start of the question, µs.
        last: its end, which is not within.
        days: are read from daily rows, but for `split`.
        split: series that change their group within such a day: of them, its hours are read.
        hours: are read from hourly rows, but for `changed`.
        fine: granularity in seconds → hours that are read from its rows.
        points: hours that are read from points.
        changed: series of which an hour of `hours`, `fine` or of a split day is read from points after all.
        before: dirty hours before hours that are read from points, from which increases may start.
        why: how many hours are read from points for which reason.
    """

    first: int
    last: int
    days: Ints
    split: Pairs
    hours: Ints
    fine: Mapping[int, Ints]
    points: Ints
    changed: Pairs
    before: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    why: Mapping[str, int] = field(default_factory=dict)


def plan(
    site: Site,
    meter: str,
    first: int,
    last: int,
    periods: Periods,
    selection: Selection,
    fresh: Fresh,
    *,
    increases: bool = False,
    why: str = "",
) -> Plan:
    """The plan for a question.

    Args:
        site: the site.
        meter: the meter.
        first, last: the half-open span, µs.
        periods: the periods that are asked for.
        selection: the series.
        fresh: from `fresh_samples`.
        increases: whether those of counters matter.
        why: a reason to read all from points; default none.
    """
    reach = site.settings.carry_hours if increases and (selection.table.kinds == CUMULATIVE).any() else 0
    hours = np.arange(first // HOUR, -(-last // HOUR))
    start = hours * HOUR
    cut = periods.numbers(np.maximum(start, first)) != periods.numbers(np.minimum(start + HOUR, last) - 1)
    ragged = (start < first) | (start + HOUR > last)
    why = why or ("" if fresh.hours is not None else "the catalog is behind, or a store was restored")
    all_dirty = others = np.zeros(0, np.int64)
    if fresh.hours is not None:
        marked, others = _dirty(site, meter, first - reach * HOUR, last)
        others = np.setdiff1d(others, marked)
        all_dirty = np.unique(np.concatenate((marked, others, fresh.hours)))
        why = why or ("many hours are dirty" if reach and len(all_dirty) > MAX_DIRTY else "")
    if why:
        return all_from_points(first, last, hours, all_dirty, why)
    dirty = np.isin(hours, all_dirty)
    rows = ~(cut | ragged | dirty)
    fine = _fine(site, meter, first, last, periods, hours[~rows & ~dirty])
    of_fine = np.isin(hours, np.concatenate([np.zeros(0, np.int64), *fine.values()]))
    points = hours[~rows & ~of_fine]
    day = hours // 24
    after = _after_dirty(site, selection, all_dirty, reach, hours[rows | of_fine])
    days, count = np.unique(day[rows], return_counts=True)
    days = np.setdiff1d(days[count == 24], after.number // 24)
    days = days[periods.numbers(days * DAY) == periods.numbers((days + 1) * DAY - 1)]
    split, changed = NO_PAIRS, NO_PAIRS
    if selection.changes:
        split = Pairs(*selection.changed_in(days, DAY))
        changed = Pairs(*selection.changed_in(hours[rows | of_fine], HOUR))
    of_change = len(np.unique(changed.number))
    changed = Pairs(np.concatenate((changed.place, after.place)), np.concatenate((changed.number, after.number)))
    reasons = {
        "dirty": int((dirty & ~np.isin(hours, others)).sum()),
        "the quality rules changed": int(np.isin(hours, others).sum()),
        "at the start or end of the question": int((ragged & ~dirty & ~of_fine).sum()),
        "a period starts within": int((cut & ~ragged & ~dirty & ~of_fine).sum()),
        "a series changes its group within": of_change,
        "a counter's previous point is in a dirty hour": len(np.unique(after.number)),
    }
    by_hour = hours[rows & ~np.isin(day, days)]
    return Plan(
        first, last, days, split, by_hour, fine, points, changed, all_dirty, {k: n for k, n in reasons.items() if n}
    )


def unrolled(site: Site, meter: str, first: int, last: int, fresh: Fresh) -> Ints | None:
    """The numbers of the hours of a span (µs) that are not rolled up as their points and the rules are now.

    None if that is not known: then it may be all.
    """
    if fresh.hours is None:
        return None
    marked, others = _dirty(site, meter, first, last)
    return np.unique(np.concatenate((marked, others, fresh.hours)))


def all_from_points(first: int, last: int, hours: Ints, before: Ints, why: str) -> Plan:
    """A plan that reads these hours from points."""
    none = np.zeros(0, np.int64)
    return Plan(first, last, none, NO_PAIRS, none, {}, hours, NO_PAIRS, before, {why: len(hours)})


def _after_dirty(site: Site, selection: Selection, dirty: Ints, reach: int, hours: Ints) -> Pairs:
    """The series and the hours, of these, in which their increase starts from a point of a dirty hour."""
    near = hours[np.searchsorted(dirty, hours) > np.searchsorted(dirty, hours - reach)] if reach else hours[:0]
    if not len(near):
        return NO_PAIRS
    places, numbers = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    spans = times.spans([times.of_hour(number) for number in near.tolist()])
    files = site.lake.matching("rollups", overlapping=("bucket", spans), partitions={"granularity_s": [3600]})
    for path in files["path"].to_pylist():
        with site.lake.parquet("rollups", path) as opened:
            rows = opened.read(["series_id", "bucket", "count"], use_threads=False)
        place = selection.table.places(plain(rows["series_id"].combine_chunks()))
        keep = (place >= 0) & (plain(rows["count"].combine_chunks()) > 0)
        places.append(place[keep])
        numbers.append(plain(rows["bucket"].combine_chunks())[keep] // HOUR)
    place, number = np.concatenate(places), np.concatenate(numbers)
    clean = np.isin(number, near)
    place, number = place[clean], number[clean]
    order = np.lexsort((number, place))
    place, number = place[order], number[order]
    latest = np.searchsorted(dirty, number)
    since = np.where(latest > 0, dirty[np.maximum(latest - 1, 0)], np.iinfo(np.int64).min)
    # The first hour of the series after a dirty hour: the hour before it, if any, is not after the same dirty hour.
    follows = (latest > 0) & (number - since <= reach)
    follows[1:] &= (place[1:] != place[:-1]) | (number[:-1] < since[1:])
    return Pairs(place[follows], number[follows])


def _dirty(site: Site, meter: str, first: int, last: int) -> tuple[Ints, Ints]:
    """The numbers of the hours of a span that are dirty, and of those that were judged by other rules for the meter."""
    rules = site.rules.meaning
    within = _widened(first, last)
    dirty, others = site.kept.of_warehouse(
        ("dirty", meter, rules.fingerprint, within), lambda: _dirty_within(site, rules, meter, within)
    )
    return _cut(dirty, first, last), _cut(others, first, last)


def _dirty_within(site: Site, rules: Meaning, meter: str, within: tuple[int, int]) -> tuple[Ints, Ints]:
    """As `_dirty`, of the hours from one to another, which is not within."""
    columns, of_span = dirty_hours.c, _between(within)
    with site.warehouse.read() as connection:
        dirty = connection.execute(select(columns.hour).where(*of_span, columns.marks > columns.rolled_marks)).scalars()
        found = _numbers(dirty)
        others = connection.execute(
            select(columns.rules, columns.hour).where(*of_span, columns.rules != rules.fingerprint)
        )
        hours_of: dict[str, list[datetime]] = {}
        for fingerprint, hour in others:
            hours_of.setdefault(fingerprint, []).append(hour)
        judged = [np.zeros(0, np.int64)]
        for fingerprint, hours in hours_of.items():
            kept = meanings.of(connection, fingerprint)
            if kept is None or differ(kept.text, rules.text)(meter):
                judged.append(_numbers(hours))
    return found, np.unique(np.concatenate(judged))


_BLOCK = 32 * 24
"""The hours that are looked up together, so that similar questions look up the same ones."""


def _widened(first: int, last: int) -> tuple[int, int]:
    """A span (µs) as the numbers of its first hour and of that after its last one, in whole blocks."""
    return first // HOUR // _BLOCK * _BLOCK, -(-last // (HOUR * _BLOCK)) * _BLOCK


def _between(within: tuple[int, int]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    first, end = (times.EPOCH + timedelta(hours=number) for number in within)
    return dirty_hours.c.hour >= first, dirty_hours.c.hour < end


def _cut(hours: Ints, first: int, last: int) -> Ints:
    """The hours of a span (µs), of some in order."""
    return hours[np.searchsorted(hours, first // HOUR) : np.searchsorted(hours, -(-last // HOUR))]


def _numbers(hours: Iterable[datetime]) -> Ints:
    return np.array(sorted(times.micros(hour) // HOUR for hour in hours), np.int64)


def _fine(site: Site, meter: str, first: int, last: int, periods: Periods, hours: Ints) -> dict[int, Ints]:
    """The finer tiers from which hours can be read, because no period and no end of the span cuts a bucket."""
    policy = site.policies.of(meter)
    if not len(hours) or not policy.finer:
        return {}
    found: dict[int, Ints] = {}
    for seconds in sorted(policy.finer, reverse=True):
        span = seconds * 1_000_000
        start = hours[:, None] * HOUR + np.arange(0, HOUR, span)[None, :]
        inside = (start >= first) & (start + span <= last)
        outside = (start + span <= first) | (start >= last)
        whole = periods.numbers(start.ravel()) == periods.numbers(start.ravel() + span - 1)
        usable = (outside | inside & whole.reshape(start.shape)).all(axis=1)
        found[seconds], hours = hours[usable], hours[~usable]
    found = {seconds: some for seconds, some in found.items() if len(some)}
    if not found:
        return {}
    policies, within = Declared.of(site).fingerprint, _widened(first, last)
    known = site.kept.of_warehouse(("rolled by", policies, within), lambda: _rolled_by(site, policies, within))
    return {seconds: kept for seconds, some in found.items() if len(kept := some[np.isin(some, known)])}


def _rolled_by(site: Site, policies: str, within: tuple[int, int]) -> Ints:
    """The numbers of the hours that were rolled up by these policies."""
    with site.warehouse.read() as connection:
        hours = select(dirty_hours.c.hour).where(*_between(within), dirty_hours.c.policies == policies)
        return _numbers(connection.execute(hours).scalars())
