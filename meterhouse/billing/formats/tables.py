"""The lines of a bill as CSV and Parquet."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse import times
from meterhouse.billing import figures
from meterhouse.billing.bill import Bill
from meterhouse.billing.formats import csv_text
from meterhouse.untrusted import csv_cell


def as_csv(bill: Bill) -> str:
    """The lines as CSV (RFC 4180, but with line feeds), with the project's name, and without their evidence.

    Its cells are those of `csv_text.cells`.
    """
    projects = {each: csv_cell(bill.name(each)) for each in bill.lines["project_id"].unique().to_pylist()}
    columns: dict[str, list[str]] = {}
    for name in bill.lines.column_names:
        if name == "evidence":
            continue
        columns[name] = csv_text.cells(bill.lines[name], figures.MONEY_DIGITS if name == "amount" else 0)
        if name == "project_id":
            columns["project_name"] = [projects[each] for each in bill.lines[name].to_pylist()]
    return csv_text.document(columns)


def as_parquet(bill: Bill) -> bytes:
    """The lines as Parquet, with their evidence and exact decimals; the file's metadata say which bill it is."""
    about = {"month": bill.month, "time_zone": bill.time_zone, "holds_until": times.text(bill.holds_until)}
    if bill.closing is not None:
        about |= {"closed_at": times.text(bill.closing.closed_at), "digest": bill.closing.digest}
    about["projects"] = json.dumps(dict(sorted(bill.projects.items())), ensure_ascii=False)
    return parquet(bill.lines.replace_schema_metadata(about))


def parquet(rows: pa.Table) -> bytes:
    """A table as Parquet; the same rows give the same bytes."""
    out = io.BytesIO()
    pq.write_table(rows.combine_chunks(), out, compression="zstd")
    return out.getvalue()
