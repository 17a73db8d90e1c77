"""Tiers, included amounts, discounts, minimums, taxes and the one rounding."""

from decimal import Decimal
from pathlib import Path

import pytest
from months import Month, bill, rated

from meterhouse.billing.exact import rounder
from meterhouse.definitions.prices import Rounding

HEAD = "currency: EUR\n"


def gib(*amounts: float, project: str = "p") -> Month:
    month = Month()
    for number, amount in enumerate(amounts):
        month.counted(f"r{number}", f"1 {number:02}:00", amount, project_id=project)
    return month


def egress(rest: str) -> str:
    return f"prices: [{{name: egress, service: Network, meter: egress, unit: GiB, {rest}}}]"


def test_graduated_slices_each_cost_their_price(tmp_path: Path) -> None:
    text = egress("graduated: [{up_to: 10, price: 1}, {up_to: 20, price: 0.5}, {price: 0.1}]")
    made = rated(tmp_path, text, gib(8, 7, 15))
    assert bill(made, "resource_id", "tier", "quantity", "unit_price", "amount") == [
        ("r0", "up to 10", "8", "1", "8"),
        ("r1", "up to 10", "2", "1", "2"),
        ("r1", "up to 20", "5", "0.5", "2.5"),
        ("r2", "above 20", "10", "0.1", "1"),
        ("r2", "up to 20", "5", "0.5", "2.5"),
    ]
    assert len(set(made.lines["line_id"].to_pylist())) == 5


@pytest.mark.parametrize(("total", "price"), [(10, "1"), (10.5, "0.5"), (20, "0.5"), (21, "0.1")])
def test_by_volume_everything_costs_the_price_of_the_slice_that_is_reached(
    tmp_path: Path, total: float, price: str
) -> None:
    text = egress("by_volume: [{up_to: 10, price: 1}, {up_to: 20, price: 0.5}, {price: 0.1}]")
    made = rated(tmp_path, text, gib(1, total - 1))
    assert {each for (each,) in bill(made, "unit_price")} == {price}
    assert sum(made.lines["quantity"].to_pylist()) == Decimal(str(total))


def test_an_included_amount_is_that_of_each_project_and_month(tmp_path: Path) -> None:
    text = egress("price: 1, included: 10")
    month = gib(6, 6)
    month.hours += gib(12, project="q").hours
    made = rated(tmp_path, text, month)
    assert bill(made, "project_id", "resource_id", "tier", "quantity", "amount") == [
        ("p", "r0", "included", "6", "0"),
        ("p", "r1", "included", "4", "0"),
        ("p", "r1", None, "2", "2"),
        ("q", "r0", "included", "10", "0"),
        ("q", "r0", None, "2", "2"),
    ]


def test_slices_begin_after_what_is_included(tmp_path: Path) -> None:
    text = egress("included: 10, graduated: [{up_to: 5, price: 1}, {price: 0.5}]")
    assert bill(rated(tmp_path, text, gib(20)), "tier", "quantity", "amount") == [
        *(("above 5", "5", "2.5"), ("included", "10", "0"), ("up to 5", "5", "5"))
    ]


def test_a_price_that_changes_within_the_month_goes_on_in_the_slice_that_was_reached(tmp_path: Path) -> None:
    text = """
prices:
  - {name: disk, where: {resource_type: volume}, measure: size_gib, included: 2400, price: 1, to: 2026-11-02}
  - {name: disk, where: {resource_type: volume}, measure: size_gib, included: 2400, price: 2, from: 2026-11-02}
"""
    month = Month().has("v", "1", "3", "volume", size_gib=75)
    assert bill(rated(tmp_path, text, month), "tier", "quantity", "amount") == [
        *(("included", "1800", "0"), ("included", "600", "0"), (None, "1200", "2400"))
    ]


def test_percent_discounts_lower_what_is_left_one_after_the_other(tmp_path: Path) -> None:
    text = (
        egress("price: 1")
        + """
discounts:
  - {name: partner, percent: 10, where: {project_id: p}}
  - {name: autumn, percent: 50, where: {service: Net*, price: "!other"}}
  - {name: others, percent: 50, where: {project_id: q}}
"""
    )
    made = rated(tmp_path, text, gib(99.99))
    assert bill(made, "kind", "description", "price", "service", "amount") == [
        ("usage", "egress", "egress", "Network", "99.99"),
        ("discount", "autumn 50 %", "egress", "Network", "-45"),
        ("discount", "partner 10 %", "egress", "Network", "-10"),
    ]


