"""Corrections: the differences between a closed month as it is now and what was billed for it."""

import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from bills import NOVEMBER, line, table, tax

from meterhouse.billing import lines as billed
from meterhouse.billing.differences import corrections


def _found(now: list[dict[str, Any]], *before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = corrections(table(now), [table(each) for each in before], "2026-12", "2026-11")
    assert made.schema.equals(billed.SCHEMA)
    rows: list[dict[str, Any]] = made.to_pylist()
    return rows


def test_nothing_that_changed_is_no_line() -> None:
    assert _found([], []) == []
    assert _found([line(), tax("5.47", "28.80")], [line(), tax("5.47", "28.80")]) == []


def test_the_order_of_lines_and_what_they_say_beside_figures_change_nothing() -> None:
    one, other = line(), line("1.00", resource_id="i2")
    assert _found([one, other], [{**other, "resource_name": "renamed", "evidence": None}, one]) == []


def test_a_difference_has_the_quantity_and_the_price_of_its_lines() -> None:
    (row,) = _found([line("30.00", quantity="3000")], [line("28.80", quantity="2880")])
    assert (row["kind"], row["amount"], row["quantity"], row["unit"]) == (
        "correction",
        Decimal("1.20"),
        Decimal(120),
        "vCPU·h",
    )
    assert (row["unit_price"], row["corrects"], row["month"]) == (Decimal("0.01"), "2026-11", "2026-12")
    assert row["evidence"]


def test_lines_of_several_prices_for_one_resource_have_no_one_unit_price() -> None:
    first = line("1.00", tier="up to 100", description="vCPU, up to 100")
    now = [first, line("2.00", unit_price="0.02", tier="above", description="vCPU, above 100")]
    (row,) = _found(now, [first])
    assert (row["amount"], row["unit_price"]) == (Decimal("2.00"), None)
    assert row["description"] == row["price"]


def test_a_quantity_that_changed_for_nothing_is_a_line_too() -> None:
    (row,) = _found([line("0", quantity="10", tier="included")], [line("0", quantity="4", tier="included")])
    assert (row["amount"], row["quantity"]) == (Decimal(0), Decimal(6))


def test_a_line_that_is_gone_is_credited_as_it_was_described() -> None:
    (row,) = _found([], [line()])
    assert (row["amount"], row["quantity"], row["resource_name"], row["evidence"]) == (
        Decimal("-28.80"),
        Decimal(-2880),
        "web",
        None,
    )


@pytest.mark.parametrize("kind", ["discount", "minimum", "credit"])
def test_lines_without_a_quantity_are_compared_by_amount(kind: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("resource_id", "resource_type", "quantity", "unit", "unit_price"))
    (row,) = _found([line("-3.00", kind=kind, **nothing)], [line("-2.00", kind=kind, **nothing)])
    assert (row["kind"], row["amount"], row["quantity"]) == ("correction", Decimal("-1.00"), None)


def test_a_tax_is_corrected_by_a_tax() -> None:
    (row,) = _found([tax("5.00", "26.32")], [tax("5.47", "28.80")])
    assert (row["kind"], row["amount"], row["quantity"]) == ("tax", Decimal("-0.47"), None)


def test_what_earlier_corrections_have_billed_is_not_billed_again() -> None:
    first = _found([line("30.00")], [line("28.80")])
    assert _found([line("30.00")], [line("28.80")], first) == []
    (row,) = _found([line("31.00")], [line("28.80")], first)
    assert row["amount"] == Decimal("1.00")


def test_the_same_differences_have_the_same_ids_and_others_have_others() -> None:
    now = [line("30.00"), line("1.00", resource_id="i2"), tax("5.80", "31.00")]
    ids = [row["line_id"] for row in _found(now, [])]
    assert ids == [row["line_id"] for row in _found(now[::-1], [])]
    assert len(set(ids)) == 3
    later = corrections(table(now), [], "2027-01", "2026-11")["line_id"].to_pylist()
    assert not set(ids) & set(later)


def test_amounts_of_two_currencies_are_not_added() -> None:
    rows = _found([line("30.00", currency="USD")], [line("28.80")])
    assert {(row["currency"], row["amount"]) for row in rows} == {
        ("USD", Decimal("30.00")),
        ("EUR", Decimal("-28.80")),
    }


def test_the_evidence_of_a_line_of_many_periods_takes_no_time_of_its_square() -> None:
    periods = 20_000
    evidence = [
        {
            "started_at": NOVEMBER + timedelta(seconds=number),
            "ended_at": NOVEMBER + timedelta(seconds=number + 1),
            "start_evidence": f"message-{number}",
            "end_evidence": None,
        }
        for number in range(periods)
    ]
    now = table([line("30.00", evidence=evidence, tier="up to 100"), line("1.00", evidence=evidence, tier="above")])
    began = time.process_time()
    (row,) = corrections(now, [table([line()])], "2026-12", "2026-11").to_pylist()
    assert time.process_time() - began < 5
    assert row["evidence"] == evidence
