"""What changed in a month after it was closed, as correction lines for a later bill."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.billing import lines as billed

_OF: Final = ("project_id", "price", "service", "resource_type", "resource_id", "currency", "is_tax")
"""What lines have to share to be compared: their sums are."""

_DESCRIBED: Final = ("resource_name", "flavor", "zone", "metadata", "description")


def corrections(now: pa.Table, before: Sequence[pa.Table], month: str, corrected: str) -> pa.Table:
    """The differences between a closed month, rated again, and what was billed for it so far.

    Lines of one project, price and resource are compared by their sums, taxes for themselves. Of a tax, a correction is
    a tax too, so that it does not count as turnover.

    Args:
        now: `lines.SCHEMA`: the month as it is rated now, by its frozen prices.
        before: `lines.SCHEMA`: its lines when it was closed, and the corrections of it that were closed since.
        month: the month whose bill gets the corrections.
        corrected: the closed month.

    Returns:
        `lines.SCHEMA`, one row a difference, ordered by project, price and resource.
    """
    old = pa.concat_tables([billed.SCHEMA.empty_table(), *before])
    signed = pa.concat_tables([_signed(now, 1), _signed(old, -1)])
    of = list(_OF)
    sums = signed.group_by(of, use_threads=False).aggregate(
        [
            ("amount", "sum"),
            ("quantity", "sum"),
            ("unit", "count_distinct"),
            ("unit", "max"),
            ("unit_price", "count_distinct"),
            ("unit_price", "max"),
            ("started_at", "min"),
            ("ended_at", "max"),
            ("description", "count_distinct"),
            *((name, "first") for name in _DESCRIBED),
        ]
    )
    changed = sums.filter(pc.or_(_is_not_zero(sums["amount_sum"]), _is_not_zero(sums["quantity_sum"])))
    changed = changed.sort_by([(name, "ascending") for name in of])
    if changed.num_rows == 0:
        return billed.SCHEMA.empty_table()
    evidence = _evidence(now, {_key(row) for row in changed.select(of).to_pylist()})
    return pa.Table.from_pylist(
        [_line(row, evidence.get(_key(row)), month, corrected) for row in changed.to_pylist()], schema=billed.SCHEMA
    )


def _signed(lines: pa.Table, sign: int) -> pa.Table:
    """The columns that are compared or described; quantities only of what is measured."""
    is_tax = pc.equal(lines["kind"], "tax")
    measured = pc.and_(pc.is_valid(lines["resource_id"]), pc.invert(is_tax))

    def times_sign(column: pa.ChunkedArray) -> pa.ChunkedArray:
        return column if sign > 0 else pc.negate(column)

    columns: dict[str, Any] = {name: lines[name] for name in (*_OF[:-1], *_DESCRIBED, "started_at", "ended_at")}
    columns |= {
        "is_tax": is_tax,
        "amount": times_sign(lines["amount"]),
        "quantity": times_sign(pc.if_else(measured, lines["quantity"], None)),
        "unit": pc.if_else(measured, lines["unit"], None),
        "unit_price": pc.if_else(measured, lines["unit_price"], None),
    }
    return pa.table(columns)


def _is_not_zero(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(column, pa.scalar(Decimal(0), billed.DECIMAL)), False)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _OF)


def _evidence(now: pa.Table, keys: set[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """What the changed lines are made of now, by what they share."""
    projects = pa.array(sorted({key[0] for key in keys}), pa.string())
    near = now.filter(pc.is_in(now["project_id"], projects))
    found: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[str, Any]]] = {}
    rows = near.select([*_OF[:-1], "kind", "evidence"]).to_pylist()
    for row in rows:
        key = _key({**row, "is_tax": row["kind"] == "tax"})
        if key in keys and row["evidence"]:
            found.setdefault(key, {}).update((tuple(each.values()), each) for each in row["evidence"])
    return {key: list(pieces.values()) for key, pieces in found.items()}


def _line(row: dict[str, Any], evidence: list[dict[str, Any]] | None, month: str, corrected: str) -> dict[str, Any]:
    one_unit = row["unit_count_distinct"] == 1
    of = {name: row[name] for name in _OF[:-1]}
    described = {name: row[f"{name}_first"] for name in _DESCRIBED}
    if row["description_count_distinct"] > 1:  # such as its tiers
        described["description"] = row["price"]
    return {
        **of,
        **described,
        "line_id": billed.line_id("correction", month, corrected, *_key(row)),
        "month": month,
        "kind": "tax" if row["is_tax"] else "correction",
        "started_at": row["started_at_min"],
        "ended_at": row["ended_at_max"],
        "quantity": row["quantity_sum"] if one_unit else None,
        "unit": row["unit_max"] if one_unit else None,
        "unit_price": row["unit_price_max"] if one_unit and row["unit_price_count_distinct"] == 1 else None,
        "amount": row["amount_sum"],
        "evidence": evidence,
        "corrects": corrected,
    }
