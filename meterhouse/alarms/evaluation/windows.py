"""The windows of many rules at once: the statistic of the good points of each, by period.

Points are read and judged once, whichever rules need them. They become *cells*, the figures of a series in a period;
those of the series of a rule are put together. So the work grows with points, not with rules times points. Statistics
that cannot be put together from cells, such as the median, are computed from points.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, select

from meterhouse import times
from meterhouse.alarms.definitions.wanted import STATISTICS
from meterhouse.alarms.evaluation.metadata import with_values
from meterhouse.alarms.evaluation.points import Excluded, Good, Series, judge, may_have, read
from meterhouse.alarms.evaluation.requests import NOTHING, Requests
from meterhouse.alarms.evaluation.selections import Selections, selections
from meterhouse.corrections.recorded import Correction, recorded
from meterhouse.garbage import gc_disabled
from meterhouse.queries.judged_points import Received
from meterhouse.sample_quality.carrying import carried_points
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, Flags, Floats, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import NOTHING_CARRIED
from meterhouse.site import Site
from meterhouse.stores.bulk_read import raw_rows
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.warehouse_tables import dirty_hours
from meterhouse.stores.warehouse_tables import series as series_table

DIMENSIONS: Final = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
SHOWN: Final = 20
"""How many series a window names at most."""

_CODES: Final = {name: code for code, name in enumerate(STATISTICS)}
_OF_CELLS: Final = ("avg", "min", "max", "sum", "count", "increase", "rate")
_COUNTERS: Final = ("increase", "rate")
_HOUR: Final = 3_600_000_000


@dataclass(frozen=True)
class Window:
    """What the window of one request has.

    Attributes:
        values: the statistic of the last evaluation periods with good points, oldest first.
        units: the first and the last of the units of these points, by name; the same if there is one. Empty: no unit.
        starts: when each of these periods starts, µs since 1970, UTC.
        points: how many good points each has.
        excluded: how many points of each the quality rules exclude.
    """

    values: tuple[float, ...] = ()
    units: tuple[str, str] = ("", "")
    starts: tuple[int, ...] = ()
    points: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()


@dataclass(frozen=True)
class Windows:
    """The windows of requests, by their numbers: the last periods that decide, oldest first.

    Attributes:
        first: where the periods of each request start; shape (requests + 1,).
        start: when each period starts, µs since 1970, UTC.
        value: the statistic of its good points.
        points: how many these are.
        excluded: how many points of it the quality rules exclude.
        units: the names of units, in order; empty for none.
        first_unit: of the points of each request, the first by name, as a place in `units`; -1 without any points.
        last_unit: the last one; they differ if there are several.
    """

    first: Ints
    start: Ints
    value: Floats
    points: Ints
    excluded: Ints
    units: Sequence[str]
    first_unit: Ints
    last_unit: Ints
    _behind: Sequence["_Behind"] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def mixed(self) -> Flags:
        """Which requests have points in several units."""
        found: Flags = self.first_unit != self.last_unit
        return found

    def of(self, number: int) -> Window:
        """One of them."""
        at = slice(int(self.first[number]), int(self.first[number + 1]))
        return Window(
            tuple(self.value[at].tolist()),
            self.units_of(number),
            tuple(self.start[at].tolist()),
            tuple(self.points[at].tolist()),
            tuple(self.excluded[at].tolist()),
        )

    def head(self, count: int) -> "Windows":
        """Those of the first requests."""
        if count == len(self):
            return self
        end = int(self.first[count])
        return replace(
            self,
            first=self.first[: count + 1],
            start=self.start[:end],
            value=self.value[:end],
            points=self.points[:end],
            excluded=self.excluded[:end],
            first_unit=self.first_unit[:count],
            last_unit=self.last_unit[:count],
        )

    def units_of(self, number: int) -> tuple[str, str]:
        """The first and the last unit of a request's points, by name."""
        one, other = int(self.first_unit[number]), int(self.last_unit[number])
        return ("", "") if one < 0 else (self.units[one], self.units[other])

    def evidence(self, number: int) -> dict[str, Any]:
        """What decided a request, for the history: the periods, oldest first, and the series behind them."""
        window = self.of(number)
        ids, count = self.series(number)
        return {
            "values": list(window.values),
            "starts": [_text(start) for start in window.starts],
            "points": list(window.points),
            "excluded": list(window.excluded),
            "series": ids,
            "number_of_series": count,
        }

    def series(self, number: int) -> tuple[list[int], int]:
        """The ids of up to SHOWN series with good points in a request's window, and how many there are."""
        found = self.seen(number)
        return found[:SHOWN].tolist(), len(found)

    def seen(self, number: int) -> Ints:
        """The ids of all series with good points in a request's window, in order."""
        for behind in self._behind:
            found = behind.of(number)
            if found is not None:
                return found
        return np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Behind:
    """The series behind the windows of some requests."""

    selections: Selections
    wanted: Flags
    seen: Flags
    ids: Ints

    def of(self, number: int) -> Ints | None:
        chosen = int(self.selections.of_request[number])
        if chosen < 0 or not self.wanted[number]:
            return None
        at = slice(int(self.selections.first[chosen]), int(self.selections.first[chosen + 1]))
        found: Ints = np.unique(self.ids[self.selections.members[at][self.seen[at]]])
        return found


