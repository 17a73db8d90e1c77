"""Derived meters of buckets: arithmetic over meters of one resource, and aggregation over resources.

Both take one value for each series and bucket of BUCKET seconds: the mean of a gauge, the last volume of a counter, the
sum of deltas. Sums are added in the order of resources, so that they do not depend on the order of arrival.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from meterhouse.definitions.column_expressions import Input
from meterhouse.definitions.derived_meters import Derived, path_of
from meterhouse.rollups.derived_points import NewPoints, Source, Values, finite, mixed
from meterhouse.rollups.described_values import DescribedValues
from meterhouse.rollups.targets import Codes, Dimensions, Targets
from meterhouse.sample_quality.series_table import CUMULATIVE, GAUGE, Flags, Floats, Ints, SeriesTable

BUCKET = 300
"""Seconds of the buckets."""

_BUCKET = BUCKET * 1_000_000


def values_of_buckets(
    series_of: npt.NDArray[np.int32],
    table: SeriesTable,
    source: Source,
    found: tuple[Ints, Flags] | None,
    hold: Callable[[Ints], Flags],
) -> Values:
    """One value for each series and bucket.

    Args:
        series_of: numbers of `Targets` by place, -1 for series that no definition takes.
        table: the series.
        source: their points.
        found: the metadata of each point, and whether it has some; None if nobody reads it.
        hold: which of the times (µs) are in the hours that are computed.
    """
    good = source.good
    keep = series_of[good.place] >= 0
    keep &= hold(good.time)
    rows = np.flatnonzero(keep)
    place, number = good.place[rows], good.time[rows] // _BUCKET
    new = np.ones(len(rows), np.bool_)
    new[1:] = (place[1:] != place[:-1]) | (number[1:] != number[:-1])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(rows)) - 1
    volume = good.volume[rows]
    kind = table.kinds[place[starts]]
    total = np.add.reduceat(volume, starts) if len(starts) else np.zeros(0)
    value = np.where(kind == GAUGE, total / np.maximum(ends - starts + 1, 1), total)
    value = np.where(kind == CUMULATIVE, volume[ends], value)
    last = rows[ends]
    ids, there = (
        (np.zeros(len(last), np.int64), np.zeros(len(last), np.bool_))
        if found is None
        else (
            found[0][last],
            found[1][last],
        )
    )
    return Values(
        series_of[place[starts]],
        number[starts] * _BUCKET,
        good.time[last],
        value,
        source.recorded[last],
        ids,
        there,
    )


class BucketMeters:
    """Makes the points of arithmetic and aggregated meters.

    Args:
        targets: the series by number.
        described: what is read of resource metadata.
    """

    def __init__(self, targets: Targets, described: DescribedValues) -> None:
        self._targets, self._described = targets, described

    def made(self, definition: Derived, values: Values) -> NewPoints | None:
        """The points of a meter, from all values that there are."""
        numbers, of = np.unique(values.series, return_inverse=True)
        dimensions = self._targets.rows(numbers)
        if definition.kind == "arithmetic":
            return self._arithmetic(definition, values, dimensions, of)
        return self._aggregate(definition, values, dimensions, of)

    def _arithmetic(
        self, definition: Derived, values: Values, dimensions: list[Dimensions], of: Ints
    ) -> NewPoints | None:
        expression = definition.expression
        assert expression is not None
        resources = _codes([(each[0], each[4]) for each in dimensions])[of]
        buckets, bucket_of = np.unique(values.bucket, return_inverse=True)
        key = resources * len(buckets) + bucket_of
        rows_of: dict[str, tuple[Ints, Ints]] = {}
        for meter in expression.meters:
            is_meter = np.array([each[1] == meter for each in dimensions], np.bool_)[of]
            rows = np.flatnonzero(is_meter)
            # If a resource has several series of the meter, the one with the latest point counts.
            rows = rows[np.lexsort((values.value[rows], values.last_at[rows], key[rows]))]
            last = np.ones(len(rows), np.bool_)
            last[:-1] = key[rows[1:]] != key[rows[:-1]]
            rows_of[meter] = key[rows[last]], rows[last]
        common = rows_of[expression.meters[0]][0]
        for keys, _ in rows_of.values():
            common = np.intersect1d(common, keys, assume_unique=True)
        if not len(common):
            return None
        taken = {meter: rows[np.searchsorted(keys, common)] for meter, (keys, rows) in rows_of.items()}
        columns: dict[Input, Floats] = {}
        for meter, rows in taken.items():
            read = [each.path for each in expression.inputs if each.meter == meter and each.path]
            numbers = self._described.numbers(
                read, values.series[rows], values.last_at[rows], values.metadata[rows], values.described[rows]
            )
            columns |= {Input(meter): values.value[rows], **{Input(meter, path): numbers[path] for path in read}}
        first = taken[expression.meters[0]]
        used, of_used = np.unique(of[first], return_inverse=True)
        made = [
            (source, definition.name, definition.type, definition.unit, resource, project, user)
            for source, _, _, _, resource, project, user in (dimensions[n] for n in used.tolist())
        ]
        target = self._numbers(made)[of_used]
        recorded = np.max([values.recorded[rows] for rows in taken.values()], axis=0)
        time = values.bucket[first]
        return finite(NewPoints(target, time, expression.compute(columns, len(common)), recorded, mixed(time)))

    def _aggregate(
        self, definition: Derived, values: Values, dimensions: list[Dimensions], of: Ints
    ) -> NewPoints | None:
        takes = np.array([definition.takes(each[1] or "", each[3]) for each in dimensions], np.bool_)[of]
        rows = np.flatnonzero(takes)
        if not len(rows):
            return None
        groups, of_group = self._groups(definition, values, dimensions, of, rows)
        resources = _codes([(each[0], each[4]) for each in dimensions])[of[rows]]
        bucket = values.bucket[rows]
        # Order within a group and bucket: by resource, so that sums do not depend on the order of arrival.
        order = np.lexsort((values.value[rows], values.last_at[rows], resources, bucket, of_group))
        rows, of_group, resources, bucket = rows[order], of_group[order], resources[order], bucket[order]
        last = np.ones(len(rows), np.bool_)  # of each resource, one value
        last[:-1] = (resources[1:] != resources[:-1]) | (bucket[1:] != bucket[:-1]) | (of_group[1:] != of_group[:-1])
        rows, of_group, bucket = rows[last], of_group[last], bucket[last]
        new = np.ones(len(rows), np.bool_)
        new[1:] = (bucket[1:] != bucket[:-1]) | (of_group[1:] != of_group[:-1])
        starts = np.flatnonzero(new)
        counts = np.diff(np.append(starts, len(rows)))
        value = values.value[rows]
        match definition.function:
            case "count":
                computed = counts.astype(np.float64)
            case "min":
                computed = np.minimum.reduceat(value, starts)
            case "max":
                computed = np.maximum.reduceat(value, starts)
            case "sum" | "mean":
                computed = np.add.reduceat(value, starts)
                computed = computed / counts if definition.function == "mean" else computed
        made: list[Dimensions] = []
        for source, unit, *parts in groups:
            resource = "/".join("-" if part is None else str(part) for part in parts) or "all"
            project = dict(zip(definition.by, parts, strict=True)).get("project_id")
            unit = definition.unit if definition.unit is not None else unit
            made.append((source, definition.name, definition.type, unit, resource, project, None))
        target = self._numbers(made)[of_group[starts]]
        recorded = np.maximum.reduceat(values.recorded[rows], starts)
        return finite(NewPoints(target, bucket[starts], computed, recorded, mixed(bucket[starts])))

    def _numbers(self, series: Sequence[Dimensions]) -> Codes:
        return self._targets.numbers(self._targets.coded(series))

    def _groups(
        self, definition: Derived, values: Values, dimensions: list[Dimensions], of: Ints, rows: Ints
    ) -> tuple[list[tuple[Any, ...]], Ints]:
        """The groups of an aggregate (source, unit, and a text for each of `by`), and which one each row is of."""
        key = of[rows]
        texts: dict[str, list[str | None]] = {}
        for by in definition.by:
            if by != "project_id":
                texts[by] = self._described.texts(path_of(by), values, rows)
                codes = {text: n for n, text in enumerate(dict.fromkeys(texts[by]))}
                key = key * len(codes) + np.array([codes[text] for text in texts[by]], np.int64)
        _, first, of_key = np.unique(key, return_index=True, return_inverse=True)
        found = []
        for n in first.tolist():
            source, _, _, unit, _, project, _ = dimensions[of[rows[n]]]
            found.append((source, unit, *(project if by == "project_id" else texts[by][n] for by in definition.by)))
        number = {group: n for n, group in enumerate(dict.fromkeys(found))}
        return list(number), np.array([number[group] for group in found], np.int64)[of_key]


def _codes(keys: list[tuple[str | None, str | None]]) -> Ints:
    """A number for each key, in the order of the keys, so that it does not depend on the order of arrival."""
    numbers = {
        key: n for n, key in enumerate(sorted(set(keys), key=lambda key: tuple((k is None, k or "") for k in key)))
    }
    return np.array([numbers[key] for key in keys], np.int64)
