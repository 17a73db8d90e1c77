"""A bill as a file: what each format says, and that no text of others gets out of its place."""

import csv
import io
import json
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pyarrow.parquet as pq
import pytest
from bills import DECEMBER, NOVEMBER, bill_of, line, tax

from meterhouse.billing import figures
from meterhouse.billing import lines as billed
from meterhouse.billing.bill import Closing, descriptions
from meterhouse.billing.formats import focus, html, json_document, tables
from meterhouse.errors import UnknownName

HOSTILE = "=cmd|'/c calc'!A1\u202e<script>alert(1)</script>&\"\n"
LINES = [
    line(),
    line(
        "1.00", price="volume", service="Storage", resource_type="volume", resource_id="v1", unit="GiB·h", flavor=None
    ),
    tax("5.66", "29.80"),
    line("0.10", project_id="p2", resource_id="i2", resource_name=HOSTILE, metadata=None),
]


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        ("1.500000000000", 0, "1.5"),
        ("1.500000000000", 2, "1.50"),
        ("2880.000000000000", 0, "2880"),
        ("0E-12", 2, "0.00"),
        ("1E-12", 2, "0.000000000001"),
        ("-0.00", 2, "0.00"),
        ("-3.10", 0, "-3.1"),
        ("1E+3", 0, "1000"),
    ],
)
def test_a_decimal_is_shown_with_all_its_digits_and_without_an_exponent(value: str, digits: int, shown: str) -> None:
    assert figures.text(Decimal(value), digits) == shown


# -- totals ---------------------------------------------------------------------------------------------------


def test_totals_are_sums_of_lines_and_keep_taxes_apart() -> None:
    bill = bill_of(LINES)
    (whole,) = bill.totals()
    assert (whole.net, whole.tax, whole.gross) == (Decimal("29.90"), Decimal("5.66"), Decimal("35.56"))
    assert {(each.of, each.gross) for each in bill.totals("project_id")} == {
        ("p1", Decimal("35.46")),
        ("p2", Decimal("0.10")),
    }
    assert {(each.of, each.lines) for each in bill.totals("service")} == {("Compute", 2), ("Storage", 1), ("Tax", 1)}


def test_an_empty_bill_has_no_totals() -> None:
    assert bill_of([]).totals() == []
    assert bill_of([]).totals("project_id") == []


def test_a_project_is_chosen_by_its_id_or_its_name() -> None:
    bill = bill_of(LINES)
    for chosen in ("p2", "research"):
        assert bill.of_project(chosen).lines["resource_id"].to_pylist() == ["i2"]
    with pytest.raises(UnknownName, match=r"unknown project 'web'.*web shop"):
        bill.of_project("web")


def test_a_name_that_two_projects_have_is_refused_with_their_ids() -> None:
    bill = bill_of(LINES, projects={"p1": "same", "p2": "same"})
    with pytest.raises(UnknownName, match="Name one by its id: p1, p2"):
        bill.of_project("same")


def test_a_line_is_found_by_its_id_with_what_it_comes_from() -> None:
    bill = bill_of(LINES)
    found = bill.line(LINES[0]["line_id"])
    assert [each["start_evidence"] for each in found["evidence"]] == ["message-1"]
    with pytest.raises(UnknownName, match="unknown line 'zzz'"):
        bill.line("zzz")


def test_a_discount_says_what_it_reduces_and_a_correction_its_month() -> None:
    lines = [
        line("-1", kind="discount", description="friends"),
        line("2", kind="correction", corrects="2026-10"),
        line("-1", kind="correction", description="friends", corrects="2026-10"),
        line(),
    ]
    assert descriptions(bill_of(lines).lines).to_pylist() == [
        "friends on vcpu",
        "correction of 2026-10: vCPU",
        "correction of 2026-10: friends",
        "vCPU",
    ]
    assert "friends on vcpu" in html.as_html(bill_of(lines), "c")
    assert _focus(lines)[1]["ChargeDescription"] == "correction of 2026-10: vCPU"


# -- CSV, Parquet, JSON ---------------------------------------------------------------------------------------


def test_csv_has_each_line_with_exact_figures_and_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(bill_of(LINES)))))
    assert [row["amount"] for row in rows] == ["28.80", "1.00", "5.66", "0.10"]
    assert rows[0]["project_name"] == "web shop"
    assert rows[0]["started_at"] == "2026-11-01T00:00:00Z"
    assert rows[3]["resource_name"].startswith("'=cmd")
    assert "\u202e" not in rows[3]["resource_name"]


