"""Judges the points of event hours in one pass, in two or more threads, and hands the good ones on, shard by shard.

The quality step takes the points that break a rule; the roll-up step also gives work that computes with the good points
of each shard (see `Work`), in the same pass. Whatever else is made of good points belongs there.

A pass is one function of what can be pickled, so that it may run in this process or on a worker of a Dask cluster, and
give the same.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.corrections.recorded import Correction, active
from meterhouse.definitions.quality_rules import Rules
from meterhouse.errors import MeterhouseError
from meterhouse.sample_quality.carrying import carried_points, carried_to
from meterhouse.sample_quality.reading import Hours, Loader, Pass, Reading, Shard
from meterhouse.sample_quality.series_table import DELTA, Flags, Floats, Ints, Places, SeriesRules, SeriesTable
from meterhouse.sample_quality.verdicts import HOUR, Carried, Good, Verdicts, judge
from meterhouse.site import Site
from meterhouse.stores.lake_tables import QUARANTINE, TIME
from meterhouse.verification import VERIFY
from meterhouse.workers import Workers

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

DAY = 24 * HOUR

_DIMENSIONS = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")


@dataclass(frozen=True)
class JudgedShard:
    """The points of a range of series, and what was found.

    Attributes:
        table: all series of the computation.
        shard: the points.
        verdicts: on all points, also on those of hours that are only read for comparison.
        excluded: which of `verdicts.flagged` are excluded.
    """

    table: SeriesTable
    shard: Shard
    verdicts: Verdicts
    excluded: Flags

    def metadata(self, good: Good) -> tuple[Ints, Flags] | None:
        """The metadata_id of each of these good points, and whether it has one; None if none has."""
        return self._described if good is self.verdicts.good else self._metadata(good)

    @cached_property
    def _described(self) -> tuple[Ints, Flags] | None:
        return self._metadata(self.verdicts.good)

    def _metadata(self, good: Good) -> tuple[Ints, Flags] | None:
        return self.shard.column("metadata_id", good.rows) if self.shard.described else None


@dataclass(frozen=True)
class _Flagged:
    """Points that break a rule, in columns."""

    place: Places
    time: Ints
    volume: Floats
    recorded: Ints
    sample: Ints
    known: Flags
    bits: npt.NDArray[np.int32]


class PassWork(Protocol[T, R_co]):
    """What is made of the good points of one pass."""

    def make(self, judged: JudgedShard) -> T:
        """Make something of a shard; called in several threads at once."""

    def end(self, made: list[T]) -> R_co:
        """What the pass gives, of what was made of its shards, in order of place. It can be pickled, and is small."""

    def discard(self) -> None:
        """Delete the files that were written: the pass has failed."""


class Work(Protocol[R_co]):
    """What is made of good points, pass by pass. It can be pickled."""

    @property
    def described(self) -> bool:
        """Whether it needs the points' metadata."""

    def begin(self, site: Site, threads: ThreadPoolExecutor) -> PassWork[Any, R_co]:
        """The work on one pass, perhaps in another process, whose site has the same stores."""


class Nothing:
    """The work that makes nothing: only verdicts are wanted."""

    described = False

    def begin(self, site: Site, threads: ThreadPoolExecutor) -> "Nothing":
        """See `Work`."""
        return self

    def make(self, judged: JudgedShard) -> None:
        """See `PassWork`."""

    def end(self, made: list[None]) -> None:
        """See `PassWork`."""

    def discard(self) -> None:
        """See `PassWork`."""


@dataclass(frozen=True)
class _Passed(Generic[R]):
    """What a pass gives: the result of its work, and of the wanted hours flagged points and numbers of points.

    `upto` is the place behind its last series.
    """

    result: R
    flagged: list[_Flagged]
    points: Ints
    upto: int


