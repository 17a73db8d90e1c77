"""A point that was landed more than once, with ids or without, in any order, is one point."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_points import Point, distinct_points, level, nasty_points, shuffled, size, verdicts

from meterhouse.definitions.quality_rules import Rules, load
from meterhouse.sample_quality.judge import judge
from meterhouse.stores import duck
from meterhouse.stores.lake_tables import SAMPLES

SHIPPED = load(None)
LENIENT = Rules(
    tuple(
        rule if rule.check != "duplicate" else type(rule)(**{**vars(rule), "severity": "warning"})
        for rule in SHIPPED.rules
    ),
    SHIPPED.path,
)
"""Rules that keep points in conflict."""


def judged(variants: list[list[Point]], rules: Rules, carried: list[Point]) -> list[list[tuple[Any, ...]]]:
    """The verdicts of `sql/lake/judge.sql` on each list of points, as rows that can be compared.

    All are judged together, as points of different series.
    """

    def moved(rows: list[Point], by: int) -> list[Point]:
        return [{**row, "series_id": row["series_id"] // 2 + by} for row in rows]

    numbers = range(len(variants))
    tables = {
        "points": [row for number in numbers for row in moved(variants[number], number)],
        "carried": [row for number in numbers for row in moved(carried, number)],
    }
    with duck.connect() as connection:
        for name, rows in tables.items():
            connection.register(name, pa.Table.from_pylist(rows, schema=SAMPLES))
        judge(connection, rules, 1)
        found = duck.arrow(connection, "FROM verdicts").to_pylist()
    known = {
        row["series_id"] // 2 + number: (number, row["series_id"]) for n in variants for row in n for number in numbers
    }
    sorted_out: list[list[Point]] = [[] for _ in numbers]
    for row in found:
        number, row["series_id"] = known[row["series_id"]]
        sorted_out[number].append(row)
    return [comparable(rows) for rows in sorted_out]


def comparable(found: list[Point]) -> list[tuple[Any, ...]]:
    names = ("series_id", "timestamp", "sample_id", "volume", "recorded_at", "type", "bits", "previous")
    rows = [
        tuple(level(row[n]) if isinstance(row[n], float) else row[n] for n in names)
        for row in sorted(found, key=lambda r: (r["series_id"], r["timestamp"], r["sample_id"] or 0, size(r["volume"])))
    ]
    assert all(str(value) != "-0.0" for row in found for value in (row["volume"],))
    return rows


@pytest.mark.parametrize("rules", [SHIPPED, LENIENT], ids=["shipped", "lenient"])
@settings(max_examples=8, deadline=None)
@given(points=nasty_points(150), before=nasty_points(8), seed=st.integers(0, 99))
def test_verdicts_are_those_of_the_reference_whatever_the_ids_the_order_and_what_is_merged(
    rules: Rules, points: list[Point], before: list[Point], seed: int
) -> None:
    carried = {
        row["series_id"]: {**row, "timestamp": row["timestamp"].replace(hour=11)}
        for row in before
        if row["type"] == "cumulative" and row["volume"] == row["volume"]
    }
    given = list(carried.values())
    wanted = comparable(verdicts(points, rules, given, 1))
    without_ids = [{**row, "sample_id": row["sample_id"] if row["type"] == "delta" else None} for row in points]
    half = len(points) // 2
    merged = distinct_points(points[:half]) + points[half:]
    for found in judged([points, shuffled(points, seed), without_ids, merged], rules, given):
        assert found == wanted
