"""What pollsters say of billable resources, by the roll-ups of good points: when one had samples, and what it was.

Samples that notifications yield are no polls. Where a meter comes from both, as many points as there was evidence of a
resource are taken to be those of notifications.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlalchemy import select

from meterhouse import times
from meterhouse.definitions.resources import ATTRIBUTES, SIZE_UNITS, SIZES, Resources, ResourceType
from meterhouse.definitions.units import Units
from meterhouse.site import Site
from meterhouse.stores.duck import arrow
from meterhouse.stores.warehouse_tables import metadata_changes, resource_metadata, series
from meterhouse.usage.evidence import VERIFY
from meterhouse.usage.timelines import Fact

Key = tuple[str, str]
"""Type and id of a resource."""

_PLACES: Final = {name: place for place, name in enumerate((*ATTRIBUTES, *SIZES))}
_CHUNK: Final = 500


def facts(
    site: Site, start: datetime, end: datetime, resources: Resources, units: Units, told: Mapping[tuple[Key, str], int]
) -> dict[Key, list[Fact]]:
    """The facts of [start, end), by resource, each list in the order of time.

    Args:
        site: the site.
        start, end: whole days, UTC.
        resources: the types of resources.
        units: converts sizes.
        told: how many notifications about a resource have yielded a sample of a meter.
    """
    kinds = _kinds_of_meters(site, resources)
    if not kinds:
        return {}
    known = _series(site, start, end, list(kinds))
    if not known.num_rows:
        return {}
    rolled = _rolled(site, known, start, end)
    if not rolled.num_rows:
        return {}
    return _Facts(site, start, end, kinds, units, told).of(known, rolled)


def has_polls(site: Site, resources: Resources) -> bool:
    """Whether any meter of the site measures a billable resource."""
    return bool(_kinds_of_meters(site, resources))


def _kinds_of_meters(site: Site, resources: Resources) -> dict[str, ResourceType]:
    with site.warehouse.read() as connection:
        meters = connection.execute(select(series.c.meter).distinct()).scalars().all()
    return {meter: kind for meter in meters for kind in resources.types if kind.polls.measures(meter)}


def _series(site: Site, start: datetime, end: datetime, meters: list[str]) -> pa.Table:
    columns = (
        *(series.c.series_id, series.c.source, series.c.meter, series.c.unit),
        *(series.c.resource_id, series.c.project_id, series.c.user_id),
    )
    found = select(*columns).where(
        series.c.meter.in_(meters),
        series.c.resource_id.is_not(None),
        series.c.first_point_at < end,
        series.c.last_point_at >= start - times.HOUR,
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(found).all()
    names = [column.name for column in columns]
    kinds = [pa.int64(), *[pa.string()] * (len(names) - 1)]
    values: list[Any] = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table([pa.array(each, kind) for each, kind in zip(values, kinds, strict=True)], names)


_ROLLED: Final = """
SELECT
    r.series_id,
    epoch_us(min(r.first_at)) AS first_at,
    epoch_us(max(r.last_at)) AS last_at,
    sum(r.count)::BIGINT AS points,
    min(r.min) AS low,
    max(r.max) AS high,
    coalesce(median(r.cadence_s), 0) * 1000000 AS step
