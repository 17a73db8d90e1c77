"""The bill as FOCUS: the FinOps Foundation's open cost and usage columns, version 1.2.

Source: FinOps Open Cost and Usage Specification 1.2, dataset "Cost and Usage". One row a line of the bill. A project is
a sub account; its invoice is named once the month is closed. What the specification has no column for is in columns
that begin with `x_`, as it asks for.
"""

import io
import json
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse.billing import lines as billed
from meterhouse.billing.bill import Bill, descriptions
from meterhouse.billing.formats import csv_text
from meterhouse.billing.formats.focus_services import category

CATEGORIES: Final = {
    "usage": "Usage",
    "credit": "Credit",
    "discount": "Adjustment",
    "minimum": "Adjustment",
    "tax": "Tax",
    "correction": "Adjustment",
}
"""Kind of a line → ChargeCategory. The correction of a resource's usage is Usage."""

_TEXT, _MONEY, _TIME = pa.string(), billed.DECIMAL, billed.TIME

SCHEMA: Final = pa.schema(
    [
        ("AvailabilityZone", _TEXT),
        ("BilledCost", _MONEY),
        ("BillingAccountId", _TEXT),
        ("BillingAccountName", _TEXT),
        ("BillingAccountType", _TEXT),
        ("BillingCurrency", _TEXT),
        ("BillingPeriodEnd", _TIME),
        ("BillingPeriodStart", _TIME),
        ("CapacityReservationId", _TEXT),
        ("CapacityReservationStatus", _TEXT),
        ("ChargeCategory", _TEXT),
        ("ChargeClass", _TEXT),
        ("ChargeDescription", _TEXT),
        ("ChargeFrequency", _TEXT),
        ("ChargePeriodEnd", _TIME),
        ("ChargePeriodStart", _TIME),
        ("CommitmentDiscountCategory", _TEXT),
        ("CommitmentDiscountId", _TEXT),
        ("CommitmentDiscountName", _TEXT),
        ("CommitmentDiscountQuantity", _MONEY),
        ("CommitmentDiscountStatus", _TEXT),
        ("CommitmentDiscountType", _TEXT),
        ("CommitmentDiscountUnit", _TEXT),
        ("ConsumedQuantity", _MONEY),
        ("ConsumedUnit", _TEXT),
        ("ContractedCost", _MONEY),
        ("ContractedUnitPrice", _MONEY),
        ("EffectiveCost", _MONEY),
        ("InvoiceId", _TEXT),
        ("InvoiceIssuerName", _TEXT),
        ("ListCost", _MONEY),
        ("ListUnitPrice", _MONEY),
        ("PricingCategory", _TEXT),
        ("PricingCurrency", _TEXT),
        ("PricingCurrencyContractedUnitPrice", _MONEY),
        ("PricingCurrencyEffectiveCost", _MONEY),
        ("PricingCurrencyListUnitPrice", _MONEY),
        ("PricingQuantity", _MONEY),
        ("PricingUnit", _TEXT),
        ("ProviderName", _TEXT),
        ("PublisherName", _TEXT),
        ("RegionId", _TEXT),
        ("RegionName", _TEXT),
        ("ResourceId", _TEXT),
        ("ResourceName", _TEXT),
        ("ResourceType", _TEXT),
        ("ServiceCategory", _TEXT),
        ("ServiceName", _TEXT),
        ("ServiceSubcategory", _TEXT),
        ("SkuId", _TEXT),
        ("SkuMeter", _TEXT),
        ("SkuPriceDetails", _TEXT),
        ("SkuPriceId", _TEXT),
        ("SubAccountId", _TEXT),
        ("SubAccountName", _TEXT),
        ("SubAccountType", _TEXT),
        ("Tags", _TEXT),
        ("x_Corrects", _TEXT),
        ("x_Flavor", _TEXT),
        ("x_Kind", _TEXT),
        ("x_LineId", _TEXT),
    ]
)
"""The columns of FOCUS 1.2 in alphabetical order, then ours."""

OLDER_NAMES: Final = {
    "ChargeType": "ChargeCategory",
    "InvoiceIssuer": "InvoiceIssuerName",
    "Provider": "ProviderName",
    "Publisher": "PublisherName",
    "ResourceID": "ResourceId",
}
"""Columns of earlier versions that focus-validator 1.0.0 asks for → what they are called now. Only CSV has them."""


