"""Reports of a day, put beside the lake's tables as Parquet and CSV."""

import io
import json
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from meterhouse import times
from meterhouse.queries import reports
from meterhouse.site import Site
from meterhouse.untrusted import csv_cell


@dataclass(frozen=True)
class Export:
    """Where a day's report was put, and what it holds.

    Attributes:
        uris: the files.
        rows: the report.
        holds_until: up to which event time it shows everything that came; see `reports.holds_until`.
    """

    uris: list[str]
    rows: pa.Table
    holds_until: datetime


def export(site: Site, name: str, day: date) -> Export:
    """Put a day's report beside the lake's tables, as `exports/NAME/DAY.parquet` and `.csv`; a second run replaces it.

    `DAY.json` says up to which moment the report holds, and so do the metadata of the Parquet file.

    Raises:
        UnknownName: there is no such report.
    """
    started = times.now()
    span = times.day_start(day), times.day_start(day) + times.DAY
    held = reports.holds_until(site, *span)
    columns = reports.columns(site, name, *span)
    rows = pa.table(
        {name: pa.array(values, pa.date32() if name == "day" else None) for name, values in columns.items()}
    )
    as_parquet, as_csv = io.BytesIO(), io.BytesIO()
    about = {"holds_until": times.text(held)}  # not when it was made: a second run changes nothing
    parquet.write_table(rows.replace_schema_metadata(about), as_parquet, compression="zstd")
    arrow_csv.write_csv(_for_people(rows), as_csv)
    uris = [
        site.lake.put(f"exports/{name}/{day}.{ending}", content)
        for ending, content in (
            ("parquet", as_parquet.getvalue()),
            ("csv", as_csv.getvalue()),
            ("json", json.dumps({"report": name, "day": str(day), "rows": rows.num_rows, **about}).encode()),
        )
    ]
    site.warehouse.record_run("report", started, {"report": name, "day": day, "rows": rows.num_rows})
    return Export(uris, rows, held)


def _for_people(rows: pa.Table) -> pa.Table:
    """The rows with texts that control neither spreadsheet nor terminal. Parquet keeps them as they are."""
    for place, (name, column) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
        if pa.types.is_string(column.type):
            encoded = column.combine_chunks().dictionary_encode()
            safe = pa.array([csv_cell(text) for text in encoded.dictionary.to_pylist()], pa.string())
            rows = rows.set_column(place, name, safe.take(encoded.indices))
    return rows
