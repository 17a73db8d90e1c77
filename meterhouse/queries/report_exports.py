"""Reports of a day or of a month, put beside the lake's tables as Parquet and CSV."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from meterhouse import times
from meterhouse.progress import Progress, no_progress
from meterhouse.queries import export_states, reports
from meterhouse.queries.export_states import StaleExport
from meterhouse.queries.report_files import partition_of
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.warehouse_tables import report_exports
from meterhouse.untrusted import csv_cell

ENDINGS = ("parquet", "csv", "json")

_TIME = pa.timestamp("us", "UTC")
_RECORD = pa.schema(
    {
        **dict.fromkeys(("report", "partition"), pa.string()),
        **dict.fromkeys(("start_at", "end_at", "made_at", "holds_until"), _TIME),
        "rows": pa.int64(),
        **dict.fromkeys(("made_of", "stale"), pa.string()),
    }
)


@dataclass(frozen=True)
class Export:
    """Where a report was put, and what it holds.

    Attributes:
        uris: the files; none if the report has no rows.
        rows: the report.
        holds_until: up to which event time it shows everything that came; see `reports.holds_until`.
    """

    uris: list[str]
    rows: pa.Table
    holds_until: datetime


def export(site: Site, name: str, day: date) -> Export:
    """Put a report beside the lake's tables, as `exports/NAME/DAY.parquet` and `.csv`; a second run replaces it.

    `DAY.json` says up to which moment the report holds, and so do the metadata of the Parquet file. A report that is
    exported by month has `MONTH` instead of `DAY`. One without rows has no files: those of before are removed. What is
    to come is not exported.

    Args:
        site: the site.
        name: of the report.
        day: the day, or any day of the month.

    Raises:
        UnknownName: there is no such report.
        DefinitionError: the report's file cannot be run.
    """
    started = times.now()
    report = reports.report(site, name)
    key, start, end = partition_of(report.partition, day)
    held = reports.holds_until(site, start, end)
    with site.warehouse.read() as connection:  # before the rows: what changes meanwhile makes the export stale
        made_of = export_states.state(connection, report, start, end)
    rows = _table(reports.columns(site, name, start, end))
    if start >= started:
        rows = rows.slice(0, 0)
    this = {"report": name, "partition": key, "start_at": start, "end_at": end, "made_at": started}
    this |= {"holds_until": held, "rows": rows.num_rows}
    has_begun = start < started
    if has_begun:
        _record(site, this, {})  # stale, should this process die before the files are written
    uris = _write(site, name, key, rows, held)
    if has_begun:
        _record(site, this, made_of)
    figures = {"report": name, report.partition: key, "rows": rows.num_rows}
    site.warehouse.record_run("report", started, figures)
    return Export(uris, rows, held)


def _write(site: Site, name: str, key: str, rows: pa.Table, held: datetime) -> list[str]:
    """Write the files of an export, or remove those of before if it has no rows; return their URIs."""
    if not rows.num_rows:
        files = {f"{key}.{ending}" for ending in ENDINGS}
        old = [uri for uri, _ in site.lake.listed(f"exports/{name}") if uri.rpartition("/")[2] in files]
        if old:
            site.lake.remove(old)
        return []
    as_parquet, as_csv = io.BytesIO(), io.BytesIO()
    about = {"holds_until": times.text(held)}  # not when it was made: a second run changes nothing
    parquet.write_table(rows.replace_schema_metadata(about), as_parquet, compression="zstd")
    arrow_csv.write_csv(_for_people(rows), as_csv)
    described = export_states.described(name, key, rows.num_rows, held)
    contents = zip(ENDINGS, (as_parquet.getvalue(), as_csv.getvalue(), described), strict=True)
    return [site.lake.put(f"exports/{name}/{key}.{ending}", content) for ending, content in contents]


def _record(site: Site, export: Mapping[str, Any], made_of: Mapping[str, str]) -> None:
    row = {**export, "made_of": json.dumps(made_of), "stale": None}
    rows = pa.Table.from_pylist([row], schema=_RECORD)
    with site.warehouse.begin() as connection:
        upsert(connection, report_exports, rows, [f"{name} = excluded.{name}" for name in _RECORD.names[2:]])


def export_stale(site: Site, only: str | None = None, *, progress: Progress = no_progress) -> list[StaleExport]:
    """Export again what is stale, of a report or of all; return what was."""
    stale = export_states.stale_exports(site, only)
    for number, each in enumerate(stale, 1):
        export(site, each.report, each.start.date())
        progress(number, len(stale))
    return stale


def _table(columns: dict[str, list[object]]) -> pa.Table:
    return pa.table({name: _array(name, values) for name, values in columns.items()})


def _array(name: str, values: list[object]) -> pa.Array:
    """A column of one type; of texts if its values are of several."""
    try:
        return pa.array(values, pa.date32() if name == "day" else None)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _for_people(rows: pa.Table) -> pa.Table:
    """The rows with texts that control neither spreadsheet nor terminal. Parquet keeps them as they are."""
    for place, (name, column) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
        if pa.types.is_string(column.type):
            encoded = column.combine_chunks().dictionary_encode()
            safe = pa.array([csv_cell(text) for text in encoded.dictionary.to_pylist()], pa.string())
            rows = rows.set_column(place, name, safe.take(encoded.indices))
    return rows
