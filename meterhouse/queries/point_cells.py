"""The good points of some series in some hours, judged as they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from meterhouse import times
from meterhouse.corrections.applying import change
from meterhouse.corrections.recorded import Correction, active
from meterhouse.definitions.quality_rules import Rules
from meterhouse.queries.planner import Pairs, Plan
from meterhouse.queries.raw_points import DERIVED, POINT, SAMPLES, RawPoints
from meterhouse.queries.selection import Selection
from meterhouse.sample_quality.carrying import carried_points
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, GAUGE, Flags, Floats, Ints, Places, SeriesRules
from meterhouse.sample_quality.verdicts import HOUR, NOTHING_CARRIED, Good, Points, judge, order_of
from meterhouse.site import Site

POINTS_AT_ONCE = 6_000_000
"""About how many rows of files are read together."""


@dataclass
class PointsRead:
    """What was read of points."""

    files: int = 0
    points: int = 0
    good: int = 0


def good_points(
    site: Site,
    meter: str,
    version: int,
    plan: Plan,
    pairs: Pairs,
    selection: Selection,
    read: PointsRead,
    *,
    increases: bool = True,
    everything: bool = False,
) -> Iterator[Good]:
    """The good points that a plan reads, in parts, each in order of place and time.

    Args:
        site: the site.
        meter: the meter.
        version: of the lake's samples.
        plan: its `points` are read of all series.
        pairs: further series and hours.
        selection: the series.
        read: counts what is read.
        increases: whether the increases of counters matter: then what precedes the hours is read too.
        everything: whether points count that the quality rules exclude.
    """
    hours = np.union1d(plan.points, pairs.number)
    if not len(hours) or not len(selection):
        return
    only = Pairs(pairs.place, pairs.number)
    whole = np.isin(hours, plan.points)
    rules = _harmless(site.rules) if everything else site.rules
    table = selection.table
    if everything:  # volumes that cannot be computed with have no increase
        table = replace(table, kinds=np.where(table.kinds == CUMULATIVE, np.int8(GAUGE), table.kinds))
    compiled = SeriesRules.of(rules, table)
    carry_hours = site.settings.carry_hours
    for some in _pieces(site, version, hours):
        wanted = Hours([times.of_hour(number) for number in some.tolist()])
        counters = increases and bool((table.kinds == CUMULATIVE).any())
        context = _context(some, plan.before, carry_hours) if counters else some[:0]
        spanned = Hours([times.of_hour(number) for number in np.union1d(some, context).tolist()])
        points = _points(site, meter, version, spanned, selection, read)
        carried = carried_points(site.lake, table, spanned, carry_hours) if counters else NOTHING_CARRIED
        good = judge(table, compiled, points, carried, carry_hours).good
        inside = wanted.hold(good.time) & (good.time >= plan.first) & (good.time < plan.last)
        if len(only.place):
            hour = good.time // HOUR
            inside &= np.isin(hour, hours[whole]) | only.hold(good.place, hour)
        good = good.within(inside)
        read.good += len(good)
        yield good


def _harmless(rules: Rules) -> Rules:
    """The rules without the power to exclude."""
    return replace(rules, rules=tuple(replace(rule, severity="warning") for rule in rules.rules))


def _context(hours: Ints, dirty: Ints, reach: int) -> Ints:
    """The dirty hours from whose points increases in these hours may start: the roll-ups do not know them."""
    after = np.searchsorted(hours, dirty, side="right")
    near: Ints = dirty[(after < len(hours)) & (hours[np.minimum(after, len(hours) - 1)] - dirty <= reach)]
    return near


def _pieces(site: Site, version: int, hours: Ints) -> Iterator[Ints]:
    """The hours in pieces, so that about POINTS_AT_ONCE rows are read together."""
    spans = times.spans([times.of_hour(number) for number in hours.tolist()])
    found = site.lake.matching("samples", version=version, overlapping=("timestamp", spans))
    rows = sum(found["num_records"].to_pylist())
    yield from np.array_split(hours, min(max(round(rows / POINTS_AT_ONCE), 1), len(hours)))


def _points(site: Site, meter: str, version: int, hours: Hours, selection: Selection, read: PointsRead) -> Points:
    """All points of the series in these hours, as corrected, in order."""
    ids = None if selection.whole else np.sort(selection.table.ids)
    span = hours.spans[0][0], hours.spans[-1][1]
    parts = []
    for table in (SAMPLES, DERIVED):
        raw = RawPoints(site.lake, meter, span, version if table == SAMPLES else None, (table,))
        rows = pa.concat_tables([POINT.empty_table(), *(raw.read(each, ids) for each in hours.spans)])
        read.files += raw.files
        read.points += rows.num_rows
        part = _Part.of(rows, selection)
        if not (there := part.place >= 0).all():  # a series that came meanwhile
            part = part.some(there)
        if table == SAMPLES and (corrections := active(site, hours.spans)):
            part = part.corrected(meter, corrections, selection)
        parts.append(part)
    return _Part.together(parts).points()


@dataclass(frozen=True)
class _Part:
    """Points in any order: columns of `Points`, and the sample ids and where there are any."""

    place: Places
    time: Ints
    volume: Floats
    recorded: Ints
    sample: Ints
    known: Flags
    accepted: Flags

    @classmethod
    def of(cls, rows: pa.Table, selection: Selection) -> "_Part":
        """Rows with the columns of POINT."""
        columns = {name: rows[name].combine_chunks() for name in rows.column_names}
        sample = columns["sample_id"]
        return cls(
            selection.table.places(plain(columns["series_id"])),
            plain(columns["timestamp"]),
            plain(columns["volume"]),
            plain(columns["recorded_at"]),
            plain(sample.fill_null(0) if sample.null_count else sample),
            plain(sample.is_valid()),
            np.zeros(len(sample), np.bool_),
        )

    @classmethod
    def together(cls, parts: "Sequence[_Part]") -> "_Part":
        """All of these."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))

    def some(self, rows: Any) -> "_Part":
        """Those that flags or an index choose."""
        return _Part(*(getattr(self, each.name)[rows] for each in fields(self)))

    def corrected(self, meter: str, corrections: Sequence[Correction], selection: Selection) -> "_Part":
        """The points as corrections leave them."""

        def describe(at: Ints) -> pa.Table:
            of_series = selection.columns.take(pa.array(self.place[at]))
            return of_series.append_column("meter", pa.repeat(pa.scalar(meter, pa.string()), len(at)))

        def of_meter(name: str) -> Flags:
            return np.full(len(self.place), name == meter)

        changed = change(corrections, of_meter, self.time, self.volume, describe)
        if changed is None:
            return self
        return replace(self, volume=changed.volume, accepted=changed.accepted).some(changed.kept)

    def points(self) -> Points:
        """These points in order."""
        order = order_of(self.place, self.time)
        made = self if order is None else self.some(order)
        accepted = made.accepted if made.accepted.any() else None
        identified = made.sample, made.known
        return Points(
            made.place,
            made.time,
            made.volume,
            made.recorded,
            lambda rows: (identified[0][rows], identified[1][rows]),
            accepted,
        )
