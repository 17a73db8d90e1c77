"""Points land in order: by meter, series, time and sample, with every value as it was."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import NOON, at, point
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.site import Site
from meterhouse.stores import lake_files, lake_order
from meterhouse.stores.lake_tables import SAMPLES

ORDER = ("meter", "series_id", "timestamp", "sample_id")

POINTS = st.lists(
    st.fixed_dictionaries(
        {
            "meter": st.sampled_from(["cpu", "Zoo", "é", "disk.read"]),
            "series_id": st.sampled_from([-(2**63), -1, 0, 7, 2**63 - 1]),
            "timestamp": st.sampled_from([at(), at(1), NOON.replace(year=1970), NOON.replace(year=2262)]),
            "sample_id": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            "project_id": st.one_of(st.none(), st.text(max_size=2)),
            "metadata_id": st.one_of(st.none(), st.integers(0, 3)),
        }
    ),
    max_size=12,
)


def table(points: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{**point(float(n)), **each} for n, each in enumerate(points)], schema=SAMPLES)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((row[name] is None, row[name]) for name in ORDER)


@settings(max_examples=60, deadline=None)
@given(POINTS)
def test_points_are_sorted_and_keep_every_value(points: list[dict[str, Any]]) -> None:
    rows = table(points)
    found = lake_order.ordered(rows).cast(SAMPLES).to_pylist()
    order = [row["series_id"] for row in found]
    # A series has the meter of its first row.
    named = {row["series_id"]: row["meter"] for row in reversed(rows.to_pylist())}
    wanted = sorted(rows.to_pylist(), key=lambda row: key({**row, "meter": named[row["series_id"]]}))
    assert order == [row["series_id"] for row in wanted]
    assert [row["sample_id"] for row in found] == [row["sample_id"] for row in wanted]
    assert sorted(map(repr, found)) == sorted(map(repr, rows.to_pylist()))


def test_landed_files_are_in_order_and_divided_into_small_row_groups(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_files, "POINTS_IN_GROUP", 5)
    points = [point(n, at(n % 4), meter=f"m{n % 3}", resource=f"r{n % 2}", recorded_at=at(5)) for n in range(24)]
    site.lake.append("samples", pa.Table.from_pylist(points, schema=SAMPLES))
    (path,) = site.lake.files("samples")
    file = pq.ParquetFile(path)
    found = file.read().to_pylist()
    assert found == sorted(found, key=key)
    assert file.schema_arrow.field("meter").type == pa.string()
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [5, 5, 5, 5, 4]
    meter = file.schema_arrow.names.index("meter")
    bounds = [file.metadata.row_group(n).column(meter).statistics for n in range(file.num_row_groups)]
    assert [(each.min, each.max) for each in bounds][:2] == [("m0", "m0"), ("m0", "m1")]
    assert sorted(row["volume"] for row in found) == [float(n) for n in range(24)]


def test_a_span_that_is_too_long_for_one_key_is_sorted_too() -> None:
    points = [{**point(n, at() + timedelta(days=(n * 7) % 10 * 3000)), "series_id": -n % 4} for n in range(40)]
    many = pa.concat_tables([table(points)] * 3)
    found = lake_order.ordered(many).to_pylist()
    assert [(row["series_id"], row["timestamp"]) for row in found] == sorted(
        (row["series_id"], row["timestamp"]) for row in many.to_pylist()
    )
