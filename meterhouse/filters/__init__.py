"""Filters: the conditions of a query, as a text, as JSON or one by one, compiled for the lake and for the warehouse.

    fields.py       what can be filtered by, for each kind of thing
    conditions.py   comparisons, and what joins them: and, or, not
    regular.py      the regular expressions that all stores read alike
    text.py         conditions as a text: `project = shop and not resource in (a, b)`
    json_form.py    conditions as JSON, in the form of Ceilometer's complex queries
    lake.py         conditions in DuckDB's SQL
    texts.py        conditions on texts alone, on Arrow tables
    warehouse.py    conditions in SQLAlchemy's Core, for SQLite and PostgreSQL

Logic has two values in every store: what has no value meets no comparison, and `not` of one that is not met holds.
A value is never part of a statement: it is bound as a parameter.

Loading this package loads no store.
"""

from meterhouse.filters.conditions import (
    OPERATORS,
    And,
    Condition,
    Filter,
    Leaf,
    Match,
    Not,
    OneOf,
    Or,
    all_of,
    fields_of,
)
from meterhouse.filters.fields import DIMENSIONS, EVENTS, RESOURCES, SAMPLES, SERIES, Field, Fields, find, names
from meterhouse.filters.json_form import from_json
from meterhouse.filters.lake import on_lake
from meterhouse.filters.text import parse
from meterhouse.filters.texts import compares_texts, on_texts
from meterhouse.filters.warehouse import on_warehouse

__all__ = [
    "DIMENSIONS",
    "EVENTS",
    "OPERATORS",
    "RESOURCES",
    "SAMPLES",
    "SERIES",
    "And",
    "Condition",
    "Field",
    "Fields",
    "Filter",
    "Leaf",
    "Match",
    "Not",
    "OneOf",
    "Or",
    "all_of",
    "compares_texts",
    "fields_of",
    "find",
    "from_json",
    "names",
    "on_lake",
    "on_texts",
    "on_warehouse",
    "parse",
]
