"""What a pass of the roll-up step makes of good points: rows of all tiers, derived points, changes of metadata.

`RollingUp` is what all passes over a group of hours have in common. It can be pickled, and so can what a pass gives.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa

from meterhouse.definitions.archive_policies import Policies
from meterhouse.rollups import tiers
from meterhouse.rollups.buckets import Buckets, Excluded
from meterhouse.rollups.derive import DerivingWork, OfPass
from meterhouse.rollups.derived_points import Taken
from meterhouse.rollups.described import Changes, may_change
from meterhouse.rollups.made import Made
from meterhouse.rollups.rows import SCHEMA, Metadata, last_described, rows_of
from meterhouse.sample_quality.judging import JudgedShard
from meterhouse.sample_quality.reading import Hours
from meterhouse.sample_quality.series_table import Flags, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import Good
from meterhouse.site import Site

COUNTED = ["bucket", "count", "excluded"]
"""The columns of hourly rows of which sums by hour are kept."""


@dataclass(frozen=True)
class Plan:
    """What a group of hours needs.

    Attributes:
        hours: the hours to roll up, in order.
        read: the hours whose points are counted: those, and the others of `whole`.
        context: further hours that are read, only for their counters' last points.
        whole: the days whose rows are made of their points. The others fold the hourly rows, and have no percentiles.
        carried: whether there are roll-ups of later hours, which may start from what is rolled up now.
    """

    hours: list[datetime]
    read: list[datetime]
    context: list[datetime]
    whole: list[date]
    carried: bool

    def folded(self) -> list[date]:
        """The days that fold hourly rows."""
        return sorted({hour.date() for hour in self.hours} - set(self.whole))

    def made(self, granularities: Sequence[int]) -> Made:
        """Nothing made yet of the tiers of these granularities, in seconds."""
        return Made.of(self.hours, granularities, self.folded(), carried=self.carried)


@dataclass(frozen=True)
class RollingUp:
    """The work of all passes over a group of hours; a `Work` of judging.

    Attributes:
        plan: what the hours need.
        policies: the archive policies.
        table: the series of the received points.
        granularities: of the tiers that the hours may get, in seconds.
        deriving: what passes derive.
    """

    plan: Plan
    policies: Policies
    table: SeriesTable
    granularities: Sequence[int]
    deriving: DerivingWork

    @property
    def described(self) -> bool:
        """See `Work`."""
        return True

    @cached_property
    def roller(self) -> "_Roller":
        """Makes the rows of received points."""
        return _Roller(self.plan, tiers.Plan.of(self.policies, self.table))

    def begin(self, site: Site, threads: ThreadPoolExecutor) -> "_Pass":
        """See `Work`."""
        return _Pass(self, site, threads)

    def roll_derived(self, site: Site, threads: ThreadPoolExecutor, made: Made, judged: JudgedShard) -> None:
        """Make the rows of derived points."""
        roller = _Roller(self.plan, tiers.Plan.of(self.policies, judged.table))
        for seconds, rows in roller.rolled(judged).items():
            made.add(site.lake, threads, seconds, [rows])


@dataclass(frozen=True)
class RolledPass:
    """What a pass gives.

    Attributes:
        made: the rows.
        derived: what it derived.
        received: sums of the columns COUNTED of the hourly rows of received meters, by hour.
        changes: where the metadata may have changed.
    """

    made: Made
    derived: OfPass
    received: pa.Table
    changes: Changes


@dataclass
class _Shard:
    """What is made of the points of one shard: rows by tier, what meters are derived from, and changes of metadata."""

    rows: dict[int, pa.Table]
    taken: Taken | None
    changes: Changes | None


class _Pass:
    """Makes all that a group of hours needs of the good points of a pass; a `PassWork` of judging."""

    def __init__(self, work: RollingUp, site: Site, threads: ThreadPoolExecutor) -> None:
        self._work, self._site, self._threads = work, site, threads
        self._made = work.plan.made(work.granularities)
        self._deriving = work.deriving.begin(site)
        self._roller, self._wanted = work.roller, Hours(work.plan.hours)

    def make(self, judged: JudgedShard) -> _Shard:
        """See `PassWork`."""
        good = judged.verdicts.good
        metadata = judged.metadata(good) if len(good) else None
        changes = None if metadata is None else may_change(judged.table, good, *metadata, self._wanted)
        return _Shard(self._roller.rolled(judged), self._deriving.take(judged), changes)

    def end(self, made: list[_Shard]) -> RolledPass:
        """See `PassWork`."""
        for seconds in self._work.granularities:
            rows = [shard.rows[seconds] for shard in made if seconds in shard.rows]
            self._made.add(self._site.lake, self._threads, seconds, rows)
        hourly = [shard.rows[3600].select(COUNTED) for shard in made if 3600 in shard.rows]
        for judged in self._deriving.finish([shard.taken for shard in made]):
            self._work.roll_derived(self._site, self._threads, self._made, judged)
        changes = Changes.together([shard.changes for shard in made if shard.changes is not None])
        return RolledPass(self._made, self._deriving.made(), _by_hour(hourly), changes)

    def discard(self) -> None:
        """See `PassWork`."""
        self._made.discard(self._site.lake)
        self._deriving.discard()


class _Roller:
    """Makes the rows of a shard: of the finer tiers for the hours of a plan, of its whole days for their days."""

    def __init__(self, plan: Plan, wanted: tiers.Plan) -> None:
        self._tiers = wanted
        self._whole = [hour for hour in plan.read if hour.date() in set(plan.whole)]
        self._wanted, self._of_days = Hours(plan.hours), Hours(self._whole)
        self._at_once = self._whole == plan.hours
        self._all = self._at_once and not plan.context

    def rolled(self, judged: JudgedShard) -> dict[int, pa.Table]:
        """The rows of each tier, in order of place."""
        good, excluded = judged.verdicts.good, _excluded(judged)
        if self._at_once:
            if not self._all:
                good, excluded = _within(good, excluded, self._of_days)
            return self._rows(judged, good, excluded)
        rows = self._rows(judged, *_within(good, excluded, self._wanted), days=False)
        if self._whole:
            rows |= self._rows(judged, *_within(good, excluded, self._of_days), hours=False)
        return rows

    def _rows(
        self, judged: JudgedShard, good: Good, excluded: Excluded, *, hours: bool = True, days: bool = True
    ) -> dict[int, pa.Table]:
        described = judged.metadata(good) if len(good) else None
        rows = {}
        for made in tiers.roll(self._tiers, good, excluded, hours=hours, days=days):
            metadata = None
            if described is not None and made.buckets.seconds >= 3600:
                metadata = _metadata(good, made.buckets, *described)
            rows[made.buckets.seconds] = rows_of(made, judged.table.ids, judged.table.kinds, metadata)
        return rows


def _excluded(judged: JudgedShard) -> Excluded:
    rows = judged.verdicts.flagged[judged.excluded]
    return Excluded(judged.shard.points.place[rows], judged.shard.points.time[rows])


def _within(good: Good, excluded: Excluded, hours: Hours) -> tuple[Good, Excluded]:
    inside = hours.hold(excluded.time)
    return good.within(hours.hold(good.time)), Excluded(excluded.place[inside], excluded.time[inside])


def _metadata(good: Good, made: Buckets, ids: Ints, known: Flags) -> Metadata:
    """The metadata of each bucket's last good point that has some."""
    some = np.flatnonzero(made.count)
    starts = np.cumsum(made.count[some]) - made.count[some]
    found = last_described(starts, ids, known)
    all_ids, all_known = np.zeros(len(made), np.int64), np.zeros(len(made), np.bool_)
    all_ids[some], all_known[some] = found.ids, found.known
    return Metadata(all_ids, all_known)


def _by_hour(hourly: Sequence[pa.Table]) -> pa.Table:
    """The sums of the columns COUNTED by hour."""
    rows = pa.concat_tables([SCHEMA.empty_table().select(COUNTED), *hourly])
    sums = rows.group_by("bucket").aggregate([(name, "sum") for name in COUNTED[1:]])
    found = pa.table({"bucket": sums["bucket"], **{name: sums[f"{name}_sum"] for name in COUNTED[1:]}})
    return found.cast(rows.schema)
