"""The FinOps Foundation's validator accepts our FOCUS files, and refuses broken ones."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import focus_validator
import pytest
from bills import DECEMBER, bill_of, line, tax

from meterhouse.billing.bill import Closing
from meterhouse.billing.formats import focus

pytestmark = pytest.mark.slow

COMPUTED = dict.fromkeys(("resource_id", "resource_type", "quantity", "unit", "unit_price"))
LINES = [
    line(),
    line("1.00", price="traffic", service="Network", resource_type=None, resource_id="r1", unit="GiB", metadata=None),
    line("3", quantity="3", unit_price="1", tier="up to 100"),
    line("-2.00", kind="discount", **COMPUTED),
    line("4.00", kind="minimum", **COMPUTED),
    line("-1.00", kind="correction", corrects="2026-10", quantity="-100"),
    tax("6.42", "33.80"),
]


def _written(lines: list[dict[str, Any]], file: Path, closing: Closing | None = None) -> Path:
    file.write_text(focus.as_csv(bill_of(lines, closing=closing), "Example Cloud", "RegionOne"), encoding="utf-8")
    return file


def test_the_validator_accepts_bills_with_lines_of_each_kind(tmp_path: Path) -> None:
    files = [
        _written(LINES, tmp_path / "open.csv"),
        _written(LINES, tmp_path / "closed.csv", Closing(DECEMBER, "ann", "ab" * 32)),
        _written(LINES[:1], tmp_path / "usage.csv"),
        _written(LINES[6:], tmp_path / "tax.csv"),
    ]
    assert focus_validator.failed(files) == [[], [], [], []]


def test_the_validator_refuses_broken_files(tmp_path: Path) -> None:
    breaks: Mapping[str, tuple[str, str | None]] = {
        "ChargeFrequency_Enum": ("ChargeFrequency", "Sometimes"),
        "BillingCurrency_IsCurrencyCode": ("BillingCurrency", "coins"),
        "BilledCost_IsDecimal": ("BilledCost", "a lot"),
        "ChargePeriodEnd_IsDateTime": ("ChargePeriodEnd", "yesterday"),
        "Tags_IsJSONObject": ("Tags", "not JSON"),
        "SkuPriceId_Nullable": ("SkuPriceId", ""),
        "ServiceCategory_Required": ("ServiceCategory", None),
    }
    files = []
    for column, value in breaks.values():
        file = _written(LINES, tmp_path / f"{column}.csv")
        rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
        columns = [name for name in rows[0] if name != column or value is not None]
        with file.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, column: value} for row in rows)
        files.append(file)
    for rule, found in zip(breaks, focus_validator.failed(files), strict=True):
        assert rule in found
