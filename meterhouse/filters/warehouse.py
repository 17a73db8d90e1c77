"""Conditions in SQLAlchemy's Core, for SQLite and PostgreSQL. SQLAlchemy is imported by the first call."""

import operator
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

from meterhouse.filters.conditions import NUMBER, And, Condition, Filter, Leaf, Match, Not, OneOf, Or, number_of
from meterhouse.filters.fields import POSITION, Field, paths

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


def on_warehouse(condition: Condition, column: "Callable[[Field], ColumnElement[Any]]") -> "ColumnElement[bool]":
    """A condition in SQLAlchemy's Core: true if it holds; otherwise false or null.

    Args:
        condition: what has to hold.
        column: the values of a field; of a key of metadata, its text, see `metadata_value`.
    """
    return joined(condition, lambda leaf: compared(leaf, column(leaf.target)))


def joined(condition: Condition, compare: "Callable[[Leaf], ColumnElement[bool]]") -> "ColumnElement[bool]":
    """As `on_warehouse`; `compare` says when a comparison is met."""
    from sqlalchemy import and_, false, func, not_, or_, true

    match condition:
        case And(parts):
            return and_(true(), *(joined(part, compare) for part in parts))
        case Or(parts):
            return or_(false(), *(joined(part, compare) for part in parts))
        case Not(part):
            return not_(func.coalesce(joined(part, compare), false()))
        case leaf:
            return compare(leaf)


def compared(leaf: Leaf, column: "ColumnElement[Any]") -> "ColumnElement[bool]":
    """When a comparison is met by a column; of a loose field, by the text in it."""
    loose = leaf.target.type == "loose"
    match leaf:
        case Filter(op=op, value=value, operand=operand):
            return _loosely(op, value, column) if loose else _plainly(op, operand, column, leaf.target.type)
        case OneOf(among=among, operands=operands):
            return _among(among, column) if loose else column.in_(operands)
        case Match(expression=expression, found=found):
            return column.regexp_match(expression) if found else ~column.regexp_match(expression)


def _plainly(op: str, operand: Any, column: "ColumnElement[Any]", type: str) -> "ColumnElement[bool]":
    compare: Callable[[Any, Any], ColumnElement[bool]] = getattr(operator, op)
    if type in ("text", "loose") and op not in ("eq", "ne"):
        from sqlalchemy import Text, cast

        # PostgreSQL orders texts by the language of the database, the other stores by code points.
        column = cast(column, Text(collation="C").with_variant(Text(), "sqlite"))
    return compare(column, operand)


def _loosely(op: str, value: str, column: "ColumnElement[Any]") -> "ColumnElement[bool]":
    from sqlalchemy import Float, case, cast, false

    number = number_of(value)
    if number is None:
        return _plainly(op, value, column, "loose")
    compare: Callable[[Any, Any], ColumnElement[bool]] = getattr(operator, op)
    otherwise = column.is_not(None) if op == "ne" else false()
    return case((column.regexp_match(NUMBER), compare(cast(column, Float(53)), number)), else_=otherwise)


def _among(values: tuple[str, ...], column: "ColumnElement[Any]") -> "ColumnElement[bool]":
    from sqlalchemy import Float, case, cast, false, or_

    numbers = [number for value in values if (number := number_of(value)) is not None]
    texts = [value for value in values if number_of(value) is None]
    as_number = case((column.regexp_match(NUMBER), cast(column, Float(53)).in_(numbers)), else_=false())
    return or_(*([as_number] if numbers else []), *([column.in_(texts)] if texts else []))


def metadata_value(text: "ColumnElement[Any]", key: str, sqlite: bool) -> "ColumnElement[Any]":
    """The text of a value of resource metadata; null if it has none.

    Args:
        text: the metadata, JSON.
        key: of the field.
        sqlite: whether the database is SQLite; otherwise it is PostgreSQL.
    """
    from sqlalchemy import func

    found = [value for path in paths(key) for value in (_in_sqlite(text, path) if sqlite else _in_postgres(text, path))]
    return func.coalesce(*found) if len(found) > 1 else found[0]


def _in_sqlite(text: "ColumnElement[Any]", path: list[str]) -> "list[ColumnElement[Any]]":
    from sqlalchemy import case, func

    steps = [[f'."{step}"', *([f"[{step}]"] if n and POSITION.fullmatch(step) else [])] for n, step in enumerate(path)]
    values = [text.op("->")("$" + "".join(mark)) for mark in product(*steps)]
    return [  # `->>` alone would give 1 for true
        case((func.json_type(value) == "text", value.op("->>")("$")), (func.json_type(value) != "null", value))
        for value in values
    ]


def _in_postgres(text: "ColumnElement[Any]", path: list[str]) -> "list[ColumnElement[Any]]":
    from sqlalchemy import ARRAY, JSON, Text, cast

    value: ColumnElement[Any] = cast(text, JSON)
    for n, step in enumerate(path):
        if n and POSITION.fullmatch(step):
            value = value.op("#>")(cast([step], ARRAY(Text)))
        else:  # `#>` would take more for a position, such as -1
            value = value.op("->")(cast(step, Text))
    return [value.op("#>>", return_type=Text())(cast([], ARRAY(Text)))]
