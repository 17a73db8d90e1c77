"""What holds for every month: the whole is the sum of its parts, and order does not matter."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from months import Binary, Month, at, read

from meterhouse.billing import exact
from meterhouse.billing.rating import rate
from meterhouse.definitions.prices import Prices

TEXT = """
time_zone: Europe/Berlin
metadata: [owner]
prices:
  - {name: vCPU, where: {resource_type: instance}, measure: vcpus, price: 0.0123,
     times: [{name: night, from: "22:30", to: "06:10", days: [mon-fri], price: 0.007}]}
  - {name: disk, where: {resource_type: instance}, measure: root_gib, per: month, included: 7.5,
     graduated: [{up_to: 10, price: 0.11}, {price: 0.07}]}
  - {name: flat, where: {resource_type: instance, flavor: a}, price: 1, to: 2026-11-11}
  - {name: flat, where: {resource_type: instance}, price: 3, from: 2026-11-11}
  - {name: begun, where: {resource_type: instance}, durations: hours begun, measure: vcpus, price: 1}
  - {name: egress, meter: egress, unit: GiB, by_volume: [{up_to: 10, price: 1}, {price: 0.9}]}
discounts: [{name: d, percent: 12.5, from: 2026-11-17}]
taxes: [{name: VAT, percent: 19}]
"""


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Prices:
    made = read(tmp_path_factory.mktemp("prices"), TEXT)
    assert not made.faults
    return made


SECONDS = 30 * 86_400 - 3_600  # November in Berlin ends at 23:00 UTC
MEASURES = st.sampled_from([1.0, 2.0, 0.1, 20.7, 1e-9, 123456789.1])


@st.composite
def months(draw: Any) -> Month:
    month = Month()
    for number in range(draw(st.integers(1, 4))):
        cuts = sorted(draw(st.sets(st.integers(0, SECONDS), min_size=2, max_size=5)))
        for low, high in pairwise(cuts):
            month.has(
                f"i{number}",
                later(low),
                later(high),
                project_id=draw(st.sampled_from("pq")),
                flavor=draw(st.sampled_from(["a", "b", None])),
                vcpus=draw(MEASURES),
                root_gib=draw(MEASURES),
                metadata=draw(st.sampled_from([None, {"owner": "x"}, {"owner": "y"}])),
            )
    for hour in draw(st.sets(st.integers(0, 719), max_size=6)):
        month.counted(f"i{hour % 2}", later(hour * 3600), draw(st.floats(0, 1e6)))
    return month


def later(seconds: int) -> str:
    return (at("1") + timedelta(seconds=seconds)).isoformat()


def content(month: Month, prices: Prices) -> bytes:
    made = rate(month, prices, "2026-11", Binary())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.lines.schema) as writer:
        writer.write_table(made.lines)
    return bytes(sink.getvalue())


@settings(max_examples=25)
@given(months(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_byte(prices: Prices, month: Month, random: Any) -> None:
    before = content(month, prices)
    random.shuffle(month.rows)
    random.shuffle(month.hours)
    assert content(month, prices) == before


@settings(max_examples=25)
@given(months(), st.data())
def test_a_further_cut_of_a_stretch_changes_no_figure(prices: Prices, month: Month, data: Any) -> None:
    place = data.draw(st.integers(0, len(month.rows) - 1))
    row = month.rows[place]
    inside = data.draw(st.datetimes(row["started_at"].replace(tzinfo=None), row["ended_at"].replace(tzinfo=None)))
    cut: datetime = inside.replace(tzinfo=row["started_at"].tzinfo)
    parts = Month([*month.rows[:place], {**row, "ended_at": cut}, {**row, "started_at": cut}, *month.rows[place + 1 :]])
    parts.hours = month.hours
    whole = rate(month, prices, "2026-11", Binary()).lines.drop_columns("evidence")
    assert rate(parts, prices, "2026-11", Binary()).lines.drop_columns("evidence") == whole


@settings(max_examples=25)
@given(months())
def test_ids_are_unique_and_parts_of_the_evidence_add_up_to_the_quantity(prices: Prices, month: Month) -> None:
    lines = rate(month, prices, "2026-11", Binary()).lines.to_pylist()
    assert len({line["line_id"] for line in lines}) == len(lines)
    seconds = dict[str, float]()
    for row in month.rows:
        project = row["project_id"]
        span = (row["ended_at"] - row["started_at"]).total_seconds()
        seconds[project] = seconds.get(project, 0) + span * row["vcpus"]
    for project, total in seconds.items():
        of = [
            line["quantity"]
            for line in lines
            if (line["price"], line["project_id"], line["kind"]) == ("vCPU", project, "usage")
        ]
        assert float(sum(of)) == pytest.approx(total / 3600, rel=1e-9, abs=1e-9)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=6), st.floats(1e-6, 1e-3))
def test_graduated_tiers_are_continuous_and_monotonic(amounts: list[float], step: float) -> None:
    prices = read_once(egress("graduated: [{up_to: 10, price: 1}, {up_to: 250.5, price: 0.5}, {price: 0.1}]"))

    def cost(of: list[float]) -> Decimal:
        month = Month()
        for number, amount in enumerate(of):
            month.counted(f"r{number}", later(number * 3600), amount)
        return sum(rate(month, prices, "2026-11", Binary()).lines["amount"].to_pylist(), Decimal(0))

    cheaper, dearer = cost(amounts), cost([*amounts[:-1], amounts[-1] + step])
    assert 0 <= dearer - cheaper <= Decimal(repr(step)) + Decimal("1e-8")
    total = sum(map(Decimal, map(repr, amounts)), Decimal(0))
    slices = ((Decimal(10), Decimal(1)), (Decimal("240.5"), Decimal("0.5")), (Decimal(10**9), Decimal("0.1")))
    expected = Decimal(0)
    for size, price in slices:
        part = min(total, size)
        expected, total = expected + part * price, total - part
    assert abs(cheaper - expected) <= Decimal("1e-8")


def egress(rest: str) -> str:
    return f"prices: [{{name: egress, meter: egress, unit: GiB, {rest}}}]"


def read_once(text: str) -> Prices:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return replace(read(Path(folder), text), digits=9)


@given(st.lists(st.floats(0, 1e15, allow_subnormal=False), min_size=1, max_size=30), st.data())
def test_sums_of_floats_are_those_of_the_decimals_that_they_are_written_as(values: list[float], data: Any) -> None:
    inner = data.draw(st.sets(st.integers(1, len(values)), max_size=3)) - {len(values)}
    starts = sorted({0, *inner})
    sums, digits = exact.sums_of_floats(np.array(values), np.array(starts))
    for low, high, total in zip(starts, [*starts[1:], len(values)], sums, strict=True):
        expected = sum(map(_fraction, values[low:high]), _fraction(0.0))
        assert _fraction(0.0) + total == expected * 10**digits


def _fraction(value: float) -> Any:
    from fractions import Fraction

    return Fraction(repr(value))
