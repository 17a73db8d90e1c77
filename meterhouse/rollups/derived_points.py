"""Derived points and what they are made of, in columns: between the good points of a shard and the lake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from meterhouse.definitions.derived_meters import Derived
from meterhouse.sample_quality.series_table import Flags, Floats, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import Good, Points, Verdicts

_Columns = TypeVar("_Columns", "NewPoints", "Values")


@dataclass(frozen=True)
class Source:
    """Good points that meters are derived from, and how they are described.

    Attributes:
        table: of their series.
        good: the points.
        recorded: when each arrived, µs since 1970.
        metadata: gives each point's metadata_id and whether it has one; None if none has.
        identify: gives the sample ids of rows of `good`.
    """

    table: SeriesTable
    good: Good
    recorded: Ints
    metadata: Callable[[], tuple[Ints, Flags] | None]
    identify: Callable[[Ints], Ints]


@dataclass(frozen=True)
class NewPoints:
    """Derived points, in any order. `target` is a number of `Targets`."""

    target: npt.NDArray[np.int32]
    time: Ints
    volume: Floats
    recorded: Ints
    sample: Ints


@dataclass(frozen=True)
class Values:
    """One value a series and bucket. `series` is a number of `Targets`, `metadata` of the bucket's last point."""

    series: npt.NDArray[np.int32]
    bucket: Ints
    last_at: Ints
    value: Floats
    recorded: Ints
    metadata: Ints
    described: Flags


@dataclass(frozen=True)
class Waiting:
    """Points that have no value yet: their metadata has nothing of what their definition reads.

    Attributes:
        definition: of a kind of OF_POINTS.
        made: the points; their volume is what the scale is applied to.
        volume: of the source points.
        metadata: ids.
        described: whether they have metadata.
    """

    definition: Derived
    made: NewPoints
    volume: Floats
    metadata: Ints
    described: Flags


@dataclass
class Taken:
    """What one shard gives: derived points, those that wait for metadata, and values of buckets."""

    made: list[NewPoints] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """Derived points of some series, judged.

    Attributes:
        table: of their series.
        points: all of them, in order of place and time.
        verdicts: on them.
        sample: their sample ids; of meaning for deltas only.
        targets: the number of each series in `Targets`, by place.
    """

    table: SeriesTable
    points: Points
    verdicts: Verdicts
    sample: Ints
    targets: npt.NDArray[np.int32]


def together(parts: Sequence[_Columns]) -> _Columns:
    """The rows of all parts, of which there is at least one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    names = [each.name for each in fields(first)]
    return type(first)(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def some(made: NewPoints, keep: Any) -> NewPoints:
    """The rows that an index, a slice or flags choose."""
    return NewPoints(*(getattr(made, each.name)[keep] for each in fields(made)))


def finite(made: NewPoints) -> NewPoints:
    """The rows whose volume is a number."""
    return some(made, np.isfinite(made.volume))


def mixed(values: Ints) -> Ints:
    """Numbers that look random and are the same on every machine (splitmix64)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).view(np.int64)
