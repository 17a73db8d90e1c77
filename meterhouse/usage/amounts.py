"""Usage: the periods of a span, and what counters grew by in it. Bills and usage reports are made of these.

The view `counted_periods` of the warehouse says until when a period counts, here and in reports: until something told
its end, or if samples alone tell of the resource, until the end of the hour of the last one. A resource counts once, in
however many series its measures lie: sizes are those of its periods; of a counter's series, those that measure at the
same time count once, and units are converted by the site's table.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import or_, select

from meterhouse import sql_files, times
from meterhouse.definitions.resources import SIZE_UNITS, SIZES
from meterhouse.definitions.resources import load as load_resources
from meterhouse.definitions.units import Units
from meterhouse.definitions.units import load as load_units
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.site import Site
from meterhouse.stores.bulk_read import bulk_read
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import counted_periods, series
from meterhouse.usage import described
from meterhouse.usage.buckets import Bucket, edges
from meterhouse.verification import VERIFY

_TEXTS: Final = (
    *("resource_type", "resource_id", "source", "project_id", "user_id", "name", "flavor", "state", "host", "zone"),
    *("image", "measures", "start_witness", "start_evidence", "end_witness", "end_evidence"),
)

PERIODS: Final = pa.schema(
    [
        *[(name, pa.string()) for name in _TEXTS],
        *[(name, pa.float64()) for name in SIZES],
        ("started_at", TIME),
        ("ended_at", TIME),
        ("goes_on", pa.bool_()),
        ("unconfirmed", pa.bool_()),
        ("confirmed_until", TIME),
        ("confirmed_by", pa.string()),
        ("metadata", pa.string()),
    ]
)
"""Stretches of time in which a resource was the same, within the span.

