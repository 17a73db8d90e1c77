"""Ids of lines."""

import pyarrow as pa

from meterhouse.billing.lines import line_id, line_ids


def test_ids_of_columns_are_those_of_single_lines_and_tell_all_parts_apart() -> None:
    columns = [pa.array(["a", "a", None, "ab"]), pa.array(["b", None, "a", ""])]
    made = line_ids(*columns).to_pylist()
    assert made == [line_id(*each) for each in zip(*(column.to_pylist() for column in columns), strict=True)]
    assert len(set(made)) == 4
    assert line_id("a", 1) == "26534f26ae89474ec19e"  # bills of earlier releases name lines by it