@dataclass(frozen=True)
class _Judge(Generic[R]):
    """Judges passes. It can be pickled.

    Attributes:
        rules: by which.
        carry_hours: how far a counter's previous point is carried.
        told: the hours whose flagged points are wanted.
        read: the hours that are read.
        table: all series.
        carried: the counters' previous points.
        corrections: of the hours that are read, in the order in which they take effect.
        work: what is made of the good points.
    """

    rules: Rules
    carry_hours: int
    told: Hours
    read: Hours
    table: SeriesTable
    carried: Carried
    corrections: Sequence[Correction]
    work: Work[R]

    @cached_property
    def _compiled(self) -> SeriesRules:
        return SeriesRules.of(self.rules, self.table)

    def __call__(self, site: Site, threads: ThreadPoolExecutor, one: Pass) -> _Passed[R]:
        """Judge a pass and do the work on it."""
        described = self.work.described
        loader = Loader(site.lake, self.table, self.read, self.corrections, threads, described=described)
        compiled = self._compiled
        work = self.work.begin(site, threads)
        try:
            slices = loader.shards(one)
            results = list(threads.map(lambda each: self._judged(Shard(loader, each), compiled, work), slices))
            slices.clear()
            flagged = [found for _, found, _ in results if len(found.place)]
            points: Ints = np.sum([counts for _, _, counts in results], axis=0)
            made = [each for each, _, _ in results]
            results.clear()
            return _Passed(work.end(made), flagged, points, int(one.edges[-1]))
        except MeterhouseError:
            work.discard()
            raise
        finally:
            # Many arrays are too small for the system's allocator to give them back by itself.
            pa.default_memory_pool().release_unused()

    def _judged(self, shard: Shard, compiled: SeriesRules, work: PassWork[T, R]) -> tuple[T, _Flagged, Ints]:
        points = shard.points
        carried = carried_to(self.carried, points.place)
        verdicts = judge(self.table, compiled, points, carried, self.carry_hours)
        excluded = (verdicts.bits & self.rules.critical_bits) != 0
        made = work.make(JudgedShard(self.table, shard, verdicts, excluded))
        rows, bits = verdicts.flagged, verdicts.bits
        if len(self.read) != len(self.told):
            inside = self.told.hold(points.time[rows])
            rows, bits, excluded = rows[inside], bits[inside], excluded[inside]
        counts = self.told.counted(verdicts.good.time) + self.told.counted(points.time[rows[excluded]])
        sample, known = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        deltas = np.flatnonzero(self.table.kinds[points.place[rows]] == DELTA)
        if len(deltas):
            sample[deltas], known[deltas] = points.identify(rows[deltas])
        found = _Flagged(
            points.place[rows], points.time[rows], points.volume[rows] + 0.0, points.recorded[rows], sample, known, bits
        )
        return made, found, counts