`ended_at` is not null; `goes_on` says that the resource existed beyond it. A change of its metadata ends a stretch.
"""

COUNTERS: Final = pa.schema(
    [
        *[(name, pa.string()) for name in ("meter", "unit", "resource_type", "resource_id", "project_id", "user_id")],
        ("metadata", pa.string()),
        ("hour", TIME),
        ("amount", pa.float64()),
    ]
)
"""By UTC hour, what counters grew by, across resets, and sums of deltas; in the units that the table converts to."""


@dataclass(frozen=True)
class Amounts:
    """What was used in a span.

    Attributes:
        start, end: the span, UTC; `end` is not after the present.
        periods: a table of schema PERIODS.
        counters: a table of schema COUNTERS.
        refused: what could not be counted, one line each.
    """

    start: datetime
    end: datetime
    periods: pa.Table
    counters: pa.Table
    refused: tuple[str, ...]


def of_span(
    site: Site,
    start: datetime,
    end: datetime,
    projects: Collection[str] | None = None,
    *,
    meters: Collection[str] | None = None,
    metadata: bool = True,
    units: Units | None = None,
) -> Amounts:
    """What was used in [start, end), as far as it is over.

    Args:
        site: the site; its periods and roll-ups are taken as they are.
        start, end: aware, in any zone.
        projects: only these; None for all.
        meters: the counters that are wanted; None for all.
        metadata: whether stretches and counters have the metadata of the time.
        units: the table that converts counters; None for the site's.
    """
    end = max(start, min(end, times.now()))
    units = units or load_units(site.settings.config_dir)
    with site.lake.connect() as duck:
        duck.register("plain", _periods(site, start, end, projects))
        history, texts = described.of_resources(site, start, end) if metadata else described.NOTHING
        duck.register("history", history)
        duck.register("texts", texts)
        periods = arrow(duck, sql_files.read("lake/described_periods.sql")).select(PERIODS.names).cast(PERIODS)
        known, refused = _counted(site, units, start, end, projects, meters)
        counters = COUNTERS.empty_table()
        if known.num_rows:
            carry = site.settings.carry_hours
            site.lake.view(duck, "rollups", _hourly_files(site, start - carry * times.HOUR, end))
            duck.register("known", known)
            text = sql_files.read("lake/counted_hours.sql")
            text = (
                text.replace("$carry", str(int(carry)))
                .replace("$start", _literal(times.hour_of(start)))
                .replace("$end", _literal(end))
            )
            counters = arrow(duck, text).select(COUNTERS.names).cast(COUNTERS)
    return Amounts(start, end, periods, counters, tuple(sorted(refused)))


def _literal(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat()}'"


def _periods(site: Site, start: datetime, end: datetime, projects: Collection[str] | None) -> pa.Table:
    """The periods that overlap the span, cut to it."""
    p = counted_periods.c
    names = [name for name in PERIODS.names if name not in ("goes_on", "metadata")]
    wanted = select(*(p["counted_until" if name == "ended_at" else name] for name in names)).where(
        p.started_at < end, or_(p.ended_at.is_(None), p.ended_at > start)
    )
    if projects is not None:
        wanted = wanted.where(p.project_id.in_(list(projects)))
    read = pa.schema([PERIODS.field(name) for name in names])
    with site.warehouse.read() as connection:
        found = bulk_read(connection, wanted, read)  # in order, SQLite would read all months
    begun, ended, since, until = found["started_at"], found["ended_at"], pa.scalar(start, TIME), pa.scalar(end, TIME)
    goes_on = pc.fill_null(pc.greater(ended, until), True)
    for name, column in (
        ("started_at", pc.if_else(pc.less(begun, since), since, begun)),
        ("ended_at", pc.if_else(goes_on, until, ended)),
    ):
        found = found.set_column(names.index(name), PERIODS.field(name), column)
    made = found.append_column("goes_on", goes_on)
    return made.filter(pc.less(made["started_at"], made["ended_at"]))


def _hourly_files(site: Site, start: datetime, end: datetime) -> list[str]:
    days = sorted({hour.date() for hour in times.hours_between(times.hour_of(start), end)})
    return site.lake.files("rollups", partitions={"granularity_s": [3600], "event_day": days})


def _counted(
    site: Site,
    units: Units,
    start: datetime,
    end: datetime,
    projects: Collection[str] | None,
    meters: Collection[str] | None,
) -> tuple[pa.Table, set[str]]:
    """The counters and deltas of the span, with the factor that converts each; and sizes that cannot be converted."""
    resources = load_resources(site.settings.config_dir)
    s = series.c
    columns = (s.series_id, s.meter, s.type, s.unit, s.resource_id, s.project_id, s.user_id)
    within = s.source != VERIFY, s.first_point_at < end, s.last_point_at >= start - times.HOUR
    wanted = select(*columns).where(s.type.in_(["cumulative", "delta"]), *within)
    if projects is not None:
        wanted = wanted.where(s.project_id.in_(list(projects)))
    if meters is not None:
        wanted = wanted.where(s.meter.in_(list(meters)))
    sizes = {gauge: size for kind in resources.types for size, gauge in kind.polls.sizes.items()}
    gauges = select(s.meter, s.unit).where(s.meter.in_(list(sizes)), s.type == "gauge", *within).distinct()
    with site.warehouse.read() as connection:
        rows = connection.execute(wanted).all() if meters is None or meters else []
        spelt = connection.execute(gauges).all()
    refused = {
        f"{meter} in {unit} was not counted: units.yaml has no factor from {unit} to {SIZE_UNITS.get(sizes[meter])}"
        for meter, unit in spelt
        if units.factor(unit, SIZE_UNITS.get(sizes[meter])) is None
    }
    bases = {unit: units.base(unit) for unit in {row.unit for row in rows}}
    by_meter: dict[str, set[str | None]] = {}
    for row in rows:
        by_meter.setdefault(row.meter, set()).add(bases[row.unit][0])
    for meter, known in by_meter.items():
        if len(known) > 1:
            listed = ", ".join(sorted(str(unit) for unit in known))
            refused.add(f"{meter} is measured in units that units.yaml does not convert into each other: {listed}")
    types = {
        meter: next((kind.type for kind in resources.types if kind.polls.measures(meter)), None) for meter in by_meter
    }
    series_of = Counter((row.meter, row.resource_id, row.project_id) for row in rows)
    several = [series_of[row.meter, row.resource_id, row.project_id] > 1 for row in rows]
    table = pa.table(
        {
            "series_id": pa.array([row.series_id for row in rows], pa.int64()),
            "several": pa.array(several, pa.bool_()),
            "meter": pa.array([row.meter for row in rows], pa.string()),
            "delta": pa.array([row.type == "delta" for row in rows], pa.bool_()),
            "unit": pa.array([bases[row.unit][0] for row in rows], pa.string()),
            "numerator": pa.array([float(bases[row.unit][1].numerator) for row in rows], pa.float64()),
            "denominator": pa.array([float(bases[row.unit][1].denominator) for row in rows], pa.float64()),
            "resource_type": pa.array([types[row.meter] for row in rows], pa.string()),
            "resource_id": pa.array([row.resource_id for row in rows], pa.string()),
            "project_id": pa.array([row.project_id for row in rows], pa.string()),
            "user_id": pa.array([row.user_id for row in rows], pa.string()),
        }
    )
    return table, refused


Group = Literal["project_id", "resource_type", "resource_id", "flavor", "zone", "state", "host", "image", "name"]
GROUPS: Final = (
    *("project_id", "resource_type", "resource_id", "flavor", "zone", "state", "host", "image", "name", "user_id"),
)


def usage(
    site: Site,
    start: datetime,
    end: datetime,
    *,
    by: Sequence[str] = ("project_id", "resource_type"),
    bucket: Bucket | None = None,
    zone: ZoneInfo | None = None,
    hours_begun: bool = False,
    projects: Collection[str] | None = None,
) -> pa.Table:
    """How much of resources was used, from their periods: one row for each group and bucket.

    Args:
        site: the site.
        start, end: aware, in any zone.
        by: names of GROUPS, or `metadata.KEY` for a key of the resource's metadata at the time.
        bucket: hour, day or month of the zone; None for the span as one.
        zone: the time zone of buckets; default UTC.
        hours_begun: count each hour of the zone in which a resource existed as a whole hour, and each resource once in
            an hour for each group. The columns then end in `_hours_begun`.
        projects: only these; None for all.

    Returns:
        The groups; `bucket_start`, if there are buckets; `resources`, the number of resources; `seconds`, exact; and
        hours of each size: `hours`, `vcpu_hours`, `memory_gib_hours`, `root_gib_hours`, `ephemeral_gib_hours`,
        `size_gib_hours`.

    Raises:
        UnknownKeyword: a group does not exist.
        UsageError: the span is empty.
    """
    if start >= end:
        raise UsageError("the span is empty", where="--from/--to", hint="Set --to to a time after --from")
    for name in by:
        if name not in GROUPS and not name.startswith("metadata."):
            raise UnknownKeyword("group", name, [*GROUPS, "metadata.KEY"])
    wants_metadata = any(name.startswith("metadata.") for name in by)
    found = of_span(site, start, end, projects, meters=(), metadata=wants_metadata)
    zone = zone or ZoneInfo("UTC")
    first, last = edges(found.start, found.end, "hour" if hours_begun else bucket, zone)
    columns = [f"group_{number}" for number in range(len(by))]
    listed = "".join(f"{_group(name)} AS {column}, " for name, column in zip(by, columns, strict=True))
    # Hours that are counted whole may begin before the span, and end after it.
    outer = edges(found.start, found.end, bucket, zone) if bucket or not hours_begun else (first[:1], last[-1:])
    with site.lake.connect() as duck:
        duck.register("periods", found.periods)
        duck.register("edges", pa.table({"from_at": pa.array(first, TIME), "to_at": pa.array(last, TIME)}))
        duck.register("buckets", pa.table({"from_at": pa.array(outer[0], TIME), "to_at": pa.array(outer[1], TIME)}))
        text = sql_files.read("lake/usage_begun.sql" if hours_begun else "lake/usage_exact.sql")
        text = text.replace("$listed", listed).replace("$names", "".join(f"{column}, " for column in columns))
        made = arrow(duck, text)
    made = made.rename_columns([*by, *made.column_names[len(by) :]])
    return made if bucket else made.drop_columns(["bucket_start"])


def _group(name: str) -> str:
    if not name.startswith("metadata."):
        return name
    keys = name.removeprefix("metadata.").split(".")
    # A key may have dots itself, as `metering.stack` has. The longest first key counts, as in prices.
    paths = [[".".join(keys[:count]), *keys[count:]] for count in range(len(keys), 0, -1)]
    pointers = ("".join(f"/{_pointed(key)}" for key in path) for path in paths)
    found = (f"json_extract_string(metadata, '{pointer}')" for pointer in pointers)
    return f"coalesce({', '.join(found)})"


def _pointed(key: str) -> str:
    """A key in a JSON pointer (RFC 6901) in a literal of SQL, whatever it has in it."""
    return key.replace("~", "~0").replace("/", "~1").replace("'", "''")
