"""The answer to a question for statistics: columns, of which a row is made for each period, group, unit and type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from meterhouse import times
from meterhouse.queries.answers import Column
from meterhouse.queries.selection import Group
from meterhouse.sample_quality.series_table import Ints


@dataclass(frozen=True)
class StatisticsRows:
    """The columns of an answer, in order of its rows. Times are µs since 1970, UTC.

    Attributes:
        aggregates: by name; NaN where there is none.
        groups: the groups, each with its unit and type.
        group: of each row, as a place in `groups`.
        groupby: what is grouped by.
        period: the length of all periods in seconds; None if they differ.
        period_start: when the period starts.
        period_end: when it ends.
        first_at: the time of the first point.
        last_at: that of the last.
    """

    aggregates: Mapping[str, Column]
    groups: Sequence[Group]
    group: Ints
    groupby: Sequence[str]
    period: int | None
    period_start: Ints
    period_end: Ints
    first_at: Ints
    last_at: Ints

    def __len__(self) -> int:
        return len(self.group)

    def rows(self) -> list[dict[str, Any]]:
        """The rows as mappings; see `statistics.statistics`."""
        groups = [self.groups[n] for n in self.group.tolist()]
        given = {group: dict(zip(self.groupby, group[:-2], strict=True)) or None for group in set(groups)}
        length = self.period
        lengths = ((self.period_end - self.period_start) / 1e6).tolist() if length is None else [length] * len(self)
        columns: dict[str, Sequence[Any]] = {
            **{name: listed(column) for name, column in self.aggregates.items()},
            "unit": [group[-2] for group in groups],
            "type": [group[-1] for group in groups],
            "period": lengths,
            "period_start": instants(self.period_start),
            "period_end": instants(self.period_end),
            "duration": ((self.last_at - self.first_at) / 1e6).tolist(),
            "duration_start": instants(self.first_at),
            "duration_end": instants(self.last_at),
            "groupby": [(known := given[group]) and dict(known) for group in groups],
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


_NONE = np.zeros(0, np.int64)
NO_ROWS = StatisticsRows({}, (), _NONE, (), None, _NONE, _NONE, _NONE, _NONE)


def listed(column: Column) -> list[Any]:
    """A column as a list; None for NaN."""
    found: list[Any] = column.tolist()
    if column.dtype.kind == "f" and np.isnan(column).any():
        return [None if value != value else value for value in found]
    return found


def instants(micros: Ints) -> list[datetime]:
    """Times as aware datetimes, UTC. Equal ones are one object."""
    distinct, of = np.unique(micros, return_inverse=True)
    found = [times.EPOCH + timedelta(microseconds=each) for each in distinct.tolist()]
    return [found[n] for n in of.tolist()]
