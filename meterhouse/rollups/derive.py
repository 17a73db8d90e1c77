"""Derived meters in the roll-up step: what is read for them, and what is stored.

The points themselves are made by `deriving.py`: those of each pass in a `DerivingPass`, the others at the end. They go
to the lake's table `derived`, replaced by hour like the roll-ups. Where samples of the same meter were received,
nothing is derived, for that resource and day: the warehouse's `received_meters` keeps which, and hours of the day that
were computed before are computed again.

Points depend on others of other hours, and their hours are computed again if these change: the previous point of a
series of which a rate or delta is made (see `Deriving.compared`), and the metadata of the resource, if the sample has
none of its own (see `Deriving.hours_described_otherwise`).
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from sqlalchemy import Connection, select

from meterhouse import times
from meterhouse.catalog import lock_catalog, mark_dirty
from meterhouse.definitions.derived_meters import Derived
from meterhouse.definitions.quality_rules import Rules
from meterhouse.rollups import described, redescribed
from meterhouse.rollups.derived_points import Judged, Source, Taken
from meterhouse.rollups.deriving import Derivation, Left
from meterhouse.rollups.described import NAMED, History, Resource
from meterhouse.rollups.described_values import values_of
from meterhouse.rollups.received import Received
from meterhouse.rollups.targets import DIMENSIONS
from meterhouse.sample_quality.carrying import carried_points
from meterhouse.sample_quality.judging import JudgedShard, Judging, rule_names
from meterhouse.sample_quality.reading import Hours, Shard, plain
from meterhouse.sample_quality.series_table import Flags, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import HOUR, Carried
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_files import by_partition
from meterhouse.stores.lake_replace import Part, replace
from meterhouse.stores.lake_tables import COMPUTED, QUARANTINE, TIME, columns_of_files
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import derived_meters, received_meters, resource_metadata, series

TABLE = "derived"

FEW_ROWS = 10_000
"""Fewer points of a day are kept, and written together with the small files that are there."""

METADATA_KEPT = 200_000
"""How many texts of metadata a process keeps parsed."""

WHY = "samples of a derived meter were received"

_parsed: dict[int, Any] = {}
_parsing = threading.Lock()

OfPass = tuple["Kept", Left | None]
"""What is derived in a pass: points that are complete, and what the others are made of."""


class DerivedShard(Shard):
    """Derived points in the place of received ones."""

    def __init__(self, judged: Judged) -> None:
        self.points = judged.points
        self.described = False
        self._sample = judged.sample

    def column(self, name: str, rows: Ints | None) -> tuple[Ints, Flags]:
        """As `Shard.column`; derived points have no metadata."""
        count = len(self.points) if rows is None else len(rows)
        if name != "sample_id":
            return np.zeros(count, np.int64), np.zeros(count, np.bool_)
        return self._sample if rows is None else self._sample[rows], np.ones(count, np.bool_)


@dataclass
class Kept:
    """The derived points of some hours, judged. It can be pickled.

    Attributes:
        parts: rows of `derived`, by day; many are in files already.
        flagged: those that break a rule, as rows of `quarantine`.
        series: ids with their first and last times.
        meters: the meters of the points.
    """

    parts: dict[tuple[date], Part]
    flagged: list[pa.Table] = field(default_factory=list)
    series: list[pa.Table] = field(default_factory=list)
    meters: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, hours: Sequence[datetime]) -> "Kept":
        """Nothing yet, in place of what there is of these hours."""
        days: dict[tuple[date], list[datetime]] = {}
        for hour in hours:
            days.setdefault((hour.date(),), []).append(hour)
        return cls({place: Part(of_day) for place, of_day in days.items()})

    def finished(
        self, lake: Lake, rules: Rules, hours: Hours, derivation: Derivation, points: Iterator[Judged]
    ) -> Iterator[JudgedShard]:
        """Keep derived points of the hours; yield all of them as shards of their own, each with its table of series."""
        for judged in points:
            excluded = (judged.verdicts.bits & rules.critical_bits) != 0
            rows = derivation.rows(judged)
            self._keep(lake, rows.filter(pa.array(hours.hold(judged.points.time))))
            at, bits = judged.verdicts.flagged, judged.verdicts.bits
            inside = hours.hold(judged.points.time[at])
            if inside.any():
                self.flagged.append(_quarantined(rows.take(pa.array(at[inside])), bits[inside], rules))
            yield JudgedShard(judged.table, DerivedShard(judged), judged.verdicts, excluded)

    def _keep(self, lake: Lake, rows: pa.Table) -> None:
        """Keep derived points; write them if they are many."""
        if not rows.num_rows:
            return
        self.series.append(
            rows.select(["series_id", "timestamp"])
            .group_by(["series_id"], use_threads=False)
            .aggregate([("timestamp", "min"), ("timestamp", "max")])
        )
        self.meters.update(rows["meter"].unique().to_pylist())
        for values, of_day in by_partition(rows, ["event_day"]):
            part = self.parts[(values["event_day"],)]
            of_day = of_day.append_column("metadata_id", pa.nulls(of_day.num_rows, pa.int64()))
            of_day = of_day.append_column("origin", pa.repeat(COMPUTED, of_day.num_rows).dictionary_encode())
            of_day = of_day.select(columns_of_files(TABLE).names)
            if of_day.num_rows < FEW_ROWS:
                part.rows.append(of_day.cast(columns_of_files(TABLE)))
            else:
                part.files.append(lake.write_part(TABLE, values, of_day))

    def join(self, later: "Kept") -> None:
        """Add the points of later series, for the same hours."""
        for place, part in later.parts.items():
            self.parts[place].rows += part.rows
            self.parts[place].files += part.files
        self.flagged += later.flagged
        self.series += later.series
        self.meters |= later.meters

    def discard(self, lake: Lake) -> None:
        """Delete what was written; nothing of it is committed."""
        lake.discard(TABLE, [file for part in self.parts.values() for file in part.files])


@dataclass(frozen=True)
class DerivingWork:
    """What passes derive. It can be pickled.

    Attributes:
        derivation: the whole one; None if no series matters.
        rules: the site's quality rules.
        hours: the hours to roll up.
        counted: these, and others whose points count in the roll-ups of their days.
        carry_hours: how far a previous point is carried.
    """

    derivation: Derivation | None
    rules: Rules
    hours: Sequence[datetime]
    counted: Sequence[datetime]
    carry_hours: int

    def begin(self, site: Site) -> "DerivingPass":
        """What one pass derives, with the stores of a site."""
        return DerivingPass(self, site)


class DerivingPass:
    """What is derived in one pass."""

    def __init__(self, work: DerivingWork, site: Site) -> None:
        self._work, self._lake = work, site.lake
        self._kept = Kept.of(work.hours)
        self._derivation = None
        if work.derivation is not None:
            counted = Hours(work.counted)

            def carried(table: SeriesTable, wanted: Flags, received: bool) -> Carried:
                return carried_points(site.lake, table, counted, work.carry_hours, wanted)

            self._derivation = work.derivation.fork(MetadataReader(site), carried)

    def take(self, judged: JudgedShard) -> Taken | None:
        """What a shard gives; called in several threads at once."""
        if self._derivation is None:
            return None
        good, points = judged.verdicts.good, judged.shard.points
        rows: Any = slice(None) if good.rows is None else good.rows

        def sample(at: Ints) -> Ints:
            return points.identify(at if good.rows is None else good.rows[at])[0]

        return self._derivation.take(
            Source(
                judged.table,
                good,
                points.recorded[rows],
                lambda: judged.metadata(good),
                sample,
            )
        )

    def finish(self, taken: Sequence[Taken | None]) -> Iterator[JudgedShard]:
        """The derived points that are complete, judged, as shards of their own; each has its own table of series.

        Args:
            taken: what each shard gave, in order of place.
        """
        if self._derivation is None:
            return
        for each in taken:
            if each is not None:
                self._derivation.add(each)
        points = self._derivation.finish_some()
        yield from self._kept.finished(self._lake, self._work.rules, Hours(self._work.hours), self._derivation, points)

    def made(self) -> OfPass:
        """What the pass gives."""
        base = self._work.derivation
        left = None if self._derivation is None or base is None else self._derivation.left(base)
        return self._kept, left

    def discard(self) -> None:
        """Delete what was written."""
        self._kept.discard(self._lake)


@dataclass
class Deriving:
    """What is derived in one computation.

    Attributes:
        site: the site.
        judging: the judgement of the received points.
        definitions: of the derived meters.
        hours: the hours to roll up.
        counted: these, and others whose points count in the roll-ups of their days.
        read: these, and others whose points are only compared with.
        kept: derived points of these hours.
        new_received: received meters that the warehouse does not know.
    """

    site: Site
    judging: Judging
    definitions: Sequence[Derived]
    hours: Sequence[datetime]
    counted: Sequence[datetime]
    read: Sequence[datetime]
    kept: Kept = field(init=False)
    new_received: Received = field(default_factory=Received)

    def __post_init__(self) -> None:
        """Decide which series meters are derived from."""
        site, counted = self.site, Hours(self.counted)
        read = Hours(self.read)
        self._hours = Hours(self.hours)
        self.kept = Kept.of(self.hours)
        days = {hour.date() for hour in self.counted}
        numbers = np.array(sorted((day - times.EPOCH.date()).days for day in days), np.int64)
        self._named: pa.Table | None = None

        def carried(table: SeriesTable, wanted: Flags, received: bool) -> Carried:
            hours = read if received else counted  # nothing is derived in the others
            return carried_points(site.lake, table, hours, site.settings.carry_hours, wanted)

        def received_on(wanted: Flags) -> tuple[Ints, Ints]:
            place, day = self.judging.days(wanted)
            inside = np.isin(day, numbers)
            return place[inside], day[inside]

        with site.warehouse.read() as connection:
            known = _received(connection, days) if self.definitions else Received()
        self._derivation = Derivation(
            self.definitions,
            site.rules,
            self.judging.table,
            lambda ids: self.judging.describe(ids, DIMENSIONS),
            counted.hold,
            MetadataReader(site),
            received_on,
            known,
            self._history,
            carried,
            site.settings.carry_hours,
            numbers,
        )
        self.new_received = self._derivation.received.without(known)
        self._idle = not self._derivation

    @property
    def work(self) -> DerivingWork:
        """What passes derive."""
        derivation = None if self._idle else self._derivation
        site = self.site
        return DerivingWork(derivation, site.rules, list(self.hours), list(self.counted), site.settings.carry_hours)

    def join(self, made: OfPass) -> None:
        """Add what a pass gives; in order of place."""
        kept, left = made
        self.kept.join(kept)
        if left is not None:
            self._derivation.join(left)

    def finish(self, changes: pa.Table) -> Iterator[JudgedShard]:
        """The other derived points, judged, as shards of their own; each has its own table of series.

        Args:
            changes: of metadata in the hours to roll up, as rows of `metadata_changes`.
        """
        self._changes = changes
        if not self._idle:
            site, points = self.site, self._derivation.finish()
            yield from self.kept.finished(site.lake, site.rules, self._hours, self._derivation, points)

    def discard(self) -> None:
        """Delete what was written; nothing of it is committed."""
        self.kept.discard(self.site.lake)

    def prepare(self, connection: Connection) -> list[datetime]:
        """Register the derived series, and mark hours where a derived meter must go; before the lake changes.

        Returns:
            The hours that were marked.
        """
        marked: list[datetime] = []
        if self.new_received:
            marked = self._hours_to_withdraw()
            upsert(connection, received_meters, _rows_of(self.new_received))
            mark_dirty(connection, marked, WHY)
        self._register(connection)
        return marked

    def store(self, lease: Lease) -> None:
        """Replace the derived points of the hours."""
        replace(self.site.lake, TABLE, "timestamp", self.kept.parts, lease)

    def _hours_to_withdraw(self) -> list[datetime]:
        """The other hours that have derived points of meters that were received now."""
        lake = self.site.lake
        received = _rows_of(self.new_received)
        files = lake.files(TABLE, partitions={"event_day": received["day"].unique().to_pylist()})
        if not files:
            return []
        with lake.connect() as duck:
            lake.view(duck, TABLE, files)
            duck.register("received", received)
            hours = duck.execute(
                "SELECT DISTINCT date_trunc('hour', timestamp) FROM derived AS d JOIN received AS r "
                "ON d.event_day = r.day AND d.meter = r.meter AND coalesce(d.resource_id, '') = r.resource_id"
            ).fetchall()
        mine = set(self._hours.numbers.tolist())
        return sorted(hour for (hour,) in hours if times.micros(hour) // HOUR not in mine)

    def _register(self, connection: Connection) -> None:
        """Put the derived series into the catalog, with the hours in which they have points."""
        if not self.kept.series:
            return
        listed = pa.concat_tables(self.kept.series)
        spans = listed.group_by("series_id", use_threads=False).aggregate(
            [("timestamp_min", "min"), ("timestamp_max", "max")]
        )
        ids = plain(spans["series_id"].combine_chunks())
        first, last = (plain(spans[f"timestamp_{each}_{each}"].combine_chunks()) for each in ("min", "max"))
        first, last = first // HOUR * HOUR, last // HOUR * HOUR + HOUR - 1_000_000
        meters = sorted(self.kept.meters)
        known = connection.execute(
            select(series.c.series_id)
            .where(series.c.meter.in_(meters))
            .where(series.c.first_point_at <= _time(first.min()))
            .where(series.c.last_point_at >= _time(last.max()))
        )
        fresh = np.flatnonzero(~np.isin(ids, np.fromiter((row[0] for row in known), np.int64)))
        if not len(fresh):
            return
        lock_catalog(connection)
        self._explain(connection, meters)
        new = self._derivation.targets.describe(ids[fresh])
        new = new.add_column(0, "series_id", pa.array(ids[fresh]))
        new = new.append_column("first_point_at", pa.array(first[fresh]).cast(TIME))
        new = new.append_column("last_point_at", pa.array(last[fresh]).cast(TIME))
        upsert(
            connection,
            series,
            new,
            [
                "first_point_at = CASE WHEN excluded.first_point_at < series.first_point_at"
                " THEN excluded.first_point_at ELSE series.first_point_at END",
                "last_point_at = CASE WHEN excluded.last_point_at > series.last_point_at"
                " THEN excluded.last_point_at ELSE series.last_point_at END",
            ],
        )

    def _explain(self, connection: Connection, meters: list[str]) -> None:
        """Say in the warehouse what these meters are made of."""
        made_by = [(meter, self._derivation.made_by[meter]) for meter in sorted(meters)]
        rows = pa.table(
            {
                "meter": [meter for meter, _ in made_by],
                "kind": [each.kind for _, each in made_by],
                "made_of": [each.made_of() for _, each in made_by],
                "computed_at": pa.array([times.now()] * len(made_by), TIME),
            }
        )
        upsert(connection, derived_meters, rows, [f"{name} = excluded.{name}" for name in rows.column_names[1:]])

    def compared(self, lost: Sequence[int]) -> Ints:
        """The ids of gauges and deltas whose last point is compared with the next one, by a rate or delta.

        Args:
            lost: series that have no points here any more; those that would be compared are among the result.
        """
        found = self._derivation.compared
        taking = [each for each in self.definitions if each.kind in ("rate", "delta")]
        if lost and taking:
            with self.site.warehouse.read() as connection:
                known = redescribed.series_of(connection, series.c.series_id, list(lost))
            ids = [each.series_id for each in known if any(one.takes(each.meter, each.unit) for one in taking)]
            found = [*found, np.array(ids, np.int64)]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))

    def hours_described_otherwise(self, changes: pa.Table) -> list[datetime]:
        """The other hours whose derived points read metadata of their resource that is another now.

        Args:
            changes: as for `finish`. The warehouse must still have those from before.
        """
        readers = [each for each in self.definitions if each.metadata]
        if not readers:
            return []
        return redescribed.later_hours(
            self.site, readers, self._hours, changes, self._history, self._derivation.answers
        )

    def _history(self, resources: Sequence[Resource]) -> History:
        """When the metadata of these resources changed, by the warehouse and by what was found now."""
        if self._named is None:
            ids, of = np.unique(plain(self._changes["series_id"].combine_chunks()), return_inverse=True)
            of_series = self.judging.describe(ids, NAMED.names[3:]).take(pa.array(of))
            self._named = pa.table([*self._changes.columns, *of_series.columns], names=NAMED.names)
        with self.site.warehouse.read() as connection:
            return described.history(connection, resources, self._named, self._hours)


class MetadataReader:
    """Gives values of resource metadata, which the process keeps parsed."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __call__(self, ids: Ints, path: tuple[str, ...]) -> list[Any]:
        """The values at a path of the metadata with these ids."""
        with _parsing:
            missing = [each for each in ids.tolist() if each not in _parsed]
            if missing:
                if len(_parsed) + len(missing) > METADATA_KEPT:
                    _parsed.clear()
                    missing = ids.tolist()
                self._parse(missing)
            return values_of(_parsed, ids, path)

    def _parse(self, ids: Sequence[int]) -> None:
        with self._site.warehouse.read() as connection:
            for place in range(0, len(ids), 5_000):
                found = connection.execute(
                    select(resource_metadata).where(resource_metadata.c.metadata_id.in_(ids[place : place + 5_000]))
                )
                _parsed.update((row[0], orjson.loads(row[1])) for row in found)