def test_a_fixed_discount_is_spread_over_prices_and_never_pays_anything_out(tmp_path: Path) -> None:
    text = """
prices:
  - {name: a, meter: egress, unit: GiB, price: 1}
  - {name: b, meter: egress, unit: GiB, price: 2}
  - {name: c, meter: egress, unit: GiB, price: 4}
discounts: [{name: voucher, amount: 10}]
"""
    made = rated(tmp_path, text, gib(10))
    assert bill(made, "kind", "price", "amount")[3:] == [
        *(("discount", "a", "-1.42"), ("discount", "b", "-2.86"), ("discount", "c", "-5.72"))
    ]
    assert sum(made.lines["amount"].to_pylist()) == 60
    assert sum(rated(tmp_path, text, gib(1)).lines["amount"].to_pylist()) == 0


def test_a_discount_within_the_month_cuts_the_lines_that_it_concerns(tmp_path: Path) -> None:
    text = """
prices:
  - {name: instance, where: {resource_type: instance}, price: 1}
  - {name: disk, where: {resource_type: volume}, price: 1}
discounts: [{name: launch, percent: 25, where: {price: instance}, from: 2026-11-02, to: 2026-11-03}]
"""
    month = Month().has("i", "1", "4").has("v", "1", "4", "volume")
    made = rated(tmp_path, text, month)
    assert bill(made, "kind", "price", "quantity", "amount") == [
        *(("usage", "disk", "72", "72"), *[("usage", "instance", "24", "24")] * 3),
        ("discount", "instance", None, "-6"),
    ]


def test_a_minimum_fills_up_a_bill_or_a_group_of_lines(tmp_path: Path) -> None:
    text = (
        egress("price: 1")
        + """
minimums:
  - {name: network base, amount: 5, where: {service: Network}, service: Network}
  - {name: account, amount: 7.5}
"""
    )
    of = {"kind", "price", "service", "amount"}
    made = bill(rated(tmp_path, text, gib(2)), *sorted(of))
    assert made == [
        ("2", "usage", "egress", "Network"),
        ("2.5", "minimum", "account", "Minimum"),
        ("3", "minimum", "network base", "Network"),
    ]
    assert len(bill(rated(tmp_path, text, gib(8)), "kind")) == 1


def test_taxes_are_computed_from_the_sum_of_rounded_lines_once(tmp_path: Path) -> None:
    text = (
        egress("price: 0.333")
        + """
taxes:
  - {name: VAT, percent: 19, to: 2026-11-11, where: {service: Network}}
  - {name: VAT, percent: 16, from: 2026-11-11}
  - {name: levy, percent: 0.5}
"""
    )
    month = gib(1, 1, 1).counted("r9", "20", 10)
    made = rated(tmp_path, text, month)
    assert bill(made, "kind", "price", "quantity", "unit_price", "unit", "amount")[4:] == [
        ("tax", "VAT", "0.99", "0.19", "EUR", "0.19"),
        ("tax", "VAT", "3.33", "0.16", "EUR", "0.53"),
        ("tax", "levy", "4.32", "0.005", "EUR", "0.02"),
    ]


def test_each_line_is_rounded_as_the_file_says(tmp_path: Path) -> None:
    of = {}
    for mode in ("half_up", "half_even", "half_down", "up", "down"):
        head = f"{HEAD}rounding: {{digits: 1, mode: {mode}}}\n"
        made = rated(tmp_path, egress("price: 1"), gib(0.25, 0.31, 0.35), head)
        of[mode] = [amount for (amount,) in bill(made, "amount")]
    assert of == {
        "half_up": ["0.3", "0.3", "0.4"],
        "half_even": ["0.2", "0.3", "0.4"],
        "half_down": ["0.2", "0.3", "0.3"],
        "up": ["0.3", "0.4", "0.4"],
        "down": ["0.2", "0.3", "0.3"],
    }


@pytest.mark.parametrize("mode", ["half_up", "half_even", "half_down", "up", "down"])
def test_rounding_is_that_of_decimal(mode: Rounding) -> None:
    divide = rounder(mode)
    for number in range(-40, 41):
        for by in (1, 2, 3, 4, 7, 10):
            exact = (Decimal(number) / by).quantize(Decimal(1), f"ROUND_{mode.upper()}")
            assert divide(number, by) == exact, (number, by)