def test_parquet_has_the_lines_as_they_are_and_the_same_bytes_each_time() -> None:
    bill = bill_of(LINES)
    content = tables.as_parquet(bill)
    read = pq.read_table(io.BytesIO(content))
    assert read.schema.equals(billed.SCHEMA)
    assert read.equals(bill.lines)
    assert read.schema.metadata[b"month"] == b"2026-11"
    assert tables.as_parquet(bill_of(LINES)) == content


def test_json_has_exact_numbers_totals_and_evidence() -> None:
    bill = bill_of(LINES, closing=Closing(DECEMBER, "ann", "ab" * 32), notes=("late",))
    found = json.loads(json_document.as_json(bill), parse_float=Decimal)
    assert found["month"] == "2026-11"
    assert found["closed"] == {"at": "2026-12-01T00:00:00Z", "by": "ann", "digest": "ab" * 32}
    assert found["totals"] == [
        {"currency": "EUR", "lines": 4, "net": Decimal("29.9"), "tax": Decimal("5.66"), "gross": Decimal("35.56")}
    ]
    assert [each["project_id"] for each in found["totals_by_project"]] == ["p1", "p2"]
    assert found["lines"][0]["metadata"] == {"cost_center": "42"}
    assert found["lines"][0]["evidence"][0]["start_evidence"] == "message-1"
    assert found["lines"][3]["resource_name"] == HOSTILE
    assert found["remarks"] == ["late"]


def test_json_of_an_empty_bill_can_be_read() -> None:
    assert json.loads(json_document.as_json(bill_of([])))["lines"] == []


# -- HTML -----------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_has_a_page_for_each_project_and_loads_nothing() -> None:
    page = _Page(html.as_html(bill_of(LINES), "Example Cloud"))
    sections = [attributes for tag, attributes in page.elements if tag == "section"]
    assert len(sections) == 2  # there is no remark, which would be another
    assert "break-before: page" in page.text
    assert "@page" in page.text
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object"}
    assert not any(name in attributes for _, attributes in page.elements for name in ("src", "href", "onload"))
    assert "url(" not in page.text
    for text in ("Example Cloud", "web shop", "35.46 EUR", "28.80 EUR", "2880 vCPU·h", LINES[0]["line_id"]):
        assert text in page.text


def test_html_escapes_every_text_of_others() -> None:
    given: dict[str, Any] = {
        "service": HOSTILE,
        "description": HOSTILE,
        "resource_id": HOSTILE,
        "unit": HOSTILE,
        "corrects": HOSTILE,
        "currency": HOSTILE,
        "project_id": HOSTILE,
    }
    not_priced = billed.NOT_PRICED.empty_table().from_pylist(
        [
            dict.fromkeys(("resource_type", "resource_id", "project_id", "name", "state", "reason"), HOSTILE)
            | {"started_at": NOVEMBER, "ended_at": DECEMBER}
        ],
        schema=billed.NOT_PRICED,
    )
    bill = bill_of(
        [line(**given), line()],
        notes=(HOSTILE,),
        projects={HOSTILE: HOSTILE},
        not_priced=not_priced,
        closing=Closing(DECEMBER, HOSTILE, HOSTILE),
    )
    content = html.as_html(bill, HOSTILE)
    assert "<script" not in content
    assert "\u202e" not in content


def test_the_bill_of_a_project_has_nothing_about_others() -> None:
    about = {"started_at": NOVEMBER, "ended_at": DECEMBER, "reason": "no price is for it"}
    rows = [
        {"resource_type": "share", "resource_id": f"of-{each}", "project_id": each, **about} for each in ("p1", "p2")
    ]
    not_priced = billed.NOT_PRICED.empty_table().from_pylist(rows, schema=billed.NOT_PRICED)
    whole = bill_of(LINES, not_priced=not_priced, notes=("prices.yaml:3: a secret",))
    assert whole.remarks == ("prices.yaml:3: a secret", "2 resources are not priced, wholly or in part")
    one = whole.of_project("p1")
    assert one.remarks == ("1 resource is not priced, wholly or in part",)
    for content in (html.as_html(one, "c"), json_document.as_json(one), tables.as_csv(one)):
        assert "secret" not in content
        assert "p2" not in content
        assert "research" not in content


