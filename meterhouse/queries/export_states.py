"""What exports of reports are made of, and which are stale because it has changed since.

An export is made of a report's query, of event hours as they were rolled up then, and of the periods and names that the
query reads. Its state is a text for each of these, kept with the export. It is stale if one of them is another now. A
state does not depend on who changed what, so nothing has to be told, and a restored or repaired warehouse is noticed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, func, or_, select, true, update

from meterhouse import times
from meterhouse.queries import report_files
from meterhouse.queries.report_files import Report, before
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import (
    counted_periods,
    dirty_hours,
    metadata,
    name_history,
    names_now,
    reconciliation,
    reconciliation_daily,
    report_exports,
    resource_names,
    resource_periods,
    views,
)

Integers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"
Hashes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint64]]"
Span: TypeAlias = tuple[datetime, datetime]

ROWS: Final = 20_000
"""How many periods are read at a time."""

AGAIN: Final = times.HOUR
"""How long an export of a span that is not over is left as it is."""

PERIODS: Final = {table.name: table for table in (resource_periods, counted_periods)}
"""What has periods: the table, and the view that says until when each counts."""

NAMES: Final = frozenset({resource_names.name, name_history.name, names_now.name})

RECONCILED: Final = frozenset({reconciliation.name, reconciliation_daily.name})

_TIMES: Final = frozenset({"started_at", "ended_at", "counted_until", "confirmed_until"})
"""Columns of periods that count by how far they reach into a span: the last two grow with each poll."""

_ALL: Final = (1 << 64) - 1

_NEVER: Final = np.iinfo(np.int64).max

_REASONS: Final = {
    "query": "the report's query was changed",
    "periods": "periods of resources were recomputed",
    "names": "names were changed",
    "reconciliation": "days were reconciled",
}


@dataclass(frozen=True)
class StaleExport:
    """An export that shows something else than the report would now.

    Attributes:
        report: the name of the report.
        partition: the day or the month, as in the names of its files.
        start, end: its span, UTC.
        why: what has changed since.
    """

    report: str
    partition: str
    start: datetime
    end: datetime
    why: str


def tables_of(report: Report) -> set[str]:
    """The tables and views of the warehouse whose names are in a report's query."""
    return {name for name in (*metadata.tables, *views.tables) if name in report.words}


def state(connection: Connection, report: Report, start: datetime, end: datetime) -> dict[str, str]:
    """What an export of [start, end) is made of now."""
    return _states(connection, [(report, (start, end))])[0]


def stale_exports(site: Site, only: str | None = None, where: ColumnElement[bool] | None = None) -> list[StaleExport]:
    """The stale exports of a report or of all, in the order of report and time; with `where`, only of these.

    Those of a report that is no longer there, or whose file cannot be run, are left out.
    """
    known = {name: each for name, each in report_files.listed(site.settings.config_dir).items() if not each.fault}
    query = select(report_exports).order_by(report_exports.c.report, report_exports.c.start_at)
    if where is not None:
        query = query.where(where)
    if only is not None:
        query = query.where(report_exports.c.report == only)
    with site.warehouse.read() as connection:
        exports = [export for export in connection.execute(query) if export.report in known]
        now = _states(connection, [(known[each.report], (each.start_at, each.end_at)) for each in exports])
        found = []
        for export, state_now in zip(exports, now, strict=True):
            if why := _changed(connection, export, state_now):
                found.append(
                    StaleExport(export.report, export.partition, export.start_at, export.end_at, "; ".join(why))
                )
    return found


def due(since: datetime | None = None) -> ColumnElement[bool]:
    """The exports that one should look at when something changed that reaches to `since` or later; None: anything.

    Left out are those that are known to be stale, and those of a span that is not over if they are new.
    """
    now, table = times.now(), report_exports.c
    is_over = table.end_at <= now
    reached = true() if since is None else or_(table.end_at > since, and_(table.made_at < table.end_at, is_over))
    return and_(reached, table.stale.is_(None), or_(is_over, table.made_at <= now - AGAIN))


def noted(site: Site) -> list[tuple[StaleExport, datetime]]:
    """The exports that were seen to be stale and are not made again yet, each with when it was made."""
    query = select(report_exports).where(report_exports.c.stale.is_not(None))
    with site.warehouse.read() as connection:
        rows = connection.execute(query.order_by(report_exports.c.report, report_exports.c.start_at)).all()
    return [(StaleExport(row.report, row.partition, row.start_at, row.end_at, row.stale), row.made_at) for row in rows]


