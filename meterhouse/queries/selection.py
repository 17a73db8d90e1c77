"""The series that a question is about, and the group of each at each time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, func, literal_column, select

from meterhouse.definitions.derived_meters import path_of
from meterhouse.filters import And, Condition, Filter, all_of, compares_texts, fields_of, on_lake, on_texts
from meterhouse.filters.fields import METADATA as _METADATA_COLUMN
from meterhouse.queries.aggregates import METADATA
from meterhouse.queries.own_metadata import Spans
from meterhouse.rollups.described import IDS_AT_ONCE, NAMED, History, history, history_of_series
from meterhouse.rollups.described_values import values_of
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import Flags, Ints, Places, SeriesTable
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata
from meterhouse.stores.warehouse_tables import series as series_table

DIMENSIONS = ("series_id", "type", "unit", "source", "resource_id", "project_id", "user_id")

_ALWAYS: Condition = And(())

_HALF, _LOWER = 32, (1 << 32) - 1
_BYTES_A_SERIES = 400

Group = tuple[Any, ...]
"""The values of what is grouped by, and then unit and type: points that differ in these are never put together."""


@dataclass(frozen=True)
class Selection:
    """Series, and the spans of time over which each is in one group.

    Attributes:
        table: the series.
        columns: their DIMENSIONS, by place.
        groups: the distinct groups, in order of their values; None comes last.
        owner: of each span, its series' place; in order of place and time.
        since: when it starts, µs; the first one of a series starts before all times.
        group: its group, as a place in `groups`; -1 if the series does not matter then.
        whole: whether these are all series of the meter.
    """

    table: SeriesTable
    columns: pa.Table
    groups: list[Group]
    owner: Places
    since: Ints
    group: Ints
    whole: bool = False
    _starts: Ints = field(init=False)
    _keys: Ints = field(init=False)

    def __post_init__(self) -> None:
        starts = np.unique(self.since)
        object.__setattr__(self, "_starts", starts)
        object.__setattr__(self, "_keys", self.owner * np.int64(len(starts)) + np.searchsorted(starts, self.since))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def changes(self) -> bool:
        """Whether any series is in several groups one after the other."""
        return len(self.owner) > len(self.table)

    def spans(self, place: Places, time: Ints) -> Ints:
        """Which span each of these series is in at a time (µs)."""
        if not self.changes:
            return place.astype(np.int64)
        rank = np.searchsorted(self._starts, time, side="right") - 1
        found: Ints = np.searchsorted(self._keys, place * np.int64(len(self._starts)) + rank, side="right") - 1
        return found

    def changed_in(self, hours: Ints, micros: int) -> tuple[Places, Ints]:
        """The series that change their group within one of these hours, and the hour's number; each pair once.

        Args:
            hours: their numbers since 1970, ascending.
            micros: the length of an hour.
        """
        later = np.flatnonzero(self.owner[1:] == self.owner[:-1]) + 1
        owner, since = self.owner[later], self.since[later]
        hour = since // micros
        at = np.searchsorted(hours, hour)
        inside = at < len(hours)
        inside[inside] = hours[at[inside]] == hour[inside]
        inside &= since % micros != 0
        pairs = np.unique(owner[inside].astype(np.int64) << 32 | hour[inside])
        return (pairs >> 32).astype(np.int32), pairs & 0xFFFFFFFF

    def distinct(self, name: str) -> tuple[Ints, int]:
        """A column as numbers by place, and how many different ones there are; -1 for null."""
        encoded = self.columns[name].combine_chunks().dictionary_encode()
        return plain(encoded.indices.fill_null(-1)).astype(np.int64), len(encoded.dictionary)


def select_series(
    site: Site,
    meter: str,
    groupby: Sequence[str],
    condition: Condition = _ALWAYS,
    *,
    own: Callable[[Ints], Spans] | None = None,
    fresh: pa.Table | None = None,
    keep: bool = True,
) -> Selection:
    """The series of a meter that meet a condition, by group.

    Args:
        site: the site.
        meter: the meter.
        groupby: columns, or `metadata.KEY`.
        condition: on SERIES; metadata is what came with the points or, if none came, that of the resource at the time.
        own: gives the metadata that came with the points of series, by the series' ids; then it alone counts.
        fresh: DIMENSIONS of series that the catalog may not know yet.
        keep: whether what `own` gives depends on the warehouse alone.
    """
    catalogued = site.kept.of_warehouse(
        ("series", meter),
        lambda: _catalogued(site, meter),
        lambda found: _BYTES_A_SERIES * len(found),
        is_same=lambda found: _is_same(site, meter, found),
    )

    def selected() -> Selection:
        rows = catalogued.rows if fresh is None else _with_fresh(catalogued.rows, fresh)
        return _selection(site, meter, rows, groupby, condition, own)

    if fresh is not None or not keep:
        return selected()
    by_metadata = asks_for_metadata(groupby, condition)
    return (site.kept.of_warehouse if by_metadata else site.kept.of)(
        ("selection", catalogued, tuple(groupby), condition, own is not None and by_metadata),
        selected,
        lambda found: _BYTES_A_SERIES * len(found.owner),
    )


def asks_for_metadata(groupby: Sequence[str], condition: Condition) -> bool:
    """Whether groups or a condition on SERIES depend on metadata."""
    columns = {each.column for each in fields_of(condition)}
    return _METADATA_COLUMN in columns or any(name.startswith(METADATA) for name in groupby)


def _selection(
    site: Site,
    meter: str,
    known: pa.Table,
    groupby: Sequence[str],
    condition: Condition,
    own: Callable[[Ints], Spans] | None,
) -> Selection:
    rows, condition = _equal(known, condition)
    kinds = rows["type"].combine_chunks().dictionary_encode()
    table = SeriesTable.coded(
        plain(rows["series_id"].combine_chunks()),
        np.zeros(len(rows), np.int32),
        [meter],
        plain(kinds.indices),
        kinds.dictionary.to_pylist(),
    )
    wanted = [name.removeprefix(METADATA) for name in groupby if name.startswith(METADATA)]
    owner, since = np.arange(rows.num_rows, dtype=np.int32), np.full(rows.num_rows, np.iinfo(np.int64).min)
    spans = rows
    if asks_for_metadata(groupby, condition):
        ids = plain(rows["series_id"].combine_chunks())
        owner, since, metadata = _described(site, rows) if own is None else own(ids)
        spans = rows.take(pa.array(owner))
        spans = _with_metadata(site, spans, metadata, wanted)
    codes, groups = _grouped(spans, [*groupby, "unit", "type"], _met(site, spans, condition))
    kept = _merged(owner, codes)
    owner, since, codes = owner[kept], since[kept], codes[kept]
    matter = np.zeros(rows.num_rows, np.bool_)
    matter[owner[codes >= 0]] = True
    if not matter.all():
        number = np.cumsum(matter) - 1
        of = matter[owner]
        owner, since, codes = number[owner[of]].astype(np.int32), since[of], codes[of]
        rows = rows.filter(pa.array(matter))
        table = SeriesTable(table.ids[matter], table.kinds[matter], table.meters[matter], table.meter_names)
    return Selection(table, rows, groups, owner, since, codes, len(rows) == len(known))


def _met(site: Site, rows: pa.Table, condition: Condition) -> Flags:
    """Which rows meet a condition."""
    if condition == _ALWAYS or not len(rows):
        return np.ones(len(rows), np.bool_)
    if compares_texts(condition):
        return on_texts(condition, rows)
    sql, values = on_lake(condition)
    with site.lake.connect() as duck:
        duck.register("series", rows.append_column("number", pa.array(np.arange(len(rows)))))
        chosen = duck.execute(f"SELECT number FROM series WHERE {sql}", values).fetchnumpy()["number"]
    flags = np.zeros(len(rows), np.bool_)
    flags[chosen] = True
    return flags


def _equal(rows: pa.Table, condition: Condition) -> tuple[pa.Table, Condition]:
    """The rows that meet those parts of a condition which name a value of a column, and the condition without them."""
    parts = condition.parts if isinstance(condition, And) else (condition,)
    others: list[Condition] = []
    for part in parts:
        if isinstance(part, Filter) and part.op == "eq" and part.target.column in DIMENSIONS:
            value = pa.scalar(part.value, pa.string())  # to find the type of a value, Arrow loads dateutil
            rows = rows.filter(pc.equal(rows[part.target.column], value))
        else:
            others.append(part)
    return rows, all_of(others)


def _with_fresh(rows: pa.Table, fresh: pa.Table) -> pa.Table:
    """The series of the catalog and further ones, in order of their ids."""
    both = pa.concat_tables([rows, fresh.select(DIMENSIONS).cast(rows.schema)])
    _, first = np.unique(plain(both["series_id"].combine_chunks()), return_index=True)
    return both.take(pa.array(first))


@dataclass(frozen=True, eq=False)
class _Catalogued:
    """The series of a meter that the catalog has: DIMENSIONS, in order of their ids."""

    rows: pa.Table

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def mark(self) -> tuple[int, int, int]:
        """What differs for other series: ids are hashes of all dimensions."""
        ids = plain(self.rows["series_id"].combine_chunks())
        return len(ids), int((ids >> _HALF).sum()), int((ids & _LOWER).sum())


def _is_same(site: Site, meter: str, known: _Catalogued) -> bool:
    """Whether the catalog still has these series: it changes with each new point, and its series seldom."""
    ids = series_table.c.series_id
    halves = (func.sum(ids.op(">>")(literal_column(str(_HALF)))), func.sum(ids.op("&")(_LOWER)))
    with site.warehouse.read() as connection:
        query = select(func.count(), *halves).where(series_table.c.meter == meter)
        return tuple(int(each or 0) for each in connection.execute(query).one()) == known.mark


def _catalogued(site: Site, meter: str) -> _Catalogued:
    schema = pa.schema([(name, pa.int64() if name == "series_id" else pa.string()) for name in DIMENSIONS])
    with site.warehouse.read() as connection:
        found = connection.execute(
            select(*(series_table.c[name] for name in DIMENSIONS)).where(series_table.c.meter == meter)
        ).all()
    columns = list(zip(*found, strict=True)) or [()] * len(schema)
    rows = pa.table([pa.array(values, each.type) for values, each in zip(columns, schema, strict=True)], schema=schema)
    return _Catalogued(rows.take(pa.array(np.argsort(plain(rows["series_id"].combine_chunks())))))


def _described(site: Site, rows: pa.Table) -> Spans:
    """Spans of one metadata of each series: the series' place, when it starts, its metadata_id.

    It is what came with the points of the series. If nothing came with them, it is that of the resource at the time.
    """
    ids = plain(rows["series_id"].combine_chunks())
    with site.warehouse.read() as connection:
        own = history_of_series(connection, ids)
        places = np.arange(len(ids))
        first, end = np.searchsorted(own.resource, places, "left"), np.searchsorted(own.resource, places, "right")
        alone = np.flatnonzero(first == end)
        resource, known = _of_resources(connection, rows.take(pa.array(alone)))
    begin, stop = np.searchsorted(known.resource, resource, "left"), np.searchsorted(known.resource, resource, "right")
    first[alone], end[alone] = len(own.time) + begin, len(own.time) + np.where(resource >= 0, stop, begin)
    time, metadata_id = np.concatenate((own.time, known.time)), np.concatenate((own.metadata, known.metadata))
    count = end - first + 1
    owner = np.repeat(np.arange(len(ids), dtype=np.int32), count)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    at = np.repeat(first, count) + place - 1
    since = np.full(len(owner), np.iinfo(np.int64).min)
    metadata, there = np.zeros(len(owner), np.int64), place > 0
    since[there], metadata[there] = time[at[there]], metadata_id[at[there]]
    return owner, since, pa.array(metadata, mask=~there)


def _of_resources(connection: Connection, rows: pa.Table) -> tuple[Ints, History]:
    """The number of the resource of each series, -1 if it has none, and the history of these resources."""
    sources, resources = rows["source"].to_pylist(), rows["resource_id"].to_pylist()
    numbers: dict[tuple[str, str], int] = {}
    of = [numbers.setdefault((s, r), len(numbers)) if s and r else -1 for s, r in zip(sources, resources, strict=True)]
    known = history(connection, list(numbers), NAMED.empty_table(), Hours([]))
    return np.array(of, np.int64), known.some(_last_of_time(known))


def _last_of_time(known: History) -> Flags:
    last = np.ones(len(known.time), np.bool_)
    last[:-1] = (known.time[1:] != known.time[:-1]) | (known.resource[1:] != known.resource[:-1])
    return last


def _with_metadata(site: Site, spans: pa.Table, metadata: pa.Array, keys: Sequence[str]) -> pa.Table:
    """The spans with a column `metadata` (JSON text), and one for each key, `metadata.KEY` (text)."""
    encoded = metadata.dictionary_encode()
    ids = plain(encoded.dictionary)
    texts: dict[int, str] = {}
    with site.warehouse.read() as connection:
        for place in range(0, len(ids), IDS_AT_ONCE):
            some = select(resource_metadata).where(
                resource_metadata.c.metadata_id.in_(ids[place : place + IDS_AT_ONCE].tolist())
            )
            texts.update((row[0], row[1]) for row in connection.execute(some))
    parsed = {number: json.loads(text) for number, text in texts.items()}
    columns = {"metadata": [texts.get(each) for each in ids.tolist()]}
    for key in keys:
        columns[METADATA + key] = [_text(value) for value in values_of(parsed, ids, path_of(METADATA + key))]
    for name, values in columns.items():
        coded = pa.DictionaryArray.from_arrays(encoded.indices, pa.array(values, pa.string()))
        spans = spans.append_column(name, coded.cast(pa.string()))
    return spans


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)


def _grouped(rows: pa.Table, names: Sequence[str], met: Flags) -> tuple[Ints, list[Group]]:
    """The group of each row as a place in the list of the groups, -1 for rows that do not matter."""
    code = np.zeros(rows.num_rows, np.int64)
    columns: list[tuple[Ints, list[Any]]] = []
    for name in names:
        encoded = rows[name].combine_chunks().dictionary_encode()
        values = [*encoded.dictionary.to_pylist(), None]
        keys = [(value is None, value or "") for value in values]
        ranked = sorted(range(len(values)), key=keys.__getitem__)
        rank = np.empty(len(values), np.int64)
        rank[ranked] = np.arange(len(values))
        of_row = rank[plain(encoded.indices.fill_null(len(values) - 1))]
        columns.append((of_row, [values[n] for n in ranked]))
        _, code = np.unique(code * len(values) + of_row, return_inverse=True)
    distinct, first = np.unique(code[met], return_index=True)
    at = np.flatnonzero(met)[first]
    groups = [tuple(values[of_row[n]] for of_row, values in columns) for n in at.tolist()]
    codes = np.where(met, np.searchsorted(distinct, code), -1)
    return codes, groups


def _merged(owner: Places, codes: Ints) -> Flags:
    """Which spans differ in group from the one before of their series."""
    new = np.ones(len(owner), np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
    return new