FROM rollups AS r
SEMI JOIN known AS s ON s.series_id = r.series_id
WHERE r.granularity_s = 86400 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
GROUP BY r.series_id
"""

_HOURS: Final = """
SELECT r.series_id, epoch_us(r.first_at) AS first_at, r.first, epoch_us(r.last_at) AS last_at, r.last
FROM rollups AS r
SEMI JOIN varying AS s ON s.series_id = r.series_id
WHERE r.granularity_s = 3600 AND r.count > 0 AND r.bucket >= $start AND r.bucket < $end
ORDER BY r.series_id, r.bucket
"""


def _days(start: datetime, end: datetime) -> list[date]:
    return [(start + timedelta(days=n)).date() for n in range((end - start).days)]


def _query(site: Site, granularity: int, start: datetime, end: datetime, sql: str, **tables: pa.Table) -> pa.Table:
    files = site.lake.files("rollups", partitions={"granularity_s": [granularity], "event_day": _days(start, end)})
    text = sql.replace("$start", f"TIMESTAMPTZ '{start.isoformat()}'").replace(
        "$end", f"TIMESTAMPTZ '{end.isoformat()}'"
    )
    with site.lake.connect() as duck:
        for name, table in tables.items():
            duck.register(name, table)
        site.lake.view(duck, "rollups", files)
        return arrow(duck, text)


def _rolled(site: Site, known: pa.Table, start: datetime, end: datetime) -> pa.Table:
    return _query(site, 86400, start, end, _ROLLED, known=known.select(["series_id"]))


class _Facts:
    def __init__(
        self,
        site: Site,
        start: datetime,
        end: datetime,
        kinds: Mapping[str, ResourceType],
        units: Units,
        told: Mapping[tuple[Key, str], int],
    ) -> None:
        self.site, self.start, self.end, self.kinds, self.units, self.told = site, start, end, kinds, units, told

    def of(self, known: pa.Table, rolled: pa.Table) -> dict[Key, list[Fact]]:
        series_ids = known["series_id"].to_numpy()
        order = np.argsort(series_ids)
        rolled_ids = rolled["series_id"].to_numpy()
        place = order[np.searchsorted(series_ids[order], rolled_ids)]
        about = known.take(pa.array(place))
        meters, names = about["meter"].to_pylist(), about["resource_id"].to_pylist()
        sources, unit_names = about["source"].to_pylist(), about["unit"].to_pylist()
        projects, users = about["project_id"].to_pylist(), about["user_id"].to_pylist()
        firsts, lasts = rolled["first_at"].to_pylist(), rolled["last_at"].to_pylist()
        points, steps = rolled["points"].to_pylist(), rolled["step"].to_pylist()
        lows, highs = rolled["low"].to_pylist(), rolled["high"].to_pylist()
        totals: dict[tuple[Key, str], int] = defaultdict(int)
        keys: list[Key] = [(self.kinds[meter].type, name) for meter, name in zip(meters, names, strict=True)]
        for key, meter, count in zip(keys, meters, points, strict=True):
            totals[key, meter] += count
        polled = [
            source != VERIFY and totals[key, meter] > self.told.get((key, meter), 0)
            for key, meter, source in zip(keys, meters, sources, strict=True)
        ]
        varying = [
            at
            for at, is_polled in enumerate(polled)
            if is_polled and lows[at] != highs[at] and self._size_of(meters[at]) is not None
        ]
        changes = self._sizes_by_hour(rolled_ids[varying].tolist())
        described = self._metadata(rolled_ids[[at for at, yes in enumerate(polled) if yes]].tolist())
        gathered: dict[Key, list[tuple[int, int, int, int, tuple[Any, ...], str, str]]] = {}
        for at, is_polled in enumerate(polled):
            if not is_polled:
                continue
            meter, key = meters[at], keys[at]
            said: list[tuple[int, dict[str, Any]]] = [(firsts[at], {"project_id": projects[at], "user_id": users[at]})]
            size = self._size_of(meter)
            if size is not None:
                factor = self.units.factor(unit_names[at], SIZE_UNITS.get(size))
                if factor is not None:
                    volumes = changes.get(int(rolled_ids[at])) or [(firsts[at], lows[at])]
                    for moment, volume in volumes:
                        said.append((moment, {size: volume * factor.numerator / factor.denominator}))
            kind = self.kinds[meter]
            for moment, metadata in described.get(int(rolled_ids[at]), ()):
                said.append((max(moment, firsts[at]), _described(metadata, kind)))
            runs = _runs(said, lasts[at])
            for first, last, values in runs:
                count = points[at] if len(runs) == 1 else 2
                row = (first, last, count, round(steps[at]), values, meter, sources[at])
                gathered.setdefault(key, []).append(row)
        return {key: _joined(rows) for key, rows in gathered.items()}

    def _size_of(self, meter: str) -> str | None:
        sizes = self.kinds[meter].polls.sizes
        return next((size for size, gauge in sizes.items() if gauge == meter), None)

    def _sizes_by_hour(self, series_ids: list[int]) -> dict[int, list[tuple[int, float]]]:
        """When the volume of a series changed, as far as the hours say: the first value, and each other one."""
        if not series_ids:
            return {}
        wanted = pa.table({"series_id": pa.array(series_ids, pa.int64())})
        rows = _query(self.site, 3600, self.start, self.end, _HOURS, varying=wanted)
        found: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for series_id, first_at, first, last_at, last in zip(
            *(rows[name].to_pylist() for name in rows.column_names), strict=True
        ):
            of_series = found[series_id]
            for moment, volume in ((first_at, first), (last_at, last)):
                if volume is not None and (not of_series or of_series[-1][1] != volume):
                    of_series.append((moment, volume))
        return found

    def _metadata(self, series_ids: list[int]) -> dict[int, list[tuple[int, dict[str, Any]]]]:
        """What the metadata of series became in the span: (time, metadata) in the order of time."""
        if not any(kind.polls.metadata for kind in self.kinds.values()):
            return {}
        wanted = set(series_ids)
        changed = (
            select(metadata_changes.c.series_id, metadata_changes.c.valid_from, metadata_changes.c.metadata_id)
            .where(metadata_changes.c.valid_from >= self.start, metadata_changes.c.valid_from < self.end)
            .order_by(metadata_changes.c.series_id, metadata_changes.c.valid_from)
        )
        with self.site.warehouse.read() as connection:
            rows = [row for row in connection.execute(changed).all() if row.series_id in wanted]
            texts = {}
            ids = sorted({row.metadata_id for row in rows})
            for at in range(0, len(ids), _CHUNK):
                some = select(resource_metadata).where(resource_metadata.c.metadata_id.in_(ids[at : at + _CHUNK]))
                texts.update({row.metadata_id: row.metadata for row in connection.execute(some)})
        read = {metadata_id: _object(text) for metadata_id, text in texts.items()}
        found: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for row in rows:
            found[row.series_id].append((times.micros(row.valid_from), read.get(row.metadata_id, {})))
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


def _runs(said: list[tuple[int, dict[str, Any]]], last: int) -> list[tuple[int, int, tuple[Any, ...]]]:
    """What a series said, as (first, last, values): each time at which it said something else starts a new run."""
    by_time: dict[int, dict[str, Any]] = {}
    for moment, values in said:
        by_time.setdefault(min(moment, last), {}).update(values)
    moments = sorted(by_time)
    runs = []
    for at, moment in enumerate(moments):
        told: list[Any] = [None] * 14
        for name, value in by_time[moment].items():
            told[_PLACES[name]] = value
        until = last if at == len(moments) - 1 else moments[at + 1] - 1
        runs.append((moment, max(moment, until), tuple(told)))
    return runs


def _joined(rows: list[tuple[int, int, int, int, tuple[Any, ...], str, str]]) -> list[Fact]:
    """Runs of the series of a resource as facts: what several meters say over the same time is one fact."""
    if len(rows) == 1:
        return [_fact(*rows[0])]
    first, last = min(row[0] for row in rows), max(row[1] for row in rows)
    merged: list[Any] = [None] * 14
    for row in rows:
        for place, value in enumerate(row[4]):
            if value is None:
                continue
            if merged[place] is not None and merged[place] != value:
                return [_fact(*row) for row in sorted(rows, key=lambda row: (row[1], row[0], row[5], str(row[4])))]
            merged[place] = value
    count, step, meter = max((row[2], row[3], row[5]) for row in rows)
    return [_fact(first, last, count, step, tuple(merged), meter, rows[0][6])]


def _fact(first: int, last: int, points: int, step: int, values: tuple[Any, ...], meter: str, source: str) -> Fact:
    evidence, last_evidence = (
        f"{meter}@{times.text(times.EPOCH + timedelta(microseconds=at))}" for at in (first, last)
    )
    return Fact(
        last, "poll", first, last, points, None, None, None, values, evidence, last_evidence, meter, "", source, step
    )


class MadeByNotifications(dict[str, list[str]]):
    """Event type → the meters of pollsters of which a notification of it yields a sample too, by the definitions."""

    def __init__(self, site: Site, resources: Iterable[ResourceType]) -> None:
        super().__init__()
        self._meters = site.definitions.meters.meters
        self._polls = [kind.polls for kind in resources]

    def __missing__(self, event_type: str) -> list[str]:
        names = [meter.name for meter in self._meters if meter.matches(event_type)]
        self[event_type] = [name for name in names if any(polls.measures(name) for polls in self._polls)]
        return self[event_type]
