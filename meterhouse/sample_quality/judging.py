"""Judges the points of event hours in one pass, in two or more threads, and hands the good ones on, shard by shard.

The quality step takes the points that break a rule; the roll-up step also gives a function that computes with the good
points of each shard (see `Judging.passes`), in the same pass. Whatever else is made of good points belongs there.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import times
from meterhouse.corrections.recorded import active
from meterhouse.definitions.quality_rules import Rules
from meterhouse.sample_quality.carrying import carried_points, carried_to
from meterhouse.sample_quality.reading import Hours, Reading, Shard, Slices
from meterhouse.sample_quality.series_table import DELTA, Flags, Floats, Ints, Places, SeriesRules, SeriesTable
from meterhouse.sample_quality.verdicts import HOUR, Good, Verdicts, judge
from meterhouse.site import Site
from meterhouse.stores.lake_tables import QUARANTINE, TIME

T = TypeVar("T")

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


class Judging:
    """A judgement of the points of some event hours.

    Args:
        site: the site.
        version: of the lake's `samples`.
        told: the hours whose flagged points are wanted.
        read: the hours that are read: those of `told`, and others.
        threads: how many to use.
    """

    def __init__(
        self, site: Site, version: int, told: Sequence[datetime], read: Sequence[datetime], threads: ThreadPoolExecutor
    ) -> None:
        self.rules = site.rules
        self._carry_hours = site.settings.carry_hours
        self._threads = threads
        self._told = Hours(told)
        hours = Hours(read)
        self._alike = len(hours) == len(self._told)
        self._reading = Reading(site.lake, version, hours, threads, active(site, hours.spans))
        self.table = self._reading.table
        self._compiled = SeriesRules.of(self.rules, self.table)
        self._carried = carried_points(site.lake, self.table, hours, self._carry_hours)
        self._flagged: list[_Flagged] = []
        self._points = np.zeros(len(self._told), np.int64)

    def passes(self, each: Callable[[JudgedShard], T]) -> Iterator[list[T]]:
        """Judge all points; of each pass, yield what `each` made of its shards, in order of place.

        `each` is called in several threads at once.
        """
        for slices in self._reading.passes():
            results = list(self._threads.map(lambda one: self._judged(one, each), slices))
            made: list[T] = []
            while results:
                result, flagged, points = results.pop(0)
                made.append(result)
                self._points += points
                if len(flagged.place):
                    self._flagged.append(flagged)
            slices.clear()
            yield made
            made.clear()
            # Many arrays are too small for the system's allocator to give them back by itself.
            pa.default_memory_pool().release_unused()

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

    def _judged(self, slices: Slices, each: Callable[[JudgedShard], T]) -> tuple[T, _Flagged, Ints]:
        shard = Shard(self._reading, slices)
        points = shard.points
        carried = carried_to(self._carried, points.place)
        verdicts = judge(self.table, self._compiled, points, carried, self._carry_hours)
        excluded = (verdicts.bits & self.rules.critical_bits) != 0
        result = each(JudgedShard(self.table, shard, verdicts, excluded))
        rows, bits = verdicts.flagged, verdicts.bits
        if not self._alike:
            inside = self._told.hold(points.time[rows])
            rows, bits, excluded = rows[inside], bits[inside], excluded[inside]
        counts = self._told.counted(verdicts.good.time) + self._told.counted(points.time[rows[excluded]])
        sample, known = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        deltas = np.flatnonzero(self.table.kinds[points.place[rows]] == DELTA)
        if len(deltas):
            sample[deltas], known[deltas] = points.identify(rows[deltas])
        found = _Flagged(
            points.place[rows], points.time[rows], points.volume[rows] + 0.0, points.recorded[rows], sample, known, bits
        )
        return result, found, counts


@contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for a judgement: one a processor, because NumPy and Arrow let others run while they compute."""
    # What is freed must go back to the system: other pools keep as much as the largest pass took.
    pa.set_memory_pool(pa.system_memory_pool())
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "judging") as threads:
        yield threads


def by_rule(flagged: pa.Table, rules: Rules) -> pa.Table:
    """How many points of each hour and meter break each rule, as rows of `quality_daily`.

    Args:
        flagged: rows of `quarantine`.
        rules: by which they were judged.
    """
    counted: list[pa.Table] = []
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
