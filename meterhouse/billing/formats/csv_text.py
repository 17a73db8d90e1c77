"""Columns of Arrow as CSV that people open."""

import csv
import io
from collections.abc import Mapping, Sequence

import pyarrow as pa

from meterhouse import times
from meterhouse.billing import figures
from meterhouse.untrusted import csv_cell


def cells(column: pa.ChunkedArray, digits: int = 0) -> list[str]:
    """The values of texts, decimals or times as cells, each distinct one made once; null as empty text.

    Decimals are exact and have no exponent, times are ISO 8601 with `Z`. A text that a spreadsheet would take for a
    formula has a leading `'`.

    Args:
        column: the values.
        digits: how many digits after the point a decimal has at least.
    """
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if pa.types.is_decimal(column.type):
        shown = [figures.text(value, digits) for value in values]
    elif pa.types.is_timestamp(column.type):
        shown = [times.text(value) for value in values]
    else:
        shown = [csv_cell(value) for value in values]
    return ["" if place is None else shown[place] for place in encoded.indices.to_pylist()]


def document(columns: Mapping[str, Sequence[str]]) -> str:
    """CSV of columns of cells, with a header (RFC 4180, but with line feeds)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()
