"""Builds the input of tests of bills: lines, and a bill of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from sqlalchemy import insert

from meterhouse.billing import lines as billed
from meterhouse.billing.bill import UNCONFIRMED, Bill
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_periods

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def line(amount: str = "28.80", **more: Any) -> dict[str, Any]:
    """A line: by default 4 vCPUs of one instance through November at 0.01 EUR an hour."""
    given = {
        "month": "2026-11",
        "project_id": "p1",
        "price": "vcpu",
        "service": "Compute",
        "resource_type": "instance",
        "resource_id": "i1",
        "resource_name": "web",
        "flavor": "m1.large",
        "zone": "nova",
        "description": "vCPU",
        "kind": "usage",
        "started_at": NOVEMBER,
        "ended_at": DECEMBER,
        "quantity": "2880",
        "unit": "vCPU·h",
        "unit_price": "0.01",
        "currency": "EUR",
        "tier": None,
        "metadata": '{"cost_center":"42"}',
        "evidence": [
            {"started_at": NOVEMBER, "ended_at": DECEMBER, "start_evidence": "message-1", "end_evidence": None}
        ],
        "corrects": None,
        **more,
        "amount": amount,
    }
    about = (given[name] for name in ("month", "project_id", "price", "resource_id", "kind", "tier", "corrects"))
    given.setdefault("line_id", billed.line_id(*about))
    for name in ("quantity", "unit_price", "amount"):
        given[name] = None if given[name] is None else Decimal(given[name])
    return given


def tax(amount: str, on: str, project: str = "p1", **more: Any) -> dict[str, Any]:
    """A line of 19 % tax on a sum."""
    nothing = dict.fromkeys(("resource_type", "resource_id", "resource_name", "flavor", "zone", "evidence", "metadata"))
    return line(
        amount,
        **nothing,
        project_id=project,
        price="VAT",
        service="Tax",
        description="VAT 19 %",
        kind="tax",
        quantity=on,
        unit="EUR",
        unit_price="0.19",
        **more,
    )


def table(lines: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Lines as a table."""
    return pa.Table.from_pylist([dict(each) for each in lines], schema=billed.SCHEMA)


def bill_of(lines: Sequence[Mapping[str, Any]], **more: Any) -> Bill:
    """The bill of November with these lines."""
    given: dict[str, Any] = {
        "month": "2026-11",
        "time_zone": "UTC",
        "start": NOVEMBER,
        "end": DECEMBER,
        "lines": table(lines),
        "not_priced": billed.NOT_PRICED.empty_table(),
        "unconfirmed": UNCONFIRMED.empty_table(),
        "notes": (),
        "holds_until": DECEMBER,
        "projects": {"p1": "web shop", "p2": "research"},
    }
    return Bill(**given | more)


PRICES = """\
currency: EUR
time_zone: UTC
prices:
  - {name: vcpu, service: Compute, where: {resource_type: instance}, measure: vcpus, per: hour, price: 0.01}
taxes:
  - {name: VAT, percent: 19}
"""
"""A price list in euros: 0.01 for a vCPU and hour, and 19 % tax."""


def day(number: int, month: int = 10) -> datetime:
    """The start of a day of 2026; by default of October."""
    return datetime(2026, month, number, tzinfo=UTC)


def lives(site: Site, resource: str, start: datetime, end: datetime | None = None, **more: Any) -> None:
    """Store a period of an instance of 4 vCPUs."""
    row = {
        "resource_type": "instance",
        "resource_id": resource,
        "started_at": start,
        "ended_at": end,
        "source": "openstack",
        "project_id": "p1",
        "name": "web",
        "flavor": "m1.large",
        "state": "active",
        "vcpus": 4.0,
        "start_witness": "event",
        "start_evidence": f"created-{resource}",
        "start_earliest": start,
        "start_latest": start,
        "end_witness": "event" if end else None,
        "end_evidence": f"deleted-{resource}" if end else None,
        "confirmed_until": end or start,
        "confirmed_by": "events",
        "unconfirmed": False,
        **more,
    }
    with site.warehouse.begin() as connection:
        connection.execute(insert(resource_periods), [row])