@dataclass(frozen=True)
class _Strands:
    """Series, or parts of series with the same metadata, which conditions choose.

    Attributes:
        selections: which of them each request reads.
        series_id: of each.
        unit: of each, as a place in the list of units.
        good, excluded: their points; the place of a point is the number of its strand.
    """

    selections: Selections
    series_id: Ints
    unit: Ints
    good: Good
    excluded: Excluded


@retried
def windows(site: Site, requests: Requests, moment: datetime, known_at: datetime | None = None) -> Windows:
    """The windows that end at a moment, all of them together.

    Args:
        site: the site.
        requests: what is asked for.
        moment: the end of the windows, UTC; points at this time count.
        known_at: only points that had arrived until then count, and corrections that were recorded; default all.

    Raises:
        Damaged: a file of the lake cannot be read.
    """
    (found,) = windows_at(site, requests, [moment], [known_at])
    return found


def windows_at(
    site: Site, requests: Requests, moments: Sequence[datetime], known: Sequence[datetime | None]
) -> Iterator[Windows]:
    """The windows that end at each of some moments, which are in order; points are read once.

    Args:
        site: the site.
        requests: what is asked for.
        moments: the ends of the windows, UTC.
        known: for each moment, see `windows`.

    Raises:
        Replaced: a file was replaced and deleted meanwhile.
        Damaged: a file of the lake cannot be read.
    """
    if not len(requests):
        yield from (_nothing(0) for _ in moments)
        return
    ends = [times.micros(moment) for moment in moments]
    reading = _Reading(site, requests, int(requests.starts(ends[0]).min()), ends[-1])
    for end, limit in zip(ends, known, strict=True):
        yield reading.at(end, None if limit is None else times.micros(limit))


def has_points(site: Site, longest: Mapping[str, int], moment: datetime) -> bool:
    """Whether a meter has points in the longest of its windows that end at a moment.

    Args:
        site: the site.
        longest: meters, and the length of the window of each in seconds.
        moment: the end of the windows, UTC.
    """
    end = times.micros(moment)
    start = end - max(longest.values()) * 1_000_000
    meters = sorted(longest)
    if not may_have(site, meters, start, end):
        return False
    of_meters = series_table.c.meter.in_(meters), series_table.c.last_point_at >= times.hour_of(_moment(start))
    known = _listed(site, of_meters, _ALWAYS)
    if not len(known.table):
        return False
    points = read(site, known, start, end, metadata=False)
    seconds = np.array([longest[name] for name in known.table.meter_names], np.int64)
    return bool((points.time >= end - seconds[known.table.meters[points.place]] * 1_000_000).any())


def _nothing(count: int) -> Windows:
    none = np.zeros(0, np.int64)
    unknown = np.full(count, -1, np.int64)
    return Windows(np.zeros(count + 1, np.int64), none, np.zeros(0), none, none, [], unknown, unknown)


