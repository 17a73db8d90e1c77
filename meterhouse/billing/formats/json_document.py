"""A bill as one JSON document: totals, lines with their evidence, and what the reader has to know.

Decimals are JSON numbers with all their digits: a reader that wants them exact parses them as decimals.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.billing import figures
from meterhouse.billing.bill import Bill, Total
from meterhouse.untrusted import json_text


def as_json(bill: Bill) -> str:
    """The bill as JSON; one line of text a line of the bill."""
    return json_text("".join(_parts(bill)))


def _parts(bill: Bill) -> Iterator[str]:
    yield "{\n"
    about = {
        "month": bill.month,
        "time_zone": bill.time_zone,
        "from": bill.start,
        "to": bill.end,
        "holds_until": bill.holds_until,
        "complete": bill.is_complete,
        "closed": bill.closing
        and {"at": bill.closing.closed_at, "by": bill.closing.closed_by, "digest": bill.closing.digest},
        "projects": dict(sorted(bill.projects.items())),
        "totals": [_total(each) for each in bill.totals()],
        "totals_by_project": [_total(each, "project_id") for each in bill.totals("project_id")],
        "totals_by_service": [_total(each, "service") for each in bill.totals("service")],
        "totals_by_price": [_total(each, "price") for each in bill.totals("price")],
        "remarks": list(bill.remarks),
    }
    for name, value in about.items():
        yield f"{json.dumps(name)}: {encoded(value)},\n"
    tables = {"lines": bill.lines, "not_priced": bill.not_priced, "unconfirmed": bill.unconfirmed}
    for place, (name, rows) in enumerate(tables.items()):
        yield f"{json.dumps(name)}: ["
        yield ",".join(f"\n{row}" for row in objects(rows))
        yield "]\n" if place == len(tables) - 1 else "],\n"
    yield "}\n"


def objects(rows: pa.Table) -> Iterator[str]:
    """Each row of a table as the JSON text of an object, on one line; metadata as an object."""
    names = [json.dumps(name) for name in rows.column_names]
    columns = [_column(rows[name], name) for name in rows.column_names]
    for values in zip(*columns, strict=True):
        yield "{" + ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True)) + "}"


def encoded(value: Any) -> str:
    """A value as JSON: decimals as numbers with all digits, times as ISO 8601 with `Z`."""
    if isinstance(value, Decimal):
        return figures.text(value)
    if isinstance(value, datetime):
        return json.dumps(times.text(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {encoded(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(encoded, value)) + "]"
    return json.dumps(value)


def _column(column: pa.ChunkedArray, name: str) -> list[str]:
    """The values as JSON texts, each distinct one made once."""
    array = column.combine_chunks()
    if pa.types.is_list(array.type):
        return _lists(array)
    values = array.dictionary_encode()
    if name == "metadata":
        shown = [json.dumps(json.loads(value)) for value in values.dictionary.to_pylist()]
    else:
        shown = [encoded(value) for value in values.dictionary.to_pylist()]
    return ["null" if place is None else shown[place] for place in values.indices.to_pylist()]


def _lists(array: pa.ListArray) -> list[str]:
    """Lists of objects as JSON texts."""
    inner = list(objects(pa.Table.from_struct_array(array.flatten())))
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0)).to_pylist()
    shown, start = [], 0
    for end, there in zip(ends, array.is_valid().to_pylist(), strict=True):
        shown.append(f"[{', '.join(inner[start:end])}]" if there else "null")
        start = end
    return shown


def _total(total: Total, name: str = "") -> dict[str, Any]:
    of = {name: total.of} if name else {}
    return of | {
        "currency": total.currency,
        "lines": total.lines,
        "net": total.net,
        "tax": total.tax,
        "gross": total.gross,
    }
