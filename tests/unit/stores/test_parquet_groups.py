"""Row groups that are put together here hold what every reader of Parquet reads from them."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse.stores import parquet_groups
from meterhouse.stores.duck import arrow
from meterhouse.stores.parquet_groups import GroupWriter, Runs, smallest

SCHEMA = pa.schema([("text", pa.string()), ("number", pa.int64()), ("volume", pa.float64())])

LENGTHS = [1, 16, 63, 64, 200, 8_191, 8_192]
"""The length of a run is a varint of one to three bytes."""

RUNS = st.lists(
    st.tuples(
        st.sampled_from([None, "", "a", "é", "b" * 40]),
        st.sampled_from([None, -(2**63), 0, 2**63 - 1]),
        st.sampled_from(LENGTHS),
    ),
    min_size=1,
    max_size=9,
)


def written(path: Path, texts: list[Any], numbers: list[Any], lengths: list[int]) -> pq.ParquetFile:
    """A file of two row groups of the same runs."""
    rows = sum(lengths)
    columns = {
        "text": Runs(pa.array(texts, pa.string()).dictionary_encode(), np.array(lengths, np.int64)),
        "number": Runs(pa.array(numbers, pa.int64()), np.array(lengths, np.int64)),
        "volume": pa.array(np.arange(rows) % 7.0),
    }
    with path.open("wb") as handle:
        writer = GroupWriter(handle, SCHEMA)
        for _ in range(2):
            chunks = smallest(columns, {}, {"number"})
            writer.add([chunks[name] for name in SCHEMA.names], rows)
        assert writer.close() == handle.tell()
    return pq.ParquetFile(path)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_runs_are_read_value_by_value(tmp_path: Path, runs: list[tuple[Any, Any, int]]) -> None:
    texts, numbers, lengths = (list(each) for each in zip(*runs, strict=True))
    file = written(tmp_path / "a.parquet", texts, numbers, lengths)
    again = np.tile(np.repeat(np.arange(len(runs)), lengths), 2)
    for name, values in (("text", texts), ("number", numbers)):
        expected = pa.array(values, SCHEMA.field(name).type).take(pa.array(again))
        assert file.read([name])[name].combine_chunks().equals(expected)
        with duckdb.connect() as other:
            found = arrow(other, f"SELECT {name} FROM '{tmp_path}/a.parquet'")
        assert found[name].combine_chunks().equals(expected)
    chunk = file.metadata.row_group(1).column(1)
    there = [number for number in numbers if number is not None]
    nulls = sum(length for number, length in zip(numbers, lengths, strict=True) if number is None)
    assert chunk.statistics.null_count == nulls
    if there:
        assert (chunk.statistics.min, chunk.statistics.max) == (min(there), max(there))
    assert file.metadata.row_group(1).column(0).statistics is None


@pytest.mark.parametrize("count", [1, 2, 3, 256, 257, 65_536, 65_537])
def test_a_run_names_its_value_in_as_few_bytes_as_needed(tmp_path: Path, count: int) -> None:
    lengths = [16] * count
    file = written(tmp_path / "a.parquet", [f"{n}" for n in range(count)], list(range(count)), lengths)
    group = file.read_row_group(0)
    assert group["number"].combine_chunks().equals(pa.array(np.repeat(np.arange(count), 16)))
    assert group["text"].combine_chunks().equals(pa.array(np.repeat(np.arange(count), 16)).cast(pa.string()))


def test_short_runs_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_groups, "_of_runs", lambda runs, *_: pytest.fail("by runs") if runs else {})
    file = written(tmp_path / "a.parquet", ["a", "b", "a"], [1, None, 2], [15, 2, 30])
    assert file.read()["number"].to_pylist() == ([1] * 15 + [None] * 2 + [2] * 30) * 2
