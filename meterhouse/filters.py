"""Filters: the conditions of a query."""

from dataclasses import dataclass

from meterhouse.errors import UnknownName

FIELDS = {
    "resource": "resource_id",
    "resource_id": "resource_id",
    "project": "project_id",
    "project_id": "project_id",
    "user": "user_id",
    "user_id": "user_id",
    "source": "source",
    "type": "type",
    "unit": "unit",
}
"""Query field → column."""

OPERATORS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@dataclass(frozen=True)
class Filter:
    """One condition of a query: `field` is a key of FIELDS, `op` one of OPERATORS."""

    field: str
    op: str
    value: str

    def __post_init__(self) -> None:
        if self.field not in FIELDS:
            raise UnknownName("field", self.field, sorted(FIELDS))
        if self.op not in OPERATORS:
            raise UnknownName("operator", self.op, sorted(OPERATORS))