def _quarantined(rows: pa.Table, bits: Any, rules: Rules) -> pa.Table:
    """Derived points and the bits of the rules that they break, as rows of `quarantine`."""
    return (
        rows.append_column("reasons", pa.array(bits, pa.int32()))
        .append_column("reason_names", pa.array([rule_names(rules, int(each)) for each in bits], pa.list_(pa.string())))
        .append_column("excluded", pa.array((bits & rules.critical_bits) != 0))
        .select(QUARANTINE.names)
        .cast(QUARANTINE)
    )


def _received(connection: Connection, days: set[date]) -> Received:
    """What the warehouse knows of these days."""
    columns = received_meters.c
    parts = [Received()]
    for day in sorted(days):
        found = connection.execute(select(columns.meter, columns.resource_id).where(columns.day == day)).all()
        meters, resources = list(zip(*found, strict=True)) or ((), ())
        numbers = np.full(len(found), (day - times.EPOCH.date()).days)
        parts.append(Received(numbers, pa.array(meters, pa.string()), pa.array(resources, pa.string())))
    return Received.together(parts)


def _time(micros: Any) -> datetime:
    return times.EPOCH + timedelta(microseconds=int(micros))


def _rows_of(received: Received) -> pa.Table:
    """As rows of `received_meters`."""
    days = pa.array(received.day.astype(np.int32)).cast(pa.date32())
    return pa.table({"day": days, "meter": received.meter, "resource_id": received.resource})