class Judging:
    """A judgement of the points of some event hours.

    Args:
        site: the site.
        version: of the lake's `samples`.
        told: the hours whose flagged points are wanted.
        read: the hours that are read: those of `told`, and others.
        threads: how many to use.
        workers: where the passes run.

    Attributes:
        share: of the series, those whose points are judged; 1 for all.
    """

    def __init__(
        self,
        site: Site,
        version: int,
        told: Sequence[datetime],
        read: Sequence[datetime],
        threads: ThreadPoolExecutor,
        workers: Workers,
    ) -> None:
        self.rules = site.rules
        self._site, self._threads, self._workers = site, threads, workers
        self._told, self._read = Hours(told), Hours(read)
        self._corrections = active(site, self._read.spans)
        self._reading = Reading(site.lake, version, self._read, threads)
        self.table = self._reading.table
        self._carried = carried_points(site.lake, self.table, self._read, site.settings.carry_hours)
        self._flagged: list[_Flagged] = []
        self._points = np.zeros(len(self._told), np.int64)
        self.share = 0.0

    def passes(self, work: Work[R]) -> Iterator[R]:
        """Judge all points; yield what the work on each pass gives, in order of place."""
        judge = _Judge(
            self.rules,
            self._site.settings.carry_hours,
            self._told,
            self._read,
            self.table,
            self._carried,
            self._corrections,
            work,
        )
        workers = self._workers.chosen(self._reading.number_of_points)
        for passed in workers.each(judge, self._reading.passes(workers.number), self._threads):
            self._flagged += passed.flagged
            self._points += passed.points
            self.share = passed.upto / len(self.table)
            yield passed.result

    def points_by_hour(self) -> dict[datetime, int]:
        """How many distinct points each of the wanted hours has. All passes have to be over."""
        counts = zip(self._told.numbers.tolist(), self._points.tolist(), strict=True)
        return {times.EPOCH + number * times.HOUR: count for number, count in counts}

    def flagged(self) -> pa.Table:
        """The points of the wanted hours that break a rule, as rows of `quarantine`, by meter, series and time.

        All passes have to be over.
        """
        if not self._flagged:
            return QUARANTINE.empty_table()
        found = [
            np.concatenate([getattr(one, name) for one in self._flagged]) for name in _Flagged.__dataclass_fields__
        ]
        place, time, volume, recorded, sample, known, bits = found
        places, of_place = np.unique(place, return_inverse=True)
        described = self._reading.describe(self.table.ids[places], _DIMENSIONS).take(pa.array(of_place))
        codes, of_code = np.unique(bits, return_inverse=True)
        names = pa.array([rule_names(self.rules, int(code)) for code in codes], pa.list_(pa.string()))
        columns = {
            "event_day": pa.array((time // DAY).astype(np.int32)).cast(pa.date32()),
            "series_id": self.table.ids[place],
            "timestamp": pa.array(time).cast(TIME),
            "volume": volume,
            "sample_id": pa.array(sample, mask=~known),
            "recorded_at": pa.array(recorded).cast(TIME),
            **{name: described[name] for name in _DIMENSIONS},
            "reasons": bits,
            "reason_names": names.take(pa.array(of_code)),
            "excluded": (bits & self.rules.critical_bits) != 0,
        }
        return pa.table([columns[name] for name in QUARANTINE.names], schema=QUARANTINE)

    def describe(self, ids: Ints, columns: Sequence[str]) -> pa.Table:
        """Columns of the series with these ids, see `Reading.describe`."""
        return self._reading.describe(ids, columns)

    def days(self, wanted: Flags) -> tuple[Ints, Ints]:
        """On which days some series have points, see `Reading.days`."""
        return self._reading.days(wanted)


def by_rule(flagged: pa.Table, rules: Rules) -> pa.Table:
    """How many points of each hour and meter break each rule, as rows of `quality_daily`.

    Args:
        flagged: rows of `quarantine`. Those that `meterhouse verify` planted are not counted.
        rules: by which they were judged.
    """
    counted: list[pa.Table] = []
    flagged = flagged.filter(pc.fill_null(pc.not_equal(flagged["source"], VERIFY), True))
    hours = flagged["timestamp"].cast(pa.int64()).to_numpy() // HOUR
    bits = flagged["reasons"].to_numpy()
    for rule in rules.rules:
        broken = np.flatnonzero(bits & (1 << rule.bit))
        if not len(broken):
            continue
        hour = hours[broken]
        found = pa.table({"number": hour, "meter": flagged["meter"].take(pa.array(broken))})
        found = found.group_by(["number", "meter"], use_threads=False).aggregate([([], "count_all")])
        number = found["number"].to_numpy()
        counted.append(
            pa.table(
                {
                    "day": pa.array((number // 24).astype(np.int32)).cast(pa.date32()),
                    "hour": pa.array(number * HOUR).cast(TIME),
                    "meter": found["meter"],
                    "rule": pa.repeat(rule.name, found.num_rows),
                    "severity": pa.repeat(rule.severity, found.num_rows),
                    "flagged": found["count_all"],
                }
            )
        )
    return pa.concat_tables([_BY_RULE.empty_table(), *counted])


_BY_RULE = pa.schema(
    [
        ("day", pa.date32()),
        ("hour", TIME),
        ("meter", pa.string()),
        ("rule", pa.string()),
        ("severity", pa.string()),
        ("flagged", pa.int64()),
    ]
)


def rule_names(rules: Rules, bits: int) -> list[str]:
    """The names of the rules of these bits."""
    return [rule.name for rule in rules.rules if bits & 1 << rule.bit]