class _Reading:
    """The points of a span, and the windows of it."""

    def __init__(self, site: Site, requests: Requests, start: int, end: int) -> None:
        self._site, self._requests = site, requests
        self._plain = [shape for shape in requests.shapes if not shape.by_metadata]
        self._described = [shape for shape in requests.shapes if shape.by_metadata]
        span = _moment(start), _moment(end + 1)
        self._corrections = [each for each in recorded(site) if each.overlaps([span])]
        known = series_of(site, requests, start, needed(requests, self._corrections))
        with site.lake.connect() as duck:
            duck.register("dims", known.rows)
            self._selections = selections(duck, requests, self._plain)
        wanted = np.zeros(len(known.table), np.bool_)
        wanted[self._selections.members] = True
        if self._described:
            asked = np.unique(requests.meter[np.concatenate([shape.numbers for shape in self._described])])
            meters = {requests.names[place] for place in asked.tolist()}
            wanted |= np.isin(
                known.table.meters, [n for n, name in enumerate(known.table.meter_names) if name in meters]
            )
        if not wanted.all():
            number = np.cumsum(wanted) - 1
            chosen = self._selections
            self._selections = Selections(chosen.of_request, chosen.first, number[chosen.members])
            known = known.some(wanted)
        self._series = known
        units = pc.fill_null(known.rows["unit"].combine_chunks(), "")
        self._units = sorted(pc.unique(units).to_pylist())
        self._unit = plain(pc.index_in(units, pa.array(self._units, pa.string()))).astype(np.int64)
        self._increases = bool(np.isin(requests.statistic, [_CODES[name] for name in _COUNTERS]).any())
        self._start = start
        self._carried = NOTHING_CARRIED
        if self._increases and (known.table.kinds == CUMULATIVE).any():
            self._look_further_back(start, end)
        self._points = read(site, known, self._start, end, metadata=bool(self._described))

    def _look_further_back(self, start: int, end: int) -> None:
        """Where the increases of the first points begin: roll-ups tell of earlier hours, if these are not dirty."""
        reach = self._site.settings.carry_hours
        first = start // _HOUR
        with self._site.warehouse.read() as connection:
            marked = select(dirty_hours.c.hour).where(
                dirty_hours.c.hour >= times.of_hour(first - reach),
                dirty_hours.c.hour < times.of_hour(first),
                dirty_hours.c.marks > dirty_hours.c.rolled_marks,
            )
            dirty = [times.micros(hour) // _HOUR for hour in connection.execute(marked).scalars()]
        # An hour is rolled up some minutes after its end; until then, it may not be marked.
        first = min([first - 1, *dirty])
        self._start = first * _HOUR
        hours = Hours([times.of_hour(number) for number in range(first, end // _HOUR + 1)])
        self._carried = carried_points(self._site.lake, self._series.table, hours, reach)

    def at(self, end: int, known_at: int | None) -> Windows:
        """The windows that end at a time, µs."""
        points, corrections = self._known(end, known_at)
        by_metadata = bool(self._described)
        good, excluded = judge(
            self._site,
            self._series,
            points,
            corrections,
            self._carried,
            metadata=by_metadata,
            changes=self._increases,
        )
        strands = [_Strands(self._selections, self._series.table.ids, self._unit, good, excluded)]
        if by_metadata:
            strands.append(self._by_metadata(good, excluded))
        return _Answer(self._requests, end, self._units).windows(strands)

    def _known(self, end: int, known_at: int | None) -> tuple[Received, list[Correction]]:
        points, corrections = self._points, self._corrections
        known = points.time <= end
        if not self._increases:  # which may begin with an earlier point
            known &= points.time >= int(self._requests.starts(end).min())
        if known_at is not None:
            known &= points.recorded <= known_at
        corrections = [each for each in corrections if _in_force(each, known_at)]
        return points if known.all() else points.some(np.flatnonzero(known)), corrections

    def _by_metadata(self, good: Good, excluded: Excluded) -> _Strands:
        """The parts of series with the same metadata, and which of them requests read."""
        assert good.metadata is not None
        assert excluded.metadata is not None
        place = np.concatenate((good.place, excluded.place)).astype(np.int64)
        metadata = np.concatenate((good.metadata, excluded.metadata))
        ids, of_id = np.unique(metadata, return_inverse=True)
        code, of = np.unique(place * max(len(ids), 1) + of_id, return_inverse=True)
        owner, described = code // max(len(ids), 1), code % max(len(ids), 1)
        rows = self._series.rows.take(pa.array(owner)).set_column(0, "number", pa.array(np.arange(len(code))))
        with self._site.lake.connect() as duck:
            rows = with_values(self._site, duck, rows, ids[described], self._requests.keys)
            duck.register("dims", rows)
            chosen = selections(duck, self._requests, self._described)
        number = of[: len(good.place)].astype(np.int32)
        order = np.lexsort((good.time, number))
        other = of[len(good.place) :].astype(np.int32)
        by_time = np.lexsort((excluded.time, other))
        return _Strands(
            chosen,
            self._series.table.ids[owner],
            self._unit[owner],
            Good(
                number[order],
                good.time[order],
                good.volume[order],
                None if good.increase is None else good.increase[order],
                None,
                None if good.since is None else good.since[order],
            ),
            Excluded(other[by_time], excluded.time[by_time], None),
        )


def _in_force(correction: Correction, known_at: int | None) -> bool:
    if known_at is None:
        return correction.is_active
    made, revoked = correction.recorded_at, correction.revoked_at
    return (made is None or times.micros(made) <= known_at) and (revoked is None or times.micros(revoked) > known_at)


def needed(requests: Requests, corrections: Sequence[Correction]) -> list[str]:
    """The DIMENSIONS that matter."""
    if corrections:
        return list(DIMENSIONS)
    read = {name for shape in requests.shapes for condition in shape.form for name in _OF_SERIES.findall(condition)}
    return [name for name in DIMENSIONS if name in read or name in _ALWAYS]


_OF_SERIES: Final = re.compile(r"\bd\.(\w+)")
_ALWAYS: Final = ("meter", "type", "unit")


def series_of(site: Site, requests: Requests, start: int, names: Sequence[str]) -> Series:
    """The series of the requests' meters that may have points since a time: `number` and some DIMENSIONS, by place."""
    columns = series_table.c
    chosen = [columns.meter.in_(requests.meters), columns.last_point_at >= times.hour_of(_moment(start))]
    if requests.resources is not None:
        chosen.append(columns.resource_id.in_(requests.resources))
    return _listed(site, chosen, names)


def _listed(site: Site, chosen: Iterable[ColumnElement[bool]], names: Sequence[str]) -> Series:
    """The series of the catalog that meet conditions: `number` and some DIMENSIONS, by place."""
    columns = series_table.c
    query = select(columns.series_id, *(columns[name] for name in names)).where(*chosen)
    with site.warehouse.read() as connection, gc_disabled():
        rows = raw_rows(connection, query)
        ids, *texts = list(zip(*rows, strict=True)) or [()] * (len(names) + 1)
        number = np.array(ids, np.int64)
        found = pa.table([pa.array(values, pa.string()) for values in texts], names=list(names))
    kinds, of_meter = (found[name].combine_chunks().dictionary_encode() for name in ("type", "meter"))
    table = SeriesTable.coded(
        number,
        plain(of_meter.indices),
        of_meter.dictionary.to_pylist(),
        plain(kinds.indices),
        kinds.dictionary.to_pylist(),
    )
    order = np.empty(len(number), np.int64)
    order[table.places(number)] = np.arange(len(number))
    found = found.take(pa.array(order))
    return Series(table, found.add_column(0, "number", pa.array(np.arange(len(number)))))


@lru_cache(maxsize=10_000)
def _text(micros: int) -> str:
    """The start of a period, which many rules share."""
    return times.text(_moment(micros))


def _moment(micros: int) -> datetime:
    return times.EPOCH + timedelta(microseconds=micros)


# -- from points to periods -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cells:
    """Figures of strands, or of requests, by period; in order of both.

    Attributes:
        owner: the strand, or the request.
        bucket: the number of its period.
        points: how many good points it has.
        total, least, most: their sum, minimum and maximum.
        increase: the sum of their increases; None if nobody asks for it.
    """

    owner: Ints
    bucket: Ints
    points: Ints
    total: Floats
    least: Floats
    most: Floats
    increase: Floats | None

    def together(self, owner: Ints, rows: Ints) -> "_Cells":
        """Some of these cells, put together by new owners, which are in order.

        Args:
            owner: the new owner of each of the rows.
            rows: cells, perhaps several times.
        """
        bucket = self.bucket[rows]
        order, heads = _grouped(owner, bucket)
        at = rows[order]
        return _Cells(
            owner[order][heads],
            bucket[order][heads],
            np.add.reduceat(self.points[at], heads),
            np.add.reduceat(self.total[at], heads),
            np.minimum.reduceat(self.least[at], heads),
            np.maximum.reduceat(self.most[at], heads),
            None if self.increase is None else _sum_of_known(self.increase[at], heads),
        )


def _grouped(owner: Ints, bucket: Ints) -> tuple[Any, Ints]:
    """An order by owner and bucket, and where each pair of them starts in it."""
    new = owner[1:] == owner[:-1]
    order: Any = slice(None)
    if (new & (bucket[1:] < bucket[:-1])).any() or (owner[1:] < owner[:-1]).any():
        order = np.lexsort((bucket, owner))
        owner, bucket = owner[order], bucket[order]
    return order, _heads(owner, bucket)


def _heads(*keys: npt.NDArray[Any]) -> Ints:
    """Where runs of equal keys start."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    new = np.zeros(len(keys[0]), np.bool_)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)


def _spread(first: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """The rows of some groups one after the other, and of which of the chosen ones each is.

    Args:
        first: where the rows of each group start; one more than there are groups.
        chosen: groups.
    """
    count = first[chosen + 1] - first[chosen]
    of = np.repeat(np.arange(len(chosen)), count)
    rows = np.arange(len(of)) - np.repeat(np.cumsum(count) - count - first[chosen], count)
    return rows, of


@dataclass(frozen=True)
class _Periods:
    """The periods of requests, in order of request and time; columns as those of `Windows`."""

    request: Ints
    start: Ints
    value: Floats
    points: Ints
    excluded: Ints

    @classmethod
    def of(cls, parts: "Sequence[_Periods]") -> "_Periods":
        """All of these, in order."""
        if len(parts) == 1:
            return parts[0]
        columns = [
            np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in parts)])
            for name in cls.__dataclass_fields__
        ]
        made = cls(*columns)
        return made.some(np.lexsort((made.start, made.request)))

    def some(self, rows: npt.NDArray[Any]) -> "_Periods":
        """Those that flags or an index choose."""
        return _Periods(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


_NONE: Final = np.zeros(0, np.int64)
_NO_PERIODS: Final = _Periods(_NONE, _NONE, np.zeros(0), _NONE, _NONE)


class _Answer:
    """The windows of requests that end at a time.

    Args:
        requests: what is asked for.
        end: the end of the windows, µs.
        units: the names of units.
    """

    def __init__(self, requests: Requests, end: int, units: Sequence[str]) -> None:
        self._requests, self._end, self._units = requests, end, units
        self._starts = requests.starts(end)
        self._first_unit = np.full(len(requests), -1, np.int64)
        self._last_unit = np.full(len(requests), -1, np.int64)
        self._behind: list[_Behind] = []

    def windows(self, strands: Sequence[_Strands]) -> Windows:
        """The windows, of all points of the requests' selections."""
        parts = [part for some in strands for part in self._periods(some)]
        found = _Periods.of(parts) if parts else _NO_PERIODS
        found = self._kept(found)
        count = np.bincount(found.request, minlength=len(self._requests))
        return Windows(
            np.concatenate(([0], np.cumsum(count))),
            found.start,
            found.value.astype(np.float64),
            found.points,
            found.excluded,
            self._units,
            self._first_unit,
            self._last_unit,
            self._behind,
        )

    def _kept(self, found: _Periods) -> _Periods:
        """Without unusual periods where a request asks for that, the last ones that decide."""
        requests = self._requests
        outliers = requests.exclude_outliers[found.request]
        if outliers.any():
            found = found.some(~outliers | _usual(found))
        count = np.bincount(found.request, minlength=len(requests))
        ends = np.cumsum(count)
        from_end = ends[found.request] - np.arange(len(found.request))
        late = from_end <= requests.keep[found.request]
        return found if late.all() else found.some(late)

    def _periods(self, strands: _Strands) -> Iterator[_Periods]:
        """The periods of requests whose windows and periods are as long as each other's, one kind after the other."""
        requests = self._requests
        numbers = np.flatnonzero(strands.selections.of_request >= 0)
        if not len(numbers) or not len(strands.good.time):
            return
        kinds = np.stack((self._starts[numbers], requests.period[numbers]))
        distinct, of = np.unique(kinds, axis=1, return_inverse=True)
        of = of.ravel()
        for kind in range(distinct.shape[1]):
            start, period = (int(each) for each in distinct[:, kind])
            yield from _Kind(self, strands, numbers[of == kind], start, period).periods()

    @property
    def requests(self) -> Requests:
        """What is asked for."""
        return self._requests

    @property
    def end(self) -> int:
        """The end of the windows, µs."""
        return self._end

    def note_units(self, numbers: Ints, first: Ints, last: Ints) -> None:
        """Take the units of the points of some requests."""
        self._first_unit[numbers], self._last_unit[numbers] = first, last

    def note_behind(self, behind: _Behind) -> None:
        """Take which series are behind the windows of some requests."""
        self._behind.append(behind)


def _usual(found: _Periods) -> Flags:
    """Which periods have about as many points as the others of their request: Aodh's `exclude_outliers`."""
    heads = _heads(found.request)
    count = np.diff(np.append(heads, len(found.request)))
    mean = np.add.reduceat(found.points, heads) / count if len(heads) else np.zeros(0)
    off = found.points - np.repeat(mean, count)
    spread = np.sqrt(np.add.reduceat(off * off, heads) / count) if len(heads) else np.zeros(0)
    reach, mean = np.repeat(2 * spread, count), np.repeat(mean, count)
    usual: Flags = (found.points >= mean - reach) & (found.points <= mean + reach)
    return usual


class _Kind:
    """Requests with the same start and length of periods, and the points in their windows."""

    def __init__(self, answer: _Answer, strands: _Strands, numbers: Ints, start: int, period: int) -> None:
        self._answer, self._strands, self._numbers = answer, strands, numbers
        self._start, self._micros = start, period * 1_000_000
        good = strands.good
        inside = (good.time >= start) & (good.time <= answer.end)
        self._rows: Any = slice(None) if inside.all() else np.flatnonzero(inside)
        self._owner = good.place[self._rows].astype(np.int64)
        self._time = good.time[self._rows]
        self._bucket = (self._time - start) // self._micros
        self._volume = good.volume[self._rows]

    def periods(self) -> Iterator[_Periods]:
        """The periods of the requests, those that are computed from cells apart."""
        if not len(self._owner):
            return
        requests = self._answer.requests
        by_cells = np.isin(requests.statistic[self._numbers], [_CODES[name] for name in _OF_CELLS])
        by_cells &= requests.over[self._numbers] == NOTHING
        cells = self._cells(bool(np.isin(requests.statistic[self._numbers], [_CODES[n] for n in _COUNTERS]).any()))
        first = np.searchsorted(cells.owner, np.arange(len(self._strands.series_id) + 1))
        self._note(first)
        if by_cells.any():
            yield self._from_cells(self._numbers[by_cells], cells, first)
        others = self._numbers[~by_cells]
        for statistic, over in sorted(set(zip(requests.statistic[others], requests.over[others], strict=True))):
            same = (requests.statistic[others] == statistic) & (requests.over[others] == over)
            yield self._from_points(others[same], int(statistic), int(over))

    @cached_property
    def _increase(self) -> Floats | None:
        """How much each point changes its meter; NaN if it rests on a gauge's point from before the window."""
        good = self._strands.good
        if good.increase is None or good.since is None:
            return None
        return np.where(good.since[self._rows] >= self._start, good.increase[self._rows], np.nan)

    def _cells(self, increases: bool) -> _Cells:
        heads = _heads(self._owner, self._bucket)
        increase = self._increase if increases else None
        return _Cells(
            self._owner[heads],
            self._bucket[heads],
            np.diff(np.append(heads, len(self._owner))),
            np.add.reduceat(self._volume, heads),
            np.minimum.reduceat(self._volume, heads),
            np.maximum.reduceat(self._volume, heads),
            None if increase is None else _sum_of_known(increase, heads),
        )

    @cached_property
    def _chosen(self) -> Ints:
        """The selections of the requests, each once."""
        found: Ints = np.unique(self._strands.selections.of_request[self._numbers])
        return found

    @cached_property
    def _members(self) -> tuple[Ints, Ints]:
        """The strands of the selections, one after the other, and of which selection each is: a place in `_chosen`."""
        rows, of = _spread(self._strands.selections.first, self._chosen)
        return self._strands.selections.members[rows], of

    def _note(self, first: Ints) -> None:
        """Tell the answer which units and series the requests have."""
        strand, of = self._members
        has = first[strand + 1] > first[strand]
        unit = self._strands.unit[strand[has]]
        low, high = np.full(len(self._chosen), -1, np.int64), np.full(len(self._chosen), -1, np.int64)
        heads = _heads(of[has])
        if len(heads):
            owner = of[has][heads]
            low[owner], high[owner] = np.minimum.reduceat(unit, heads), np.maximum.reduceat(unit, heads)
        at = np.searchsorted(self._chosen, self._strands.selections.of_request[self._numbers])
        self._answer.note_units(self._numbers, low[at], high[at])
        wanted = np.zeros(len(self._answer.requests), np.bool_)
        wanted[self._numbers] = True
        seen = first[self._strands.selections.members + 1] > first[self._strands.selections.members]
        self._answer.note_behind(_Behind(self._strands.selections, wanted, seen, self._strands.series_id))

    def _from_cells(self, numbers: Ints, cells: _Cells, first: Ints) -> _Periods:
        """The periods of requests whose statistic can be put together from the figures of series."""
        strand, of = self._members
        rows, member = _spread(first, strand)
        found = cells.together(of[member], rows) if len(rows) else cells.together(of[:0], rows)
        excluded = self._excluded(found.owner, found.bucket)
        starts = np.searchsorted(found.owner, np.arange(len(self._chosen) + 1))
        at = np.searchsorted(self._chosen, self._strands.selections.of_request[numbers])
        rows, request = _spread(starts, at)
        return self._periods_of(
            numbers[request],
            found.bucket[rows],
            self._values(found, rows, self._answer.requests.statistic[numbers][request]),
            found.points[rows],
            excluded[rows],
        )

    def _periods_of(self, request: Ints, bucket: Ints, value: Floats, points: Ints, excluded: Ints) -> _Periods:
        """The periods, without those whose statistic has no value, such as the increase of a single point."""
        made = _Periods(request, self._start + bucket * self._micros, value, points, excluded)
        lacking = np.isnan(value)
        return made.some(~lacking) if lacking.any() else made

    def _values(self, cells: _Cells, rows: Ints, statistic: npt.NDArray[np.int8]) -> Floats:
        """A statistic of each of some cells."""
        value = np.empty(len(rows))
        for code in np.unique(statistic).tolist():
            at: Any = slice(None) if (statistic == code).all() else np.flatnonzero(statistic == code)
            value[at] = self._value(STATISTICS[code], cells, rows[at])
        return value

    def _value(self, statistic: str, cells: _Cells, rows: Ints) -> Any:
        match statistic:
            case "avg":
                return cells.total[rows] / cells.points[rows]
            case "min":
                return cells.least[rows]
            case "max":
                return cells.most[rows]
            case "sum":
                return cells.total[rows]
            case "count":
                return cells.points[rows]
            case _ if cells.increase is None:
                return np.nan
            case "increase":
                return cells.increase[rows]
            case _:
                begin = self._start + cells.bucket[rows] * self._micros
                length = np.minimum(begin + self._micros, self._answer.end) - begin
                return cells.increase[rows] / np.maximum(length, 1) * 1e6

    def _excluded(self, owner: Ints, bucket: Ints) -> Ints:
        """How many excluded points each of some periods of selections has; they are in order."""
        points = self._strands.excluded
        inside = (points.time >= self._start) & (points.time <= self._answer.end)
        found = np.zeros(len(owner), np.int64)
        if not inside.any() or not len(owner):
            return found
        place = points.place[inside].astype(np.int64)
        number = (points.time[inside] - self._start) // self._micros
        first = np.searchsorted(place, np.arange(len(self._strands.series_id) + 1))
        strand, of = self._members
        rows, member = _spread(first, strand)
        size = int(max(bucket.max(), number.max())) + 1
        keys = owner * size + bucket
        bad = of[member] * size + number[rows]
        at = np.minimum(np.searchsorted(keys, bad), len(keys) - 1)
        hit = keys[at] == bad
        np.add.at(found, at[hit], 1)
        return found

    def _from_points(self, numbers: Ints, statistic: int, over: int) -> _Periods:
        """The periods of requests with one statistic that needs the points themselves, or by series first."""
        strand, of = self._members
        first = np.searchsorted(self._owner, np.arange(len(self._strands.series_id) + 1))
        rows, member = _spread(first, strand)
        owner, bucket = of[member], self._bucket[rows]
        if over != NOTHING:
            _, of_series = np.unique(self._strands.series_id[strand[member]], return_inverse=True)
            groups = owner * (int(of_series.max(initial=0)) + 1) + of_series
            by_series = self._grouped(statistic, groups, bucket, rows)
            of_group = by_series.owner // (int(of_series.max(initial=0)) + 1)
            order, heads = _grouped(of_group, by_series.bucket)
            of_group, bucket = of_group[order], by_series.bucket[order]
            value = _statistic(STATISTICS[over], heads, by_series.value[order], by_series.bucket[order] * 0)
            found = _Values(of_group[heads], bucket[heads], value, _sums(by_series.points[order], heads))
        else:
            found = self._grouped(statistic, owner, bucket, rows)
        excluded = self._excluded(found.owner, found.bucket)
        starts = np.searchsorted(found.owner, np.arange(len(self._chosen) + 1))
        at = np.searchsorted(self._chosen, self._strands.selections.of_request[numbers])
        rows, request = _spread(starts, at)
        return self._periods_of(
            numbers[request], found.bucket[rows], found.value[rows], found.points[rows], excluded[rows]
        )

    def _grouped(self, statistic: int, owner: Ints, bucket: Ints, rows: Ints) -> "_Values":
        """A statistic of points by owner and bucket; without those that have none."""
        order = np.lexsort((self._time[rows], bucket, owner))
        owner, bucket, rows = owner[order], bucket[order], rows[order]
        heads = _heads(owner, bucket)
        points = np.diff(np.append(heads, len(owner)))
        name = STATISTICS[statistic]
        if name in _COUNTERS:
            increase = self._increase
            counter = np.full(len(rows), np.nan) if increase is None else increase[rows]
            value = _sum_of_known(counter, heads)
            if name == "rate":
                begin = self._start + bucket[heads] * self._micros
                value = value / np.maximum(np.minimum(begin + self._micros, self._answer.end) - begin, 1) * 1e6
        else:
            value = _statistic(name, heads, self._volume[rows], self._time[rows])
        there = ~np.isnan(value)
        return _Values(owner[heads][there], bucket[heads][there], value[there], points[there])


@dataclass(frozen=True)
class _Values:
    """A statistic by owner and bucket, in order, and of how many points it is."""

    owner: Ints
    bucket: Ints
    value: Floats
    points: Ints


def _sums(values: npt.NDArray[Any], heads: Ints) -> npt.NDArray[Any]:
    return np.add.reduceat(values, heads) if len(heads) else values[:0]


def _sum_of_known(values: Floats, heads: Ints) -> Floats:
    """The sum of each group of values without those that are NaN; NaN if all are."""
    known = ~np.isnan(values)
    total = _sums(np.where(known, values, 0.0), heads)
    return np.where(_sums(known.astype(np.int64), heads) > 0, total, np.nan)


def _statistic(name: str, heads: Ints, values: Floats, time: Ints) -> Floats:
    """A statistic of each group of values, which are in order of time."""
    if not len(heads):
        return np.zeros(0)
    count = np.diff(np.append(heads, len(values)))
    match name:
        case "count":
            return count.astype(np.float64)
        case "sum" | "increase":
            return _sums(values, heads)
        case "avg" | "rate":
            return np.asarray(_sums(values, heads) / count, np.float64)
        case "min":
            return np.asarray(np.minimum.reduceat(values, heads))
        case "max":
            return np.asarray(np.maximum.reduceat(values, heads))
        case "first":
            return values[heads]
        case "last":
            return values[heads + count - 1]
        case "stddev":
            off = values - np.repeat(_sums(values, heads) / count, count)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(np.sqrt(_sums(off * off, heads) / (count - 1)))
        case _:  # the median
            group = np.repeat(np.arange(len(heads)), count)
            ordered = values[np.lexsort((values, group))]
            return np.asarray((ordered[heads + (count - 1) // 2] + ordered[heads + count // 2]) / 2)
