"""The lines of a bill: one schema for rating, which makes them, and for all that is made of them.

Money is exact: quantities, unit prices and amounts are decimals, never floats. The amount of a line is rounded, once,
by the rounding of prices.yaml; every total is a sum of such amounts. A quantity is shown to 12 digits after the point;
the amount comes from the exact quantity, not from the one shown.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from meterhouse.errors import DefinitionError

KINDS: Final = ("usage", "credit", "discount", "minimum", "correction", "tax")
"""In the order in which the lines of a project stand on its bill, and in which they are computed."""

DECIMAL: Final = pa.decimal128(38, 12)
"""Quantities, unit prices and amounts."""

TIME: Final = pa.timestamp("us", "UTC")

EVIDENCE: Final = pa.list_(
    pa.struct(
        [
            pa.field("started_at", TIME),
            pa.field("ended_at", TIME),
            pa.field("start_evidence", pa.string()),
            pa.field("end_evidence", pa.string()),
        ]
    )
)
"""What a line was counted from: stretches of a resource's periods, or the hours of a counter, adjoining ones as one.

`start_evidence` and `end_evidence` are those of the period; of a counter, the meter. Lines that are computed from other
lines (discounts, minimums, taxes) have none.
"""

SCHEMA: Final = pa.schema(
    [
        pa.field("line_id", pa.string(), nullable=False),
        pa.field("month", pa.string(), nullable=False),
        pa.field("project_id", pa.string(), nullable=False),
        pa.field("price", pa.string(), nullable=False),
        pa.field("service", pa.string(), nullable=False),
        pa.field("resource_type", pa.string()),
        pa.field("resource_id", pa.string()),
        pa.field("resource_name", pa.string()),
        pa.field("flavor", pa.string()),
        pa.field("zone", pa.string()),
        pa.field("description", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("started_at", TIME, nullable=False),
        pa.field("ended_at", TIME, nullable=False),
        pa.field("quantity", DECIMAL),
        pa.field("unit", pa.string()),
        pa.field("unit_price", DECIMAL),
        pa.field("amount", DECIMAL, nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("tier", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("evidence", EVIDENCE),
        pa.field("corrects", pa.string()),
    ]
)
"""One row a line.

- `line_id`: a stable hash of what the line is about, see `line_id`; the same in every run, whatever its amount.
- `month`: the billing month, `2026-11`, of the time zone of prices.yaml.
- `price`: the name of the price, discount, minimum or tax in prices.yaml. A discount has the price that it reduces, and
  its own name in `description`.
- `service`: the service of the price; of a tax, `Tax`.
- `description`: that of the price, and the tier.
- `kind`: one of `KINDS`. Amounts of credits and discounts are negative.
- `started_at`, `ended_at`: the first and the last instant that the line covers, the end exclusive.
- `quantity`, `unit`, `unit_price`: null if the line is not made of a quantity. Of a tax, the quantity is the sum that
  is taxed, the unit the currency and the unit price the rate as a fraction.
- `amount`: in `currency`, rounded; before tax, except for a tax.
- `tier`: `included`, or the slice of a tiered price; the name of the time of day; null otherwise.
- `metadata`: JSON text of an object.
- `corrects`: the closed month that a correction is about; null for all others.
"""

NOT_PRICED: Final = pa.schema(
    [
        pa.field("resource_type", pa.string()),
        pa.field("resource_id", pa.string(), nullable=False),
        pa.field("project_id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("flavor", pa.string()),
        pa.field("state", pa.string()),
        pa.field("started_at", TIME, nullable=False),
        pa.field("ended_at", TIME, nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""One row a stretch of a resource for which no price is valid, or whose project is not known."""


@dataclass(frozen=True)
class Rated:
    """A month, rated.

    Attributes:
        month: the billing month, `2026-11`.
        lines: `SCHEMA`, ordered by project, kind, service, price, resource, time and tier.
        not_priced: `NOT_PRICED`, ordered by resource and time.
        faults: what is wrong in prices.yaml, with file and line; the other prices were used.
        notes: what could not be counted, one sentence each.
    """

    month: str
    lines: pa.Table
    not_priced: pa.Table
    faults: tuple[DefinitionError, ...] = ()
    notes: tuple[str, ...] = ()


def line_id(*about: Any) -> str:
    """A stable identity of a line, 20 hexadecimal digits, from what the line is about: texts, numbers, None."""
    return _digest(_BETWEEN.join(_NULL if each is None else str(each) for each in about))


def line_ids(*about: Any) -> pa.Array:
    """The same for each row of columns of texts."""
    import pyarrow.compute as pc

    texts = pc.binary_join_element_wise(*about, _BETWEEN, null_handling="replace", null_replacement=_NULL)
    return pa.array([_digest(text) for text in texts.to_pylist()], pa.string())


_BETWEEN: Final = "\x1f"
_NULL: Final = "\0"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
