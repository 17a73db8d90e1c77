"""Which hours have to be rolled up again, because the metadata of a resource changed that their derived points read.

A sample without metadata of its own is described by that of its resource, see `Derivation`. So a change in one hour
concerns the points of later hours, up to the resource's next change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Column, Connection, select

from meterhouse import times
from meterhouse.definitions.derived_meters import Derived
from meterhouse.rollups import described
from meterhouse.rollups.described import IDS_AT_ONCE, History, Resource
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import Flags, Ints
from meterhouse.sample_quality.spans import span_table
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import series

Answers = Callable[[Ints], Sequence[Flags]]
"""Ids of metadata → for each thing that definitions read, which of them have it."""


@dataclass(frozen=True)
class Series:
    """A series, as the warehouse has it."""

    series_id: int
    source: str
    meter: str
    unit: str | None
    resource_id: str | None


def later_hours(
    site: Site,
    readers: Sequence[Derived],
    hours: Hours,
    changes: pa.Table,
    history_of: Callable[[Sequence[Resource]], History],
    answers: Answers,
) -> list[datetime]:
    """The rolled-up hours, outside of these, with points of series of which a meter is made by other metadata now.

    Args:
        site: the site; its warehouse must still have the changes from before.
        readers: the definitions that read metadata.
        hours: the hours that are rolled up, at least one.
        changes: of metadata in these hours from now on, as rows of `metadata_changes`.
        history_of: gives the changes of resources, with those of now.
        answers: tells what metadata has of what the readers read.
    """
    with site.warehouse.read() as connection:
        changed = described.changed(connection, hours, changes)
        of_use = np.logical_or.reduce(answers(plain(changed["metadata_id"].combine_chunks())))
        changed = changed.filter(pa.array(of_use))
        if not changed.num_rows:
            return []
        of_series = {
            each.series_id: (each.source, each.resource_id)
            for each in series_of(connection, series.c.series_id, changed["series_id"].unique().to_pylist())
            if each.resource_id and "\0" not in each.resource_id
        }
        numbers = {resource: number for number, resource in enumerate(sorted(set(of_series.values())))}
        sources = [
            (each.series_id, number)
            for each in series_of(connection, series.c.resource_id, sorted({each for _, each in numbers}))
            if (number := numbers.get((each.source, each.resource_id or ""))) is not None
            and any(one.takes(each.meter, each.unit) for one in readers)
        ]
    if not sources:
        return []
    of_change = np.array([numbers.get(of_series.get(each, ("", "")), -1) for each in changed["series_id"].to_pylist()])
    start, end = _spans(of_change, plain(changed["valid_from"].combine_chunks()), history_of(list(numbers)), answers)
    of_source = np.array([number for _, number in sources])
    affected = pa.table(
        {
            "series_id": pa.array([series_id for series_id, _ in sources], pa.int64()),
            "start_at": pa.array(start[of_source]).cast(TIME),
            "end_at": pa.array(end[of_source]).cast(TIME),
        }
    )
    return _hours_of(site, affected, hours)


def _spans(number: Ints, time: Ints, history: History, answers: Answers) -> tuple[Ints, Ints]:
    """From when up to before when each resource's metadata is another, by its number."""
    keep = number >= 0
    number, time = number[keep], time[keep]
    resources = np.arange(number.max(initial=-1) + 1)
    first, last = np.full(len(resources), np.iinfo(np.int64).max), np.full(len(resources), np.iinfo(np.int64).min)
    np.minimum.at(first, number, time)
    np.maximum.at(last, number, time)
    whole = history.some(np.logical_and.reduce(answers(history.metadata)))
    return first, whole.next(resources, last)


def _hours_of(site: Site, affected: pa.Table, hours: Hours) -> list[datetime]:
    """The hours with roll-ups of these series in their spans, but for `hours`."""
    end = times.EPOCH + timedelta(microseconds=pc.max(affected["end_at"].cast(pa.int64())).as_py())
    reach = [(hours.spans[0][0], end)]
    files = site.lake.matching("rollups", overlapping=("bucket", reach), partitions={"granularity_s": [3600]})
    if not files.num_rows:
        return []
    with site.lake.connect() as duck:
        site.lake.view(duck, "rollups", [f"{site.lake.uri('rollups')}/{path}" for path in files["path"].to_pylist()])
        duck.register("affected", affected)
        outside = f"NOT {span_table(duck, 'wanted', hours.spans).within('bucket')}"
        found = duck.execute(
            "SELECT DISTINCT bucket FROM rollups JOIN affected USING (series_id) WHERE granularity_s = 3600 "
            f"AND bucket + INTERVAL '1 hour' > start_at AND bucket < end_at AND {outside}"
        )
        return sorted(row[0] for row in found.fetchall())


def series_of(connection: Connection, column: Column[Any], values: Sequence[object]) -> list[Series]:
    """The series that have one of these values in a column of the warehouse's table."""
    query = select(*(series.c[each.name] for each in fields(Series)))
    found: list[Series] = []
    for place in range(0, len(values), IDS_AT_ONCE):
        rows = connection.execute(query.where(column.in_(values[place : place + IDS_AT_ONCE])))
        found += [Series(*row) for row in rows]
    return found
