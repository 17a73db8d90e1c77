"""The good points of some series in some hours, judged as they are read."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.corrections.applying import COLUMNS, change
from meterhouse.corrections.recorded import Correction, active
from meterhouse.definitions.quality_rules import Rules
from meterhouse.queries.planner import Pairs, Plan
from meterhouse.queries.selection import Selection
from meterhouse.sample_quality.carrying import carried_points
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, GAUGE, Flags, Floats, Ints, Places, SeriesRules
from meterhouse.sample_quality.verdicts import HOUR, NOTHING_CARRIED, Good, Points, judge, order_of
from meterhouse.site import Site
from meterhouse.times import Span
from meterhouse.workers import worker_threads

POINTS_AT_ONCE = 6_000_000
"""About how many rows of files are read together."""

_COLUMNS = ["series_id", "timestamp", "volume", "recorded_at", "sample_id"]


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
    with worker_threads() as threads:
        for some in _pieces(site, version, hours):
            wanted = Hours([times.of_hour(number) for number in some.tolist()])
            counters = increases and bool((table.kinds == CUMULATIVE).any())
            context = _context(some, plan.before, carry_hours) if counters else some[:0]
            spanned = Hours([times.of_hour(number) for number in np.union1d(some, context).tolist()])
            corrections = active(site, spanned.spans)
            points = _points(site, meter, version, spanned, selection, threads, read, corrections)
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


def _points(
    site: Site,
    meter: str,
    version: int,
    hours: Hours,
    selection: Selection,
    threads: ThreadPoolExecutor,
    read: PointsRead,
    corrections: Sequence[Correction],
) -> Points:
    """All points of the series in these hours, as corrected, in order."""
    files = [("samples", path) for path in _paths(site, "samples", version, hours.spans)]
    files += [("derived", path) for path in _paths(site, "derived", None, hours.spans)]

    def rows_of(file: tuple[str, str]) -> dict[str, Any]:
        return _rows(site, *file, meter, hours, selection, corrections if file[0] == "samples" else ())

    parts = list(threads.map(rows_of, files))
    read.files += len(files)

    def joined(name: str, kind: str) -> Any:
        return np.concatenate([np.zeros(0, kind), *(part[name] for part in parts if part)])

    place, time = joined("place", "i4"), joined("timestamp", "i8")
    volume, recorded = joined("volume", "f8"), joined("recorded_at", "i8")
    sample, known, accepted = joined("sample_id", "i8"), joined("known", "?"), joined("accepted", "?")
    read.points += len(place)
    order = order_of(place, time)
    if order is not None:
        place, time, volume, recorded = place[order], time[order], volume[order], recorded[order]
        sample, known, accepted = sample[order], known[order], accepted[order]
    return Points(
        place,
        time,
        volume,
        recorded,
        lambda rows: (sample[rows], known[rows]),
        accepted if accepted.any() else None,
    )


def _paths(site: Site, table: str, version: int | None, spans: list[Span]) -> list[str]:
    found: list[str] = site.lake.matching(table, version=version, overlapping=("timestamp", spans))["path"].to_pylist()
    return found


def _rows(
    site: Site,
    table: str,
    path: str,
    meter: str,
    hours: Hours,
    selection: Selection,
    corrections: Sequence[Correction],
) -> dict[str, Any]:
    """The columns of a file's points of the series in these hours; empty if there are none."""
    with site.lake.parquet(table, path) as opened:
        groups = [n for n in range(opened.metadata.num_row_groups) if _may_have(opened.metadata.row_group(n), meter)]
        if not groups:
            return {}
        columns = [*_COLUMNS, *COLUMNS] if corrections else _COLUMNS
        rows = opened.read_row_groups(groups, columns, use_threads=False)
    place: Places = selection.table.places(plain(rows["series_id"].combine_chunks()))
    keep: Flags = place >= 0
    if not keep.any():
        return {}
    time: Ints = plain(rows["timestamp"].combine_chunks())
    keep &= hours.hold(time)
    sample = rows["sample_id"].combine_chunks()
    volume: Floats = plain(rows["volume"].combine_chunks())
    found = {
        "place": place,
        "timestamp": time,
        "volume": volume,
        "recorded_at": plain(rows["recorded_at"].combine_chunks()),
        "sample_id": plain(sample.fill_null(0) if sample.null_count else sample),
        "known": plain(sample.is_valid()) if sample.null_count else np.ones(len(sample), np.bool_),
        "accepted": np.zeros(len(sample), np.bool_),
    }
    if corrections:
        changed = change(
            corrections,
            lambda name: plain(pc.equal(rows["meter"].combine_chunks(), name)) & keep,
            time,
            volume,
            lambda at: rows.take(pa.array(at)),
        )
        if changed is not None:
            keep &= changed.kept
            found |= {"volume": changed.volume, "accepted": changed.accepted}
    return found if keep.all() else {name: column[keep] for name, column in found.items()}


def _may_have(group: Any, meter: str) -> bool:
    """Whether a row group may have points of a meter, as its statistics say."""
    for n in range(group.num_columns):
        column = group.column(n)
        if column.path_in_schema == "meter":
            found = column.statistics
            return not (found and found.has_min_max) or bool(found.min <= meter <= found.max)
    return True
