"""Conditions in DuckDB's SQL, with parameters."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from meterhouse import times
from meterhouse.errors import UsageError
from meterhouse.filters.conditions import (
    NUMBER,
    OPERATORS,
    And,
    Condition,
    Filter,
    Leaf,
    Match,
    Not,
    OneOf,
    Or,
    number_of,
)
from meterhouse.filters.fields import METADATA, TRAITS, Field, paths

Sql = tuple[str, list[Any]]
"""An expression, and the values of its parameters (`?`), in order."""


def column_of(field: Field) -> str:
    """The column that a field is in; of resource metadata, the value in the column `metadata`, which is JSON text."""
    return metadata_value(field.key) if field.column == METADATA else field.column


def metadata_value(key: str, column: str = METADATA) -> str:
    """An expression for the text of a value of resource metadata; null if it has none.

    Args:
        key: of the field.
        column: an expression for the metadata, JSON text.
    """
    values = [f"{column} ->> '{_pointer(path)}'" for path in paths(key)]
    return f"coalesce({', '.join(values)})" if len(values) > 1 else f"({values[0]})"


def _pointer(path: Sequence[str]) -> str:
    """A JSON pointer (RFC 6901) within a literal of SQL."""
    steps = (step.replace("~", "~0").replace("/", "~1").replace("'", "''") for step in path)
    return "".join(f"/{step}" for step in steps)


def on_lake(condition: Condition, column: Callable[[Field], str] = column_of) -> Sql:
    """A condition in DuckDB's SQL, and the values of its parameters (`?`), in order.

    The expression is true if the condition holds; otherwise it is false or null.

    Args:
        condition: what has to hold.
        column: an expression for the values of a field: of a key of metadata, for its text; of a trait, for the list of
            traits of an event. It has no parameters.
    """
    match condition:
        case And(parts):
            return _joined(" AND ", [on_lake(part, column) for part in parts])
        case Or(parts):
            return _joined(" OR ", [on_lake(part, column) for part in parts]) if parts else ("false", [])
        case Not(part):
            sql, values = on_lake(part, column)
            return f"NOT coalesce({sql}, false)", values
        case leaf:
            return _compared(leaf, column(leaf.target))


def _joined(by: str, parts: Sequence[Sql]) -> Sql:
    sql = by.join(sql for sql, _ in parts)
    return f"({sql})" if parts else "true", [value for _, values in parts for value in values]


def _compared(leaf: Leaf, column: str) -> Sql:
    if leaf.target.column == TRAITS:
        if leaf.target.type == "loose":
            sql, values = _loose(leaf, "trait.value", "trait.dtype = 'datetime'")
        else:
            sql, values = _plain(leaf, "trait.value")
        return f"(len(list_filter({column}, lambda trait: trait.name = ? AND {sql})) > 0)", [leaf.target.key, *values]
    if leaf.target.type == "loose":
        return _loose(leaf, column)
    return _plain(leaf, column)


def _plain(leaf: Leaf, column: str) -> Sql:
    match leaf:
        case Filter(op=op, operand=operand):
            sql = f"{column} {OPERATORS[op]} ?"
            if leaf.target.type == "number" and op in ("gt", "ge"):
                sql = f"({sql} AND NOT isnan({column}))"  # which DuckDB takes for the greatest number
            return sql, [operand]
        case OneOf(operands=operands):
            return f"{column} IN ({', '.join('?' * len(operands))})", list(operands)
        case Match():
            return _searched(leaf, column)


def _searched(leaf: Match, column: str) -> Sql:
    return f"{'' if leaf.found else 'NOT '}regexp_matches({column}, ?)", [leaf.expression]


def _loose(leaf: Leaf, value: str, is_time: str = "") -> Sql:
    """As `_compared`, for the text of a value whose type is not declared.

    Args:
        leaf: the comparison.
        value: an expression for the text.
        is_time: a condition by which the text is a time; empty if none is.
    """
    match leaf:
        case Filter(op=op, value=given):
            return _loosely(op, given, value, is_time)
        case OneOf(among=among):
            return _joined(" OR ", [_loosely("eq", given, value, is_time) for given in among])
        case Match():
            return _searched(leaf, value)


def _loosely(op: str, given: str, value: str, is_time: str) -> Sql:
    sign, number = OPERATORS[op], number_of(given)
    sql = f"{value} {sign} ?"
    values: list[Any] = [given]
    if number is not None:
        otherwise = f"{value} IS NOT NULL" if op == "ne" else "false"
        sql = f"CASE WHEN regexp_matches({value}, ?) THEN try_cast({value} AS DOUBLE) {sign} ? ELSE {otherwise} END"
        values = [NUMBER, number]
    if is_time:
        with contextlib.suppress(UsageError):
            values = [times.parse(given), *values]
            sql = f"CASE WHEN {is_time} THEN try_cast({value} AS TIMESTAMPTZ) {sign} ? ELSE {sql} END"
    return sql, values