def note_stale(site: Site, where: ColumnElement[bool] | None = None) -> list[StaleExport]:
    """Look for stale exports, and let the JSON file of each say so until it is exported again; return them.

    Args:
        site: the site.
        where: which exports to look at, see `due`; all if None.
    """
    found = stale_exports(site, where=where)
    if not found:
        return []
    key = report_exports.c.report, report_exports.c.partition
    with site.warehouse.read() as connection:
        noted = {(each.report, each.partition): each for each in connection.execute(select(report_exports))}
    for export in found:
        kept = noted.get((export.report, export.partition))
        if kept is None or kept.stale == export.why:
            continue
        about = described(export.report, export.partition, kept.rows, kept.holds_until, export.why)
        if kept.rows:
            site.lake.put(f"exports/{export.report}/{export.partition}.json", about)
        same = key[0] == export.report, key[1] == export.partition
        with site.warehouse.begin() as connection:
            connection.execute(
                update(report_exports).where(*same, report_exports.c.made_at == kept.made_at).values(stale=export.why)
            )
            current = connection.execute(select(report_exports).where(*same)).first()
        if current is not None and current.rows and current.made_at != kept.made_at:  # it was made again meanwhile
            about = described(current.report, current.partition, current.rows, current.holds_until, current.stale)
            site.lake.put(f"exports/{export.report}/{export.partition}.json", about)
    return found


def described(report: str, partition: str, rows: int, holds_until: datetime, stale: str | None = None) -> bytes:
    """The JSON file of an export."""
    key = "month" if len(partition) == len("2026-11") else "day"
    about = {"report": report, key: partition, "rows": rows, "holds_until": times.text(holds_until)}
    return json.dumps(about | ({"stale": stale} if stale else {})).encode()


def _changed(connection: Connection, export: Row[Any], now: Mapping[str, str]) -> list[str]:
    before: dict[str, str] = json.loads(export.made_of)
    changed = [reason for part, reason in _REASONS.items() if before.get(part) != now.get(part)]
    if before.get("hours") != now.get("hours"):
        within = dirty_hours.c.hour >= export.start_at, dirty_hours.c.hour < export.end_at
        since = select(func.count()).where(*within, dirty_hours.c.rolled_at >= export.made_at)
        hours = connection.execute(since).scalar_one()
        counted = "1 hour was recomputed" if hours == 1 else f"{hours} hours were recomputed"
        changed.insert(0, counted if hours else "hours are not those of before")
    if export.made_at < export.end_at <= times.now():
        changed.append("its time was not over")
    return changed


def _states(connection: Connection, wanted: Sequence[tuple[Report, Span]]) -> list[dict[str, str]]:
    """The states of exports, each of a report and a span, by one pass over hours, periods and names."""
    wanted = [(report, _read_span(report, span)) for report, span in wanted]
    of_report = {report.name: tables_of(report) for report, _ in wanted}
    spans = sorted({span for _, span in wanted})
    hours = _hours(connection, spans)
    read = set[str]().union(*of_report.values())
    of_periods = {
        name: [(table, _columns_of(report)) for table in sorted(of_report[name] & PERIODS.keys())]
        for name, report in {report.name: report for report, _ in wanted}.items()
    }
    periods = {
        (table, columns): _periods(connection, spans, PERIODS[table], columns)
        for table, columns in {each for read_of in of_periods.values() for each in read_of}
    }
    names = _names(connection, spans) if read & NAMES else {}
    found = []
    for report, span in wanted:
        tables = of_report[report.name]
        made = {"query": digest([report.query])}
        if tables - NAMES - RECONCILED - PERIODS.keys():
            made["hours"] = hours[span]
        if of_periods[report.name]:
            made["periods"] = " ".join(periods[each][span] for each in of_periods[report.name])
        if tables & NAMES:
            made["names"] = names[span]
        if tables & RECONCILED:
            made["reconciliation"] = _reconciled(connection, span)
        found.append(made)
    return found


def _read_span(report: Report, span: Span) -> Span:
    """The span that a report over a span reads: one that names `:before` also reads the span before."""
    return (before(*span), span[1]) if "before" in report.parameters else span


def _hours(connection: Connection, spans: Sequence[Span]) -> dict[Span, str]:
    """How often the hours of each span were judged and rolled up, and at which version of the lake last."""
    if not spans:
        return {}
    columns = dirty_hours.c.hour, dirty_hours.c.judged_marks, dirty_hours.c.rolled_marks, dirty_hours.c.rolled_version
    within = dirty_hours.c.hour >= spans[0][0], dirty_hours.c.hour < max(end for _, end in spans)
    rows = connection.execute(select(*columns).where(*within).order_by(dirty_hours.c.hour)).all()
    at = np.array([times.micros(row.hour) for row in rows], np.int64)
    figures = np.array([[row.judged_marks, row.rolled_marks, row.rolled_version or 0] for row in rows], np.int64)
    found = {}
    for span in spans:
        first, last = np.searchsorted(at, [times.micros(moment) for moment in span])
        part = figures[first:last]
        found[span] = f"{len(part)} {part[:, 0].sum()} {part[:, 1].sum()} {part[:, 2].max()}" if len(part) else "0"
    return found


