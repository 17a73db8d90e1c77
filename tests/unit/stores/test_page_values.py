"""Some values of a page are what pyarrow reads there, or the page is left to pyarrow."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.stores.page_values import Dictionary, Page, Unreadable
from meterhouse.stores.parquet_groups import Chunk, Runs, smallest

KINDS = {pa.int64(): "<i8", pa.float64(): "<f8"}


def pages_of(chunk: Chunk) -> list[bytes]:
    """The pages of a chunk, the dictionary's first, or b"" if there is none."""
    ends = np.cumsum([0, *chunk.page_sizes()]).tolist()
    pages = [chunk.pages.to_pybytes()[start:end] for start, end in pairwise(ends)]
    return pages if chunk.has_dictionary else [b"", *pages]


def numbers(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """Columns of many kinds, with the other encoding that each may get."""
    steps = rng.integers(0, 40, rows)
    return {
        "one": (np.zeros(rows), "PLAIN"),
        "packed": (rng.integers(0, 60, rows), "PLAIN"),
        "wide": (rng.integers(0, 3_000, rows) / 100, "BYTE_STREAM_SPLIT"),
        "repeated": (np.repeat(rng.integers(0, 9, rows), steps)[:rows].astype(np.float64), "PLAIN"),
        "mixed": (np.where(np.arange(rows) // 100 % 2, 7, rng.integers(0, 50, rows)), "PLAIN"),
        "split": (rng.random(rows), "BYTE_STREAM_SPLIT"),
        "plain": (rng.integers(-(1 << 62), 1 << 62, rows), "PLAIN"),
    }


@pytest.mark.parametrize("seed", range(4))
def test_values_of_some_rows_are_those_that_pyarrow_reads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(2_000, 9_000))
    size = int(rng.choice([500, 1_024, 1 << 20]))
    for name, (column, encoding) in numbers(rng, rows).items():
        values = pa.array(column)
        kind = KINDS[values.type]
        chunk = smallest({name: values}, {name: encoding}, [name], [name], size)[name]
        head, *pages = pages_of(chunk)
        known = Dictionary(head, kind).values if head else None
        for number, data in enumerate(pages):
            part = column[number * size : (number + 1) * size]
            page = Page(data, len(part))
            for start, stop in [(0, len(part)), *np.sort(rng.integers(0, len(part) + 1, (20, 2))).tolist()]:
                if start < stop:
                    assert np.array_equal(page.values(start, stop, known, kind), part[start:stop]), (name, start, stop)
            with pytest.raises(Unreadable):
                Page(data, len(part) + 1)


@pytest.mark.parametrize("length", [20, 63, 64, 100, 360])
@pytest.mark.parametrize("series", [1, 3, 300])
def test_the_run_of_a_series_is_found(length: int, series: int) -> None:
    lengths = np.full(series, length)
    lengths[-1] -= 3
    ids = np.arange(series) * 10 + 5
    chunk = smallest({"id": Runs(pa.array(ids), lengths)}, {}, [], ["id"], 1 << 20)["id"]
    head, data = pages_of(chunk)
    known, page = Dictionary(head, "<i8").values, Page(data, int(lengths.sum()))
    assert np.array_equal(known, ids)
    ends = np.cumsum(lengths)
    try:
        found = [page.run_of(code) for code in range(series + 1)]
    except Unreadable:
        assert length == 64  # the last run has a shorter header than the others
    else:
        assert found == [*zip((ends - lengths).tolist(), ends.tolist(), strict=True), (0, 0)]


def test_what_is_not_read_here_is_left_to_pyarrow() -> None:
    def page_of(values: pa.Array, **how: Any) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"v": values}), sink, compression=how.pop("compression", "zstd"), **how)
        place = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata.row_group(0).column(0)
        start = place.data_page_offset
        end = (place.dictionary_page_offset or start) + place.total_compressed_size
        return bytes(sink.getvalue()[start:end])

    numbers = pa.array(range(1_000))
    for data in (
        page_of(pa.array([1, None] * 500)),
        page_of(numbers, compression="none"),
        page_of(numbers, data_page_version="2.0"),
        b"\x15\x00\x15\x00",
    ):
        with pytest.raises((Unreadable, IndexError)):
            Page(data, 1_000)
    steps = page_of(numbers, use_dictionary=False, column_encoding="DELTA_BINARY_PACKED")
    assert Page(steps, 1_000).is_coded
    with pytest.raises(Unreadable):
        Page(steps, 1_000).values(0, 9, None, "<i8")


def test_a_page_with_the_content_of_the_one_before_is_decoded_once() -> None:
    first, other = (
        pages_of(smallest({"v": pa.array(np.arange(600) % 60 + add)}, {}, ["v"], ["v"], 1 << 20)["v"]) for add in (0, 9)
    )
    page = Page(first[1], 600)
    assert Page.after(page, other[1], 600) is page  # only its bounds differ
    assert Page.after(page, first[1], 600) is page
    known = Dictionary(first[0], "<i8")
    assert Dictionary.after(known, first[0], "<i8") is known
    assert Dictionary.after(known, other[0], "<i8").values.tolist() == list(range(9, 69))
    assert page.values(60, 62, Dictionary.after(known, other[0], "<i8").values, "<i8").tolist() == [9, 10]
