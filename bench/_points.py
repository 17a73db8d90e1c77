"""The points that the roll-up's benchmark measures with: a third noisy gauges, a third flat ones, a third counters.

Series number n is of resource n // 3. Its points are a minute apart, at whole minutes, and all series of a minute
arrive together some seconds later, as from one poll.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import identity, times
from meterhouse.site import Site
from meterhouse.stores.lake_tables import CONVERTED, SAMPLES

METERS = (("cpu_util", "gauge", "%"), ("memory.usage", "gauge", "MB"), ("cpu", "cumulative", "ns"))
"""Meter, type and unit of the noisy gauges, of the flat ones and of the counters."""

CADENCE = 60
DAY_MINUTES = 1_440
ARRIVES_AFTER = timedelta(seconds=3, microseconds=141_592)

Matrix = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fleet:
    """So many series.

    Args:
        series: how many.
        uneven: whether counters grow by another amount each minute, and not always by the same.
    """

    series: int
    uneven: bool = False
    _made: dict[int, dict[str, pa.Array]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def dimensions(self) -> dict[str, list[str]]:
        """The columns of text of the series, in order of their numbers."""
        made: dict[str, list[str]] = {}
        for number in range(self.series):
            meter, kind, unit = METERS[number % 3]
            resource = number // 3
            values = {
                "source": "openstack",
                "meter": meter,
                "type": kind,
                "unit": unit,
                "resource_id": f"{resource * 2_654_435_761 % 2**32:08x}-5ca1-4b1e-9a5e-{resource:012x}",
                "project_id": f"{resource % 200:032x}",
                "user_id": f"{resource % 500:032x}",
            }
            for name, value in values.items():
                made.setdefault(name, []).append(value)
        return made

    @cached_property
    def ids(self) -> Integers:
        """The series_id of each."""
        return np.array([identity.series_id(*row) for row in zip(*self.dimensions.values(), strict=True)], np.int64)

    def volumes(self, minutes: Sequence[int]) -> Matrix:
        """The volumes of all series at these minutes since the first one: a row for each series."""
        number = np.arange(self.series)[:, None]
        minute = np.asarray(minutes, np.int64)[None, :]
        random = np.random.default_rng((self.series, int(minutes[0]))).uniform(0, 1, (self.series, len(minutes)))
        noisy = (random * 100).round(2)
        flat = 512.0 * (1 + number % 16) + 0 * minute
        rate = 6e9 * (1 + number % 10)
        counter = rate * (minute + number % 1_000)
        if self.uneven:
            counter = counter + np.floor(random * rate)  # never as much as the next minute adds
        return np.choose(number % 3, [noisy, flat, counter])

    def samples(self, first: datetime, minutes: Sequence[int]) -> pa.Table:
        """Rows of `samples` in order of arrival; the minutes count from `first`, and are of one arrival hour."""
        dimensions = self._dimensions_of(len(minutes))
        instants = np.repeat(times.micros(first) + np.asarray(minutes, np.int64) * CADENCE * 1_000_000, self.series)
        arrival = times.arrival_hour(first + timedelta(minutes=int(minutes[0])))
        rows = len(instants)
        sample_ids = np.random.default_rng((1, self.series, int(minutes[0]))).integers(-(2**63), 2**63, rows, np.int64)
        columns = {
            "arrival_hour": _repeated(arrival, rows),
            "timestamp": pa.array(instants, SAMPLES.field("timestamp").type),
            "volume": pa.array(self.volumes(minutes).T.ravel()),
            "sample_id": pa.array(sample_ids),
            "recorded_at": pa.array(
                instants + ARRIVES_AFTER // timedelta(microseconds=1), SAMPLES.field("recorded_at").type
            ),
            **dimensions,
        }
        return pa.table({name: columns[name] for name in SAMPLES.names})

    def _dimensions_of(self, count: int) -> dict[str, pa.Array]:
        """The columns that are the same in every minute, for so many minutes."""
        if count not in self._made:
            codes = pa.array(np.tile(np.arange(self.series, dtype=np.int32), count))
            made: dict[str, pa.Array] = {
                "series_id": pa.array(self.ids).take(codes),
                "metadata_id": pa.array(np.arange(self.series) // 3).take(codes),
                "origin": _repeated(CONVERTED, len(codes)),
            }
            for name, values in self.dimensions.items():
                distinct, places = np.unique(np.array(values), return_inverse=True)
                of_rows = pa.array(places.astype(np.int32)).take(codes)
                made[name] = pa.DictionaryArray.from_arrays(of_rows, pa.array(distinct, pa.string())).cast(pa.string())
            self._made[count] = made
        return self._made[count]


def _repeated(value: str, rows: int) -> pa.DictionaryArray:
    """A column that is one text in every row."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def land(site: Site, fleet: Fleet, first: datetime, minutes: Sequence[int], at_once: int) -> int:
    """Append the points of these minutes, `at_once` minutes in one commit but never two hours; return how many."""
    made = 0
    for hour in sorted({minute // 60 for minute in minutes}):
        of_hour = [minute for minute in minutes if minute // 60 == hour]
        for place in range(0, len(of_hour), at_once):
            made += fleet.series * len(of_hour[place : place + at_once])
            site.lake.append("samples", fleet.samples(first, of_hour[place : place + at_once]))
    return made