def test_html_says_whether_the_month_is_closed() -> None:
    assert "Preliminary" in html.as_html(bill_of(LINES), "c")
    closed = html.as_html(bill_of(LINES, closing=Closing(DECEMBER, "ann", "ab" * 32)), "c")
    assert "Preliminary" not in closed
    assert "by ann" in closed


def test_html_shows_times_in_the_zone_of_the_bill() -> None:
    assert "2026-11-01 01:00" in html.as_html(bill_of(LINES, time_zone="Europe/Berlin"), "c")


# -- FOCUS ----------------------------------------------------------------------------------------------------


def _focus(lines: list[dict[str, Any]], **more: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(focus.as_csv(bill_of(lines, **more), "Example Cloud", "RegionOne"))))


def test_focus_has_a_project_as_sub_account_and_metadata_as_tags() -> None:
    first, volume, vat, _ = _focus(LINES)
    assert (first["SubAccountId"], first["SubAccountName"], first["SubAccountType"]) == ("p1", "web shop", "Project")
    assert first["ProviderName"] == first["InvoiceIssuerName"] == first["BillingAccountId"] == "Example Cloud"
    assert json.loads(first["Tags"]) == {"cost_center": "42"}
    assert (first["ChargeCategory"], first["ServiceCategory"], first["ServiceSubcategory"]) == (
        "Usage",
        "Compute",
        "Virtual Machines",
    )
    assert (first["BilledCost"], first["PricingQuantity"], first["PricingUnit"]) == ("28.8", "2880.0", "vCPU·h")
    assert (first["ResourceId"], first["AvailabilityZone"], first["RegionId"]) == ("i1", "nova", "RegionOne")
    assert (first["BillingPeriodStart"], first["ChargePeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert volume["ServiceSubcategory"] == "Block Storage"
    assert (vat["ChargeCategory"], vat["PricingQuantity"], vat["SkuPriceId"], vat["Tags"]) == ("Tax", "", "", "{}")


def test_focus_names_an_invoice_once_the_month_is_closed() -> None:
    assert _focus(LINES)[0]["InvoiceId"] == ""
    assert _focus(LINES, closing=Closing(DECEMBER, "ann", "ab"))[0]["InvoiceId"] == "2026-11/p1"


def test_focus_marks_corrections_and_keeps_the_time_that_they_are_about() -> None:
    october = NOVEMBER.replace(month=10)
    lines = [
        line("-1.00", kind="correction", corrects="2026-10", started_at=october, ended_at=NOVEMBER, quantity="-100"),
        line("-2.00", kind="correction", corrects="2026-10", quantity=None, unit=None, unit_price=None),
        tax("-0.57", "-3.00", corrects="2026-10"),
        line("-3.00", kind="discount", quantity=None, unit=None, unit_price=None),
    ]
    rows = _focus(lines)
    assert [row["ChargeCategory"] for row in rows] == ["Usage", "Adjustment", "Tax", "Adjustment"]
    assert [row["ChargeClass"] for row in rows] == ["Correction", "Correction", "Correction", ""]
    assert (rows[0]["BillingPeriodStart"], rows[0]["ChargePeriodStart"]) == (
        "2026-11-01T00:00:00Z",
        "2026-10-01T00:00:00Z",
    )


def test_focus_in_parquet_has_exact_decimals_and_no_two_columns_that_differ_by_case() -> None:
    read = pq.read_table(io.BytesIO(focus.as_parquet(bill_of(LINES), "c", "")))
    assert sum(read["BilledCost"].to_pylist()) == Decimal("35.56")
    assert len({name.lower() for name in read.column_names}) == read.num_columns == len(focus.SCHEMA)


def test_focus_of_an_empty_bill_has_its_header() -> None:
    assert _focus([]) == []


@pytest.mark.parametrize(
    ("resource_type", "service", "subcategory"),
    [
        ("instance", "anything", "Virtual Machines"),
        ("volume_snapshot", "anything", "Backup Storage"),
        ("floating_ip", "anything", "Network Infrastructure"),
        ("load_balancer", "anything", "Application Networking"),
        (None, "Object storage", "Object Storage"),
        ("something", "else", "Other (Other)"),
    ],
)
def test_focus_categories_come_from_the_type_then_from_the_service(
    resource_type: str | None, service: str, subcategory: str
) -> None:
    (row,) = _focus([line(resource_type=resource_type, service=service)])
    assert row["ServiceSubcategory"] == subcategory