def table(bill: Bill, issuer: str, region: str) -> pa.Table:
    """The bill in the columns of `SCHEMA`, one row a line.

    Args:
        bill: the bill.
        issuer: who issues the bill and provides the cloud.
        region: the cloud's region; empty if it has none.
    """
    lines = bill.lines
    rows = lines.num_rows
    kind = lines["kind"]
    is_tax = pc.equal(kind, "tax")
    has_quantity = pc.and_(pc.is_valid(lines["quantity"]), pc.invert(is_tax))
    is_correction = pc.is_valid(lines["corrects"])
    of_usage = pc.or_(pc.equal(kind, "usage"), pc.and_(pc.equal(kind, "correction"), has_quantity))
    charge = pc.if_else(of_usage, "Usage", _by_value(kind, CATEGORIES))
    services = _services(lines)
    quantity = pc.if_else(has_quantity, lines["quantity"], None)
    unit = pc.if_else(has_quantity, lines["unit"], None)
    unit_price = pc.if_else(has_quantity, lines["unit_price"], None)
    sku = pc.if_else(is_tax, None, lines["price"])
    of_tier = pc.binary_join_element_wise(sku, lines["tier"], "/")  # null if one of them is
    resource_type = pc.if_else(pc.is_valid(lines["resource_id"]), lines["resource_type"], None)
    invoice = None
    if bill.closing is not None:
        invoice = pc.binary_join_element_wise(bill.month, lines["project_id"], "/")
    columns: dict[str, Any] = {
        "AvailabilityZone": lines["zone"],
        "BilledCost": lines["amount"],
        "BillingAccountId": issuer,
        "BillingAccountName": issuer,
        "BillingAccountType": "Cloud",
        "BillingCurrency": lines["currency"],
        "BillingPeriodEnd": bill.end,
        "BillingPeriodStart": bill.start,
        "ChargeCategory": charge,
        "ChargeClass": pc.if_else(is_correction, "Correction", None),
        "ChargeDescription": descriptions(lines),
        "ChargeFrequency": pc.if_else(pc.equal(kind, "minimum"), "Recurring", "Usage-Based"),
        "ChargePeriodEnd": lines["ended_at"],
        "ChargePeriodStart": lines["started_at"],
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "ContractedCost": lines["amount"],
        "ContractedUnitPrice": unit_price,
        "EffectiveCost": lines["amount"],
        "InvoiceId": invoice,
        "InvoiceIssuerName": issuer,
        "ListCost": lines["amount"],
        "ListUnitPrice": unit_price,
        "PricingCategory": pc.if_else(of_usage, "Standard", None),
        "PricingCurrency": lines["currency"],
        "PricingCurrencyContractedUnitPrice": unit_price,
        "PricingCurrencyEffectiveCost": lines["amount"],
        "PricingCurrencyListUnitPrice": unit_price,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "ProviderName": issuer,
        "PublisherName": issuer,
        "RegionId": region or None,
        "RegionName": region or None,
        "ResourceId": lines["resource_id"],
        "ResourceName": lines["resource_name"],
        "ResourceType": resource_type,
        "ServiceCategory": services["category"],
        "ServiceName": lines["service"],
        "ServiceSubcategory": services["subcategory"],
        "SkuId": sku,
        "SkuMeter": sku,
        "SkuPriceDetails": pc.if_else(is_tax, None, _by_value(lines["tier"], _details)),
        "SkuPriceId": pc.if_else(pc.is_valid(lines["tier"]), of_tier, sku),
        "SubAccountId": lines["project_id"],
        "SubAccountName": _by_value(lines["project_id"], bill.name),
        "SubAccountType": "Project",
        "Tags": pc.fill_null(_by_value(lines["metadata"], _tags), "{}"),
        "x_Corrects": lines["corrects"],
        "x_Flavor": lines["flavor"],
        "x_Kind": kind,
        "x_LineId": lines["line_id"],
    }
    return pa.table([_filled(columns.get(each.name), each.type, rows) for each in SCHEMA], schema=SCHEMA)


def as_parquet(bill: Bill, issuer: str, region: str) -> bytes:
    """The bill as FOCUS in Parquet, with exact decimals."""
    out = io.BytesIO()
    pq.write_table(table(bill, issuer, region), out, compression="zstd")
    return out.getvalue()


def as_csv(bill: Bill, issuer: str, region: str) -> str:
    """The bill as FOCUS in CSV (RFC 4180, but with line feeds).

    Numbers have a point and no exponent, times are ISO 8601 with `Z`, null is empty. The columns of `OLDER_NAMES` come
    last.
    """
    made = table(bill, issuer, region)
    columns = {name: csv_text.cells(made[name], digits=1) for name in made.column_names}  # readers guess types: 4.0
    return csv_text.document(columns | {older: columns[name] for older, name in OLDER_NAMES.items()})


def _filled(values: Any, kind: pa.DataType, rows: int) -> pa.ChunkedArray:
    """A column from values, or from one value for all rows."""
    if values is None or isinstance(values, str | datetime):
        return pa.chunked_array([pa.repeat(pa.scalar(values, kind), rows)])
    return values.cast(kind)


def _by_value(column: pa.ChunkedArray, function: Any) -> pa.ChunkedArray:
    """A column whose distinct values go through a function or a mapping; nulls stay."""
    call = function.__getitem__ if isinstance(function, dict) else function
    encoded = column.combine_chunks().dictionary_encode()
    made = pa.array([call(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([made.take(encoded.indices)])


def _details(tier: str) -> str:
    """The properties of a price beyond its name; the specification wants ours to begin with `x_`."""
    return json.dumps({"x_Tier": tier}, ensure_ascii=False)


def _tags(metadata: str) -> str:
    """Tags of a resource: its metadata as a JSON object of texts, numbers and booleans."""
    found = json.loads(metadata)
    plain = {
        key: value if isinstance(value, str | int | float | None) else json.dumps(value) for key, value in found.items()
    }
    return json.dumps(plain, ensure_ascii=False, sort_keys=True)


def _services(lines: pa.Table) -> pa.Table:
    """FOCUS's categories of each line."""
    keys = pc.binary_join_element_wise(lines["resource_type"], lines["service"], "\x1f", null_handling="replace")
    encoded = keys.combine_chunks().dictionary_encode()
    found = [category(*key.split("\x1f", 1)) for key in encoded.dictionary.to_pylist()]
    made = {
        name: pa.array([each[place] for each in found], pa.string()).take(encoded.indices)
        for place, name in enumerate(("category", "subcategory"))
    }
    return pa.table(made)
