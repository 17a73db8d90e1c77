"""What pollsters say of billable resources, by the roll-ups of good points: when one had samples, and what it was.

Notifications yield samples of some of these meters too. Of those meters, only days with more points than notifications
about the resource count.
"""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from heapq import nsmallest
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import sql_files, times
from meterhouse.definitions.resources import ATTRIBUTES, SIZE_UNITS, SIZES, Resources, ResourceType
from meterhouse.definitions.units import Units
from meterhouse.site import Site
from meterhouse.stores.bulk_read import bulk_read
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import metadata_changes, resource_metadata, series
from meterhouse.usage.timelines import HOUR, Fact
from meterhouse.verification import VERIFY

Key = tuple[str, str]
"""Type and id of a resource."""

_PLACES: Final = {name: place for place, name in enumerate((*ATTRIBUTES, *SIZES))}
_OF_SIZES: Final = frozenset(_PLACES[name] for name in SIZES)
_SERIES: Final = pa.schema(
    [
        ("series_id", pa.int64()),
        *[(name, pa.string()) for name in ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")],
    ]
)
_CHUNK: Final = 500
_SERIES_AT_ONCE: Final = 50_000
_WITNESSES: Final = 8
"""How many series of a type, those with the most points, tell when its pollsters paused."""

_TOLD: Final = ["resource_type", "resource_id", "event_type", "said_at", "from_at", "to_at", "reports"]


def facts(
    site: Site, start: datetime, end: datetime, resources: Resources, units: Units, told: Sequence[pa.Table]
) -> dict[Key, list[Fact]]:
    """The facts of [start, end), by resource, each list in the order of time.

    Args:
        site: the site.
        start, end: whole days, UTC.
        resources: the types of resources.
        units: converts sizes.
        told: the evidence of the span, columns of `EVIDENCE`.
    """
    kinds = _kinds_of_meters(site, resources)
    if not kinds:
        return {}
    known = _series(site, start, end, kinds)
    if not known.num_rows:
        return {}
    return _Month(site, start, end, kinds, units).facts(known, told)


def has_polls(site: Site, resources: Resources) -> bool:
    """Whether any meter of the site measures a billable resource."""
    return bool(_kinds_of_meters(site, resources))


def _kinds_of_meters(site: Site, resources: Resources) -> dict[str, ResourceType]:
    with site.warehouse.read() as connection:
        meters = connection.execute(select(series.c.meter).distinct()).scalars().all()
    return {meter: kind for meter in meters for kind in resources.types if kind.polls.measures(meter)}


def _series(site: Site, start: datetime, end: datetime, kinds: Mapping[str, ResourceType]) -> pa.Table:
    columns = (
        *(series.c.series_id, series.c.source, series.c.meter, series.c.type, series.c.unit),
        *(series.c.resource_id, series.c.project_id, series.c.user_id),
    )
    found = select(*columns).where(
        series.c.meter.in_(list(kinds)),
        series.c.source != VERIFY,
        series.c.resource_id.is_not(None),
        series.c.first_point_at < end,
        series.c.last_point_at >= start - times.HOUR,
    )
    with site.warehouse.read() as connection:
        made = bulk_read(connection, found, _SERIES)
    meters = made["meter"].combine_chunks().dictionary_encode()
    types_of = pa.array([kinds[meter].type for meter in meters.dictionary.to_pylist()], pa.string())
    return made.append_column("resource_type", types_of.take(meters.indices))


def _days(start: datetime, end: datetime) -> list[date]:
    return [(start + timedelta(days=n)).date() for n in range((end - start).days)]


@dataclass
class _Run:
    """What a series said from one point to another: some of the values, by place."""

    first: int
    last: int
    points: int
    step: int
    values: dict[int, Any]
    meter: str
    source: str


class _Month:
    """The polls of a month.

    Args:
        site: the site.
        start, end: whole days, UTC.
        kinds: meter → the type of resource that it measures.
        units: converts sizes.
    """

    def __init__(
        self, site: Site, start: datetime, end: datetime, kinds: Mapping[str, ResourceType], units: Units
    ) -> None:
        self.site, self.start, self.end, self.kinds, self.units = site, start, end, kinds, units

    def facts(self, known: pa.Table, told: Sequence[pa.Table]) -> dict[Key, list[Fact]]:
        """The facts of the series of a table, by resource."""
        rolled = self._query(86400, "lake/polled_months.sql", known=known.select(["series_id"]))
        rolled = self._without_notifications(known, rolled, told)
        if not rolled.num_rows:
            return {}
        rolled = _by_resource(known, rolled)
        sizes = {meter: _size_of(kind, meter) for meter, kind in self.kinds.items()}
        sized = pa.array([meter for meter, size in sizes.items() if size is not None], pa.string())
        varying = rolled.filter(
            pc.and_(pc.fill_null(pc.not_equal(rolled["low"], rolled["high"]), False), pc.is_in(rolled["meter"], sized))
        )
        described = self._metadata(rolled["series_id"])
        changing = {series_id for series_id, told_of in described.items() if len(told_of) > 1}
        changing.update(varying["series_id"].to_pylist())
        witnesses = _witnesses(*(rolled[name].to_pylist() for name in ("resource_type", "series_id", "points")))
        hours = self._hours(sorted(changing.union(*witnesses.values())))
        changed = rolled.filter(pc.is_in(rolled["series_id"], pa.array(sorted(changing), pa.int64())))
        said = _said(told, set(zip(*(changed[name].to_pylist() for name in _KEY), strict=True)))
        usual = _usual_steps(rolled)
        pauses = {}
        for type_, of_type in witnesses.items():
            longest = max((step for meter, step in usual.items() if self.kinds[meter].type == type_), default=0)
            pauses[type_] = _pauses([hours.get(series_id, []) for series_id in of_type], longest)
        hours = {series_id: said_in for series_id, said_in in hours.items() if series_id in changing}
        facts: dict[Key, list[Fact]] = {}
        current: Key | None = None
        runs: list[_Run] = []
        for row in _rows_of(rolled):
            if row.key != current:
                if current is not None:
                    facts[current] = _beside(_joined(_with_sizes(runs)), pauses[current[0]])
                current, runs = row.key, []
            first, last, meter = row.first, row.last, row.meter
            step = row.step or usual.get(meter, 0)  # of one point, no step is known
            polled = [each for each in hours.get(row.series_id, ()) if each[0] not in said.get(row.key, ())]
            if polled:  # the last point may be a notification's
                last = min(last, polled[-1][0])
            owner = {_PLACES["project_id"]: row.project_id, _PLACES["user_id"]: row.user_id}
            runs.append(_Run(first, last, row.points, step, owner, meter, row.source))
            size = sizes[meter] if row.type == "gauge" else None  # a delta is what it grew by
            factor = self.units.factor(row.unit, SIZE_UNITS.get(size)) if size is not None else None
            if size is not None and factor is not None:
                for since, until, volume in (_volumes(polled) if row.low != row.high else []) or [
                    (first, last, row.low)
                ]:
                    value = {_PLACES[size]: volume * factor.numerator / factor.denominator}
                    runs.append(_Run(since, until, 2, step, value, meter, row.source))
            told_of = [each for each in described.get(row.series_id, ()) if each[0] not in said.get(row.key, ())]
            for number, (moment, metadata) in enumerate(told_of):
                following = last
                if number + 1 < len(told_of):
                    place = bisect_left(polled, told_of[number + 1][0], key=lambda point: point[0])
                    following = polled[place - 1][0] if place else moment
                since = min(max(moment, first), last)
                named = _described(metadata, self.kinds[meter])
                values = {_PLACES[name]: value for name, value in named.items()}
                runs.append(_Run(since, max(since, min(following, last)), 2, step, values, meter, row.source))
        if current is not None:
            facts[current] = _beside(_joined(_with_sizes(runs)), pauses[current[0]])
        return facts

    def _query(self, granularity: int, name: str, **tables: pa.Table) -> pa.Table:
        days = _days(self.start, self.end)
        files = self.site.lake.files("rollups", partitions={"granularity_s": [granularity], "event_day": days})
        text = sql_files.read(name).replace("$start", f"TIMESTAMPTZ '{self.start.isoformat()}'")
        with self.site.lake.connect() as duck:
            for table, rows in tables.items():
                duck.register(table, rows)
            self.site.lake.view(duck, "rollups", files)
            return arrow(duck, text.replace("$end", f"TIMESTAMPTZ '{self.end.isoformat()}'"))

    def _without_notifications(self, known: pa.Table, rolled: pa.Table, told: Sequence[pa.Table]) -> pa.Table:
        """The rows of polls: without series of which all points are those of notifications, or most days' are."""
        if not told or not rolled.num_rows:
            return rolled
        evidence = pa.concat_tables([part.select(_TOLD) for part in told])
        # A notification's sample has the unit of its definition. A series in another unit is a pollster's.
        yields = [
            (event_type, f"{meter.name} {meter.literals.get('unit')}")
            for event_type in pc.unique(evidence["event_type"]).to_pylist()
            for meter in self.site.definitions.meters.meters
            if meter.name in self.kinds and meter.matches(event_type)
        ]
        if not yields:
            return rolled
        made = pa.table([[each[0] for each in yields], [each[1] for each in yields]], ["event_type", "meter"])
        about = known.take(pa.array(_places(known["series_id"], rolled["series_id"])))
        spelt = [
            f"{meter} {unit}" for meter, unit in zip(*(about[n].to_pylist() for n in ("meter", "unit")), strict=True)
        ]
        place = about.column_names.index("meter")
        shared = about.set_column(place, "meter", pa.array(spelt, pa.string())).append_column(
            "points", rolled["points"]
        )
        with self.site.lake.connect() as duck:
            duck.register("told", evidence)
            duck.register("made", made)
            duck.execute(f"CREATE TEMP TABLE notified AS {sql_files.read('lake/polled_told.sql')}")
            duck.register("shared", shared)
            left = arrow(
                duck,
                "SELECT s.series_id, s.resource_type, s.resource_id, s.meter, n.notifications, "
                "sum(s.points) OVER (PARTITION BY s.resource_type, s.resource_id, s.meter) > n.notifications AS polled "
                "FROM shared AS s JOIN notified AS n USING (resource_type, resource_id, meter)",
            )
        if not left.num_rows:
            return rolled
        others = rolled.filter(pc.invert(pc.is_in(rolled["series_id"], left["series_id"])))
        polled = left.filter(left["polled"])
        if not polled.num_rows:
            return others
        names = ["series_id", "resource_type", "resource_id", "meter"]
        days = self._query(86400, "lake/polled_days.sql", known=polled.select(names), told=evidence, made=made)
        return pa.concat_tables([others, days.select(others.column_names).cast(others.schema)])

    def _hours(self, series_ids: list[int]) -> dict[int, list[tuple[int, float]]]:
        """The first and the last volume of each hour of series: (time, volume), in order."""
        if not series_ids:
            return {}
        wanted = pa.table({"series_id": pa.array(series_ids, pa.int64())})
        rows = self._query(3600, "lake/polled_hours.sql", varying=wanted)
        found: dict[int, list[tuple[int, float]]] = defaultdict(list)
        columns = (rows[name].to_pylist() for name in rows.column_names)
        for series_id, first_at, first, last_at, last in zip(*columns, strict=True):
            found[series_id] += [
                (moment, volume) for moment, volume in ((first_at, first), (last_at, last)) if volume is not None
            ]
        return found

    def _metadata(self, series_ids: pa.ChunkedArray) -> dict[int, list[tuple[int, dict[str, Any]]]]:
        """What the metadata of series became in the span: (time, metadata) in the order of time."""
        if not any(kind.polls.metadata for kind in self.kinds.values()):
            return {}
        changed = (
            select(metadata_changes.c.series_id, metadata_changes.c.valid_from, metadata_changes.c.metadata_id)
            .where(metadata_changes.c.valid_from >= self.start, metadata_changes.c.valid_from < self.end)
            .order_by(metadata_changes.c.series_id, metadata_changes.c.valid_from)
        )
        kinds = pa.schema([("series_id", pa.int64()), ("valid_from", TIME), ("metadata_id", pa.int64())])
        with self.site.warehouse.read() as connection:
            rows = bulk_read(connection, changed, kinds)
            rows = rows.filter(pc.is_in(rows["series_id"], series_ids.combine_chunks()))
            texts = {}
            ids = sorted(pc.unique(rows["metadata_id"]).to_pylist())
            for at in range(0, len(ids), _CHUNK):
                some = select(resource_metadata).where(resource_metadata.c.metadata_id.in_(ids[at : at + _CHUNK]))
                texts.update({row.metadata_id: row.metadata for row in connection.execute(some)})
        read = {metadata_id: _object(text) for metadata_id, text in texts.items()}
        found: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        moments = rows["valid_from"].cast(pa.int64()).to_pylist()
        for series_id, moment, metadata_id in zip(
            rows["series_id"].to_pylist(), moments, rows["metadata_id"].to_pylist(), strict=True
        ):
            found[series_id].append((moment, read.get(metadata_id, {})))
        return found


_KEY: Final = ("resource_type", "resource_id")


class _Series(NamedTuple):
    """A series in a month."""

    key: Key
    series_id: int
    meter: str
    type: str
    unit: str | None
    source: str
    project_id: str | None
    user_id: str | None
    first: int
    last: int
    points: int
    low: float
    high: float
    step: int


def _by_resource(known: pa.Table, rolled: pa.Table) -> pa.Table:
    """Rolled-up series with what is known of them, those of a resource together."""
    about = known.take(pa.array(_places(known["series_id"], rolled["series_id"])))
    for name in about.column_names[1:]:
        rolled = rolled.append_column(name, about[name])
    return rolled.sort_by([(name, "ascending") for name in (*_KEY, "series_id")])


def _rows_of(rolled: pa.Table) -> Iterator[_Series]:
    for start in range(0, rolled.num_rows, _SERIES_AT_ONCE):
        part = rolled.slice(start, _SERIES_AT_ONCE)
        keys = zip(*(part[name].to_pylist() for name in _KEY), strict=True)
        names = (
            *("series_id", "meter", "type", "unit", "source", "project_id", "user_id"),
            *("first_at", "last_at", "points", "low", "high", "step"),
        )
        yield from map(_Series, keys, *(part[name].to_pylist() for name in names))


def _usual_steps(rolled: pa.Table) -> dict[str, int]:
    """The median step of the series of each meter, in µs."""
    some = rolled.filter(pc.fill_null(pc.not_equal(rolled["step"], 0), False)).select(["meter", "step"])
    some = some.sort_by([("meter", "ascending"), ("step", "ascending")])
    starts, counts = pc.run_end_encode(some["meter"].combine_chunks()), 0
    found: dict[str, int] = {}
    for meter, end in zip(starts.values.to_pylist(), starts.run_ends.to_pylist(), strict=True):
        found[meter] = some["step"][counts + (end - counts) // 2].as_py()
        counts = end
    return found


def _witnesses(types: Sequence[str], series_ids: Sequence[int], points: Sequence[int]) -> dict[str, list[int]]:
    """By type of resource, the series with the most points."""
    of_type: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for kind, series_id, count in zip(types, series_ids, points, strict=True):
        of_type[kind].append((-count, series_id))
    return {kind: [series_id for _, series_id in nsmallest(_WITNESSES, some)] for kind, some in of_type.items()}


def _pauses(witnesses: Sequence[Sequence[tuple[int, float]]], step: int) -> list[tuple[int, int]]:
    """When no witness had a point for more than two steps, and an hour: (last point before, first point after), µs.

    Args:
        witnesses: the first and the last point of each hour of some series.
        step: from one point to the next, µs.
    """
    moments = sorted({moment for points in witnesses for moment, _ in points})
    longest = max(2 * step, HOUR)
    return [(before, after) for before, after in pairwise(moments) if after - before > longest]


def _beside(facts: list[Fact], pauses: Sequence[tuple[int, int]]) -> list[Fact]:
    """Facts with the pause of pollsters before their first point, and after their last."""
    if not pauses:
        return facts
    made = []
    for fact in facts:
        near = 2 * fact.step
        first = fact.at if fact.from_at is None else fact.from_at
        since = next((begun for begun, ended in pauses if ended - near <= first <= ended + near), 0)
        until = next((ended for begun, ended in pauses if begun - near <= fact.at < ended), 0)
        made.append(fact._replace(quiet_since=since, quiet_until=until))
    return made


def _said(told: Sequence[pa.Table], wanted: set[Key]) -> dict[Key, set[int]]:
    """When notifications about some resources were sent."""
    found: dict[Key, set[int]] = defaultdict(set)
    if not wanted:
        return found
    ids = pa.array(sorted({key[1] for key in wanted}), pa.string())
    for part in told:
        some = part.select(["resource_type", "resource_id", "said_at"])
        some = some.filter(pc.is_in(some["resource_id"], ids))
        kinds, names, moments = (some[name].to_pylist() for name in ("resource_type", "resource_id", "said_at"))
        for kind, name, moment in zip(kinds, names, moments, strict=True):
            if (kind, name) in wanted and moment is not None:
                found[kind, name].add(times.micros(moment))
    return found


def _volumes(points: Sequence[tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Points as stretches of the same volume: (first time, last time, volume)."""
    found: list[tuple[int, int, float]] = []
    for moment, volume in points:
        if found and found[-1][2] == volume:
            found[-1] = (found[-1][0], moment, volume)
        else:
            found.append((moment, moment, volume))
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _described(metadata: Mapping[str, Any], kind: ResourceType) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, paths in kind.polls.metadata.items():
        for path in paths:
            value: Any = metadata
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is None or value == "" or isinstance(value, (dict, list)):
                continue
            if name in ATTRIBUTES:
                said[name] = str(value)
                break
            try:
                said[name] = float(value)
            except (TypeError, ValueError):
                continue
            break
    return said


def _places(among: pa.ChunkedArray, wanted: pa.ChunkedArray) -> Any:
    """Where the wanted ids are among others, which are each there once."""
    ids = among.to_numpy()
    order = np.argsort(ids)
    return order[np.searchsorted(ids[order], wanted.to_numpy())]


def _size_of(kind: ResourceType, meter: str) -> str | None:
    return next((size for size, gauge in kind.polls.sizes.items() if gauge == meter), None)


def _joined(runs: list[_Run]) -> list[Fact]:
    """Runs of the series of a resource as facts: what they say over the same time without contradiction is one fact.

    The last one has the sizes that some runs told, but none until the end.
    """
    facts = _merged(runs)
    last = max(run.last for run in runs)
    told = {place: max(run.last for run in runs if run.values.get(place) is not None) for place in _told(runs)}
    stale = tuple(sorted((place, at) for place, at in told.items() if place in _OF_SIZES and at < last))
    return [*facts[:-1], facts[-1]._replace(stale=stale)] if stale else facts


def _told(runs: Sequence[_Run]) -> set[int]:
    return {place for run in runs for place, value in run.values.items() if value is not None}


def _merged(runs: list[_Run]) -> list[Fact]:
    merged: dict[int, Any] = {}
    for run in runs:
        for place, value in run.values.items():
            if value is not None and merged.setdefault(place, value) != value:
                # What is new is known from its first point on; the last one says how long it stayed.
                begun = [replace(run, last=run.first, points=1) for run in runs if run.last > run.first]
                ordered = sorted(
                    [*runs, *begun],
                    key=lambda run: (run.last, run.first, run.meter, sorted(map(str, run.values.items()))),
                )
                return [_fact(run) for run in ordered if any(value is not None for value in run.values.values())]
    longest = max(runs, key=lambda run: (run.points, run.step, run.meter))
    first, last = min(run.first for run in runs), max(run.last for run in runs)
    return [_fact(_Run(first, last, longest.points, longest.step, merged, longest.meter, runs[0].source))]


def _with_sizes(runs: list[_Run]) -> list[_Run]:
    """Runs in which a size holds as long as the resource has samples, if those of the size came until shortly before.

    That is: until the hour of the last sample, or not more than two of the size's steps before it.
    """
    last = max(run.last for run in runs)
    made = list(runs)
    for place in _OF_SIZES & _told(runs):
        telling = [at for at, run in enumerate(made) if run.values.get(place) is not None]
        if telling:
            newest = max(telling, key=lambda at: made[at].last)
            run = made[newest]
            if run.last < last and (run.last // HOUR == last // HOUR or last - run.last <= 2 * run.step):
                made[newest] = replace(run, last=last)
    return made


def _fact(run: _Run) -> Fact:
    values: list[Any] = [None] * 14
    for place, value in run.values.items():
        values[place] = value
    evidence, last_evidence = (
        f"{run.meter}@{times.text(times.EPOCH + timedelta(microseconds=at))}" for at in (run.first, run.last)
    )
    return Fact(
        run.last,
        "poll",
        run.first,
        run.last,
        run.points,
        None,
        None,
        None,
        tuple(values),
        evidence,
        last_evidence,
        run.meter,
        "",
        run.source,
        run.step,
    )
