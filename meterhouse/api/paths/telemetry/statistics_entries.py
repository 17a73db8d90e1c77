"""Statistics as entries of an answer, made of columns."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from meterhouse import times
from meterhouse.api.requests.aggregates import Aggregate
from meterhouse.queries.aggregates import USUAL
from meterhouse.queries.statistics_rows import StatisticsRows, listed
from meterhouse.sample_quality.series_table import Ints

Asked = tuple[datetime | None, datetime | None]


def entries(
    rows: StatisticsRows, aggregates: Sequence[Aggregate], groups: Mapping[str, str], asked: Asked
) -> list[dict[str, Any]]:
    """The entries of an answer, ordered by period.

    Args:
        rows: the statistics.
        aggregates: that were asked for; empty for the usual ones.
        groups: as they were asked for → the group's name in the rows.
        asked: start and end of the query.
    """
    if not len(rows):
        return []
    whole = rows.period == 0  # one period of all points, which lasts from the first to the last
    order = np.arange(len(rows)) if whole else np.argsort(rows.period_start, kind="stable")
    group, first, last = rows.group[order], rows.first_at[order], rows.last_at[order]
    begin, end = (first, last) if whole else (rows.period_start[order], rows.period_end[order])
    columns: dict[str, Sequence[Any]] = {
        "unit": [rows.groups[n][-2] for n in group.tolist()],
        "period": [rows.period] * len(rows) if rows.period is not None else ((end - begin) / 1e6).tolist(),
        "period_start": texts_of(begin),
        "period_end": texts_of(end),
        "groupby": _named(rows, group, groups),
        **_durations(first, last, asked),
    }
    if len({rows.groups[n][-1] for n in np.unique(group).tolist()}) > 1:
        columns["type"] = [rows.groups[n][-1] for n in group.tolist()]
    figures = {name: column[order] for name, column in rows.aggregates.items()}
    usual = [each.func for each in aggregates if each.func in USUAL] if aggregates else USUAL
    columns.update({name: listed(figures[name]) for name in usual})
    if aggregates:
        chosen = {each.key: listed(figures[each.name].astype(np.float64)) for each in aggregates}
        columns["aggregate"] = _rows(chosen)
    return _rows(columns)


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _named(rows: StatisticsRows, group: Ints, groups: Mapping[str, str]) -> list[dict[str, Any] | None]:
    """The group of each row, by the names that were asked for."""
    if not groups:
        return [None] * len(group)
    places = {name: rows.groupby.index(of) for name, of in groups.items()}
    known = {n: {name: rows.groups[n][place] for name, place in places.items()} for n in np.unique(group).tolist()}
    return [known[n] for n in group.tolist()]


def _durations(first: Ints, last: Ints, asked: Asked) -> dict[str, list[Any]]:
    """From the first to the last point, within the span that was asked for; none if no point is."""
    start = first if asked[0] is None else np.maximum(first, times.micros(asked[0]))
    end = last if asked[1] is None else np.minimum(last, times.micros(asked[1]))
    columns = {
        "duration": ((end - start) / 1e6).tolist(),
        "duration_start": texts_of(start),
        "duration_end": texts_of(end),
    }
    for n in np.flatnonzero(start > end).tolist():
        for column in columns.values():
            column[n] = None
    return columns


def texts_of(micros: Ints) -> list[Any]:
    """Times as texts, in UTC without a zone. Equal ones are one object."""
    distinct, of = np.unique(micros, return_inverse=True)
    epoch = times.EPOCH.replace(tzinfo=None)
    found = [(epoch + timedelta(microseconds=each)).isoformat() for each in distinct.tolist()]
    return [found[n] for n in of.tolist()]