def _columns_of(report: Report) -> frozenset[str]:
    """The columns of periods that a query names; all of them if it selects `*`.

    One that names `confirmed_until` needs `confirmed_by` only to know how far a period reaches.
    """
    columns = frozenset(resource_periods.c.keys()) - _TIMES
    if report.selects_all:
        return columns
    return (columns - {"confirmed_by"} if "confirmed_until" in report.words else columns) & report.words


def _periods(connection: Connection, spans: Sequence[Span], of: Table, columns: frozenset[str]) -> dict[Span, str]:
    """A digest for each span of these columns of the periods in it, each period cut to the span.

    In `resource_periods`, one that goes on without an event that says so reaches to the end of the hour in which it was
    confirmed last; in `counted_periods`, to `counted_until`.
    """
    if not spans:
        return {}
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    table = of.c
    reach = (
        (table.counted_until,) if of is counted_periods else (table.ended_at, table.confirmed_until, table.confirmed_by)
    )
    rest = (table[name] for name in sorted(columns.intersection(table.keys())))
    query = select(table.started_at, *reach, *rest)
    query = query.where(table.started_at < last, (table.ended_at > first) | table.ended_at.is_(None))
    started, ended, hashes = _read(connection, query, len(reach))
    by_start, by_end = np.argsort(started, kind="stable"), np.argsort(ended, kind="stable")
    starts, ends = started[by_start], ended[by_end]
    of_starts, of_ends = _running(hashes[by_start]), _running(hashes[by_end])
    found = {}
    for span in spans:
        start, end = map(times.micros, span)
        upto = int(np.searchsorted(starts, start, side="right"))
        gone, over = int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(ends, end))
        begun, closed = by_start[upto : int(np.searchsorted(starts, end))], by_end[gone:over]
        closed = closed[started[closed] <= start]
        within = begun[ended[begun] < end]  # the others of `of_ends` began before the span
        whole = int(of_starts[upto]) - int(of_ends[over]) + int(hashes[within].sum(dtype=np.uint64))
        parts = np.concatenate([begun, closed])
        of_parts, since, until = hashes[parts], np.maximum(started[parts], start), np.minimum(ended[parts], end)
        factors = since.astype(np.uint64) * np.uint64(31) + until.astype(np.uint64) | np.uint64(1)
        mixed = int((of_parts * factors).sum(dtype=np.uint64)) + whole * (start * 31 + end | 1)
        count = len(parts) + upto - (over - len(within))
        found[span] = f"{count} {mixed & _ALL:x} {int(of_parts.sum(dtype=np.uint64)) + whole & _ALL:x}"
    return found


def _read(connection: Connection, query: Select[Any], reach: int) -> tuple[Integers, Integers, Hashes]:
    """When each period started, and ended by the next `reach` columns, in microseconds, and a hash of the rest.

    Some thousands of rows are read at a time.
    """
    parts = []
    for rows in connection.execution_options(yield_per=ROWS).execute(query).partitions():
        started = np.array([times.micros(row[0]) for row in rows], np.int64)
        ended = np.array([_reaches(*row[1 : 1 + reach]) for row in rows], np.int64)
        parts.append((started, ended, np.array([int(digest(row[1 + reach :]), 16) for row in rows], np.uint64)))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64)
    started, ended, hashes = (np.concatenate(each) for each in zip(*parts, strict=True))
    return started, ended, hashes


def _running(hashes: Hashes) -> Hashes:
    """At place n, the sum of the first n."""
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])


def _reaches(ended: datetime | None, confirmed: datetime | None = None, confirmed_by: str = "") -> int:
    if ended is not None:
        return times.micros(ended)
    if confirmed is None or "events" in confirmed_by:
        return _NEVER
    return times.micros(times.hour_of(confirmed) + times.HOUR)


def _names(connection: Connection, spans: Sequence[Span]) -> dict[Span, str]:
    """A digest for each span of the names that were valid from a time before its end.

    An id that is named later for the first time changes no past export: there is a new one each day.
    """
    table = resource_names.c
    rows = connection.execute(
        select(table.valid_from, table.kind, table.id, table.witness, table.name, table.domain_name)
    ).all()
    since = np.array([times.micros(row[0]) for row in rows], np.int64)
    hashes = np.array([int(digest(row), 16) for row in rows], np.uint64)
    order = np.argsort(since, kind="stable")
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes[order], dtype=np.uint64)])
    places = np.searchsorted(since[order], [times.micros(end) for _, end in spans])
    return {span: f"{sums[place]:x}" for span, place in zip(spans, places, strict=True)}


def _reconciled(connection: Connection, span: Span) -> str:
    """A digest of what a comparison of witnesses found on the days of a span."""
    table = reconciliation_daily.c
    query = select(*table).where(table.day >= span[0].date(), table.day < span[1].date())
    return digest(digest(row) for row in connection.execute(query.order_by(table.day, table.resource_type)))


def digest(values: Iterable[Any]) -> str:
    """A digest of the texts of values."""
    return blake2b("\0".join(map(str, values)).encode("utf-8", "replace"), digest_size=8).hexdigest()
