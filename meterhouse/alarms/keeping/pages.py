"""Pages of a table of the warehouse: rows in an order, those after a marker, as many as fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, literal, or_, tuple_


@dataclass(frozen=True)
class Key:
    """What rows are ordered by.

    Attributes:
        value: of each row; never null.
        descending: whether the largest comes first.
    """

    value: ColumnElement[Any]
    descending: bool = False


def ordered(query: Select[Any], keys: Sequence[Key]) -> Select[Any]:
    """A query in an order; the last key tells all rows apart."""
    return query.order_by(*(key.value.desc() if key.descending else key.value.asc() for key in keys))


def after(keys: Sequence[Key], marker: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a row comes after a marker.

    Args:
        keys: the order.
        marker: the values of the keys of the marker's row.
    """
    bound = [literal(value, key.value.type) for key, value in zip(keys, marker, strict=True)]
    if len({key.descending for key in keys}) == 1:  # an index can find the place
        row, place = tuple_(*(key.value for key in keys)), tuple_(*bound)
        return row < place if keys[0].descending else row > place
    equal: list[ColumnElement[bool]] = []
    parts = []
    for key, value in zip(keys, bound, strict=True):
        parts.append(and_(*equal, key.value < value if key.descending else key.value > value))
        equal.append(key.value == value)
    return or_(*parts)
