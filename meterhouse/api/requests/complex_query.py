"""Complex queries: the body of `POST /v2/query/samples`, `/v2/query/alarms` and `/v2/query/alarms/history`.

    {"filter": "{\"and\": [{\"=\": {\"meter\": \"cpu\"}}, {\">\": {\"volume\": 1}}]}",
     "orderby": "[{\"timestamp\": \"desc\"}]", "limit": 10}

All are optional. `filter` and `orderby` are texts that hold JSON.

Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/query.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from meterhouse.api.answers.faults import Fault, invalid, not_authorized, unknown_argument
from meterhouse.api.requests.paging import checked_limit
from meterhouse.api.requests.simple_query import sentence
from meterhouse.errors import UsageError, shown
from meterhouse.filters import Condition, Field, Fields, Filter, OneOf, Or, find, from_json
from meterhouse.filters.conditions import And, Leaf, Match, Not, leaves_of
from meterhouse.settings import Settings

MEMBERS: Final = ("filter", "orderby", "limit")
DIRECTIONS: Final = ("asc", "desc")

_NOTHING: Final = object()

_EXPRESSIONS: Final = {"filter": "Filter", "orderby": "Order-by"}

MAX_ORDER: Final = 10
"""Maximum number of fields to order by."""


@dataclass(frozen=True)
class Order:
    """A field that answers are ordered by.

    Attributes:
        name: as the client wrote it.
        field: that is meant.
        descending: whether the largest comes first.
    """

    name: str
    field: Field
    descending: bool


@dataclass(frozen=True)
class ComplexQuery:
    """What a client asks for.

    Attributes:
        condition: None for all.
        order: empty for the default.
        limit: maximum number of things to answer.
    """

    condition: Condition | None
    order: Sequence[Order]
    limit: int


def complex_query(body: Any, fields: Fields, settings: Settings) -> ComplexQuery:
    """The query that a body says.

    Args:
        body: as a parser of JSON has read it; None if there is none.
        fields: those that can be queried and ordered by.
        settings: of the site.

    Raises:
        Fault: it is not a query; says the place, what is wrong, and what to do: status 400.
    """
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise Fault(400, f"The body is {shown(body)}. Write an object with {', '.join(MEMBERS)}, each optional")
    for name in body:
        if name not in MEMBERS:
            raise unknown_argument(name, f"A complex query has {', '.join(MEMBERS)}")
    given = _json_of("filter", body.get("filter"))
    return ComplexQuery(
        None if given is _NOTHING else _condition(given, fields),
        _order(_json_of("orderby", body.get("orderby")), fields),
        _limit(body.get("limit"), settings),
    )


def check_projects(condition: Condition | None, own: str | None, columns: Sequence[str] = ("project_id",)) -> None:
    """Make sure that a filter names no other project than the caller's own.

    Args:
        condition: of a client.
        own: the caller's project; None if it may see all.
        columns: those that hold projects.

    Raises:
        Fault: it does: status 401.
    """
    if own is None or condition is None:
        return
    for leaf in leaves_of(condition):
        if leaf.target.column not in columns:
            continue
        for each in _values(leaf):
            if each != own:
                raise not_authorized(each)


def _values(leaf: Leaf) -> Sequence[str]:
    match leaf:
        case Filter(value=value):
            return (value,)
        case OneOf(among=among):
            return among
        case Match(pattern=pattern):
            return (pattern,)


def _json_of(name: str, given: Any) -> Any:
    """The JSON that a text holds; _NOTHING if there is none."""
    if given is None:
        return _NOTHING
    if not isinstance(given, str):
        raise invalid(name, given, "Wrong type. Write a text that holds JSON")
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError as error:
        raise _not_valid(name, f"It is not JSON: {error}. Write a text that holds JSON") from None


def _not_valid(name: str, text: str) -> Fault:
    """The answer to a member that cannot be used; it begins as Ceilometer's."""
    return Fault(400, f"{_EXPRESSIONS[name]} expression not valid: {text}")


def _condition(given: Any, fields: Fields) -> Condition:
    try:
        return booleans_as_shown(from_json(given, fields))
    except UsageError as error:
        place = f"At {error.where}: " if error.where else ""
        raise _not_valid("filter", f"{place}{sentence(error)}") from None


def booleans_as_shown(condition: Condition) -> Condition:
    """A condition in which metadata that equals `True` may be true as well: it is shown so."""
    match condition:
        case And(parts):
            return And(tuple(booleans_as_shown(part) for part in parts))
        case Or(parts):
            return Or(tuple(booleans_as_shown(part) for part in parts))
        case Not(part):
            return Not(booleans_as_shown(part))
        case Filter(field=field, op="eq", value=("True" | "False") as value, fields=fields, target=target):
            return OneOf(field, (value, value.lower()), fields) if target.type == "loose" else condition
    return condition


def _order(given: Any, fields: Fields) -> list[Order]:
    if given is _NOTHING:
        return []
    if not isinstance(given, list) or len(given) > MAX_ORDER:
        text = f'Write a list of at most {MAX_ORDER}, such as [{{"timestamp": "desc"}}]'
        raise _not_valid("orderby", f"It is {shown(given)}. {text}")
    found = []
    for each in given:
        if not isinstance(each, dict) or len(each) != 1:
            text = 'Write an object with one key, such as {"timestamp": "desc"}'
            raise _not_valid("orderby", f"It has {shown(each)}. {text}")
        ((name, direction),) = each.items()
        if not isinstance(direction, str) or direction.lower() not in DIRECTIONS:
            raise _not_valid("orderby", f"It has the direction {shown(direction)}. Write asc or desc")
        found.append(Order(name, _field(name, fields), direction.lower() == "desc"))
    return found


def _field(name: str, fields: Fields) -> Field:
    try:
        return find(fields, name)
    except UsageError as error:
        raise _not_valid("orderby", sentence(error)) from None


def _limit(given: Any, settings: Settings) -> int:
    if isinstance(given, str) and given.strip().lstrip("+-").isascii() and given.strip().lstrip("+-").isdecimal():
        given = int(given[:20])
    if given is not None and (not isinstance(given, int) or isinstance(given, bool)):
        raise invalid("limit", given, "Write an integer")
    return checked_limit(given, settings)
