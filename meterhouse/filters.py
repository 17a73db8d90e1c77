"""Filters: the conditions of a query, compiled for the lake (DuckDB) and for the warehouse (SQLAlchemy).

What can be filtered by is declared for each kind of thing: SERIES, SAMPLES, EVENTS, RESOURCES. A value is never part of
a statement: it is bound as a parameter.
"""

import contextlib
import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


@dataclass(frozen=True)
class Field:
    """A field of a query.

    Attributes:
        column: the column that holds it.
        type: how values compare; `loose` values, whose type is not declared, compare as numbers if both are numbers.
        key: of a column that holds many values, such as metadata: the name of the one that is meant.
    """

    column: str
    type: Literal["text", "number", "time", "loose"] = "text"
    key: str = ""


Fields = Mapping[str, Field]
"""The fields of one kind of thing, by name. A name that ends with a dot takes any key after it."""

SERIES: Fields = {
    "resource": Field("resource_id"),
    "resource_id": Field("resource_id"),
    "project": Field("project_id"),
    "project_id": Field("project_id"),
    "user": Field("user_id"),
    "user_id": Field("user_id"),
    "source": Field("source"),
    "type": Field("type"),
    "unit": Field("unit"),
}

SAMPLES: Fields = {
    **SERIES,
    "volume": Field("volume", "number"),
    "timestamp": Field("timestamp", "time"),
    "recorded_at": Field("recorded_at", "time"),
}

EVENTS: Fields = {
    "event_type": Field("event_type"),
    "message_id": Field("message_id"),
    "generated": Field("generated", "time"),
    "traits.": Field("traits", "loose"),
}

RESOURCES: Fields = {
    **{
        name: SERIES[name] for name in ("resource", "resource_id", "project", "project_id", "user", "user_id", "source")
    },
    "meter": Field("meter"),
    "first_sample_at": Field("first_sample_at", "time"),
    "last_sample_at": Field("last_sample_at", "time"),
    "metadata.": Field("metadata", "loose"),
}

OPERATORS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
"""Operator → the same in SQL."""

NUMBER = r"^[-+]?(0|[1-9][0-9]{0,14})(\.[0-9]{1,17})?([eE][-+][0-9]{1,2})?$"
"""A text that is a number, for the regular expressions of DuckDB, SQLite (Python) and PostgreSQL alike.

It has no more digits than a double holds, for a tenant may write anything into metadata. What only looks like a number,
such as the ids 007 and 12e4, compares as text; a float's exponent has a sign.
"""


def names(fields: Fields) -> list[str]:
    """The fields as a person writes them: `metadata.KEY` for any key."""
    return sorted(f"{name}KEY" if name.endswith(".") else name for name in fields)


def find(fields: Fields, name: str) -> Field:
    """The field that has a name.

    Raises:
        UnknownKeyword: there is none.
    """
    prefix, dot, key = name.partition(".")
    found = fields.get(prefix + dot)
    unusable = set(key) & set('"\\')  # SQLite has no escape for these in a path
    if found is None or unusable or bool(dot) != bool(key):
        raise UnknownKeyword("field", name, names(fields))
    return dataclasses.replace(found, key=key)


@dataclass(frozen=True)
class Filter:
    """One condition of a query.

    Attributes:
        field: the name of one of the fields.
        op: one of OPERATORS.
        value: what to compare with, as text. What has no value in the store meets no condition.
        fields: those of the kind of thing that is queried.
        target: the field that is meant.
        operand: the value in the field's type.

    Raises:
        UnknownKeyword: there is no such field or operator; names near misses.
        UsageError: the value is not of the field's type.
    """

    field: str
    op: str
    value: str
    fields: Fields = dataclasses.field(default_factory=lambda: SERIES, repr=False, compare=False)
    target: Field = dataclasses.field(init=False, repr=False)
    operand: str | float | datetime = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", find(self.fields, self.field))
        if self.op not in OPERATORS:
            raise UnknownKeyword("operator", self.op, list(OPERATORS))
        if "\0" in self.value:
            raise UsageError("the value has a NUL character", where=self.field, hint="No store holds one")
        operand: str | float | datetime = self.value
        if self.target.type == "number":
            operand = _volume(self.value, self.field)
            if math.isnan(operand) and self.op not in ("eq", "ne"):
                raise UsageError(f"nothing is {self.op} nan", where=self.field, hint="Write eq or ne, or a number")
        elif self.target.type == "time":
            operand = times.parse(self.value)
        object.__setattr__(self, "operand", operand)


def _volume(text: str, field: str) -> float:
    try:
        return float(text.replace("_", "no number"))
    except ValueError:
        raise UsageError(f"'{text}' is not a number", where=field, hint="Write a number, such as 90") from None


def _number(text: str) -> float | None:
    return float(text) if re.match(NUMBER, text) else None


def on_lake(filters: Sequence[Filter]) -> tuple[str, list[Any]]:
    """A condition in DuckDB's SQL that holds where all filters do, and the values of its parameters (`?`), in order."""
    conditions: list[str] = []
    values: list[Any] = []
    for each in filters:
        column, sign = each.target.column, OPERATORS[each.op]
        if each.target.type == "loose":
            condition, operands = _on_trait(each)
            conditions.append(f"len(list_filter({column}, lambda trait: trait.name = ? AND {condition})) > 0")
            values += [each.target.key, *operands]
            continue
        conditions.append(f"{column} {sign} ?")
        values.append(each.operand)
        if each.target.type == "number" and each.op in ("gt", "ge"):
            conditions.append(f"NOT isnan({column})")  # which DuckDB takes for the greatest number
    return " AND ".join(conditions) or "true", values


def _on_trait(given: Filter) -> tuple[str, list[Any]]:
    """As `on_lake`, on a trait of an event: a struct `trait` of name, dtype and value."""
    sign, number = OPERATORS[given.op], _number(given.value)
    condition = f"trait.value {sign} ?"
    values: list[Any] = [given.value]
    if number is not None:
        otherwise = "true" if given.op == "ne" else "false"
        is_number = "regexp_matches(trait.value, ?)"
        condition = f"CASE WHEN {is_number} THEN try_cast(trait.value AS DOUBLE) {sign} ? ELSE {otherwise} END"
        values = [NUMBER, number]
    with contextlib.suppress(UsageError):
        values.insert(0, times.parse(given.value))
        is_time = "trait.dtype = 'datetime'"
        condition = f"CASE WHEN {is_time} THEN try_cast(trait.value AS TIMESTAMPTZ) {sign} ? ELSE {condition} END"
    return condition, values


def on_warehouse(given: Filter, column: "ColumnElement[Any]") -> "ColumnElement[bool]":
    """A filter as a condition on a column of the warehouse, in SQLAlchemy's Core; of a loose field: on its text."""
    compare: Callable[[Any, Any], ColumnElement[bool]] = getattr(operator, given.op)
    number = _number(given.value) if given.target.type == "loose" else None
    if number is None:
        return compare(column, given.operand)
    from sqlalchemy import Float, case, cast, false

    otherwise = column.is_not(None) if given.op == "ne" else false()
    return case((column.regexp_match(NUMBER), compare(cast(column, Float), number)), else_=otherwise)
