"""Simple queries: the argument `q` of Ceilometer and Aodh, a list of conditions that all have to hold.

It has three forms, of which the first two may come in a query string, and the last as the JSON body of a GET:

    q.field=A&q.op=eq&q.value=1&q.type=integer&q.field=B&q.value=2    repeated; the nth of each belong together
    q[0].field=A&q[0].op=eq&q[0].value=1&q[1].field=B&q[1].value=2
    {"q": [{"field": "A", "op": "eq", "value": "1", "type": "integer"}]}

Source: WSME 0.12 and Ceilometer 6.0.0.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from meterhouse import times
from meterhouse.api.answers.faults import Fault, invalid, unknown_argument
from meterhouse.api.requests.arguments import Argument, Given, truth
from meterhouse.errors import SHOWN_LENGTH, UnknownKeyword, UsageError, near_misses
from meterhouse.filters import OPERATORS, Condition, Field, Fields, Filter, OneOf, find, names

PARTS: Final[Mapping[str, str]] = {
    "field": "Field of a condition; repeated for each condition. The nth field, op, value and type belong together.",
    "op": "Operator of a condition: lt, le, eq, ne, ge or gt. Default eq.",
    "value": "Value that the field is compared with.",
    "type": "Type of the value: integer, float, string, boolean or datetime. Default: what the value looks like.",
}

Q: Final = Argument("q", "Conditions that all have to hold.", parts=PARTS)
"""The declaration of `q`."""

T = TypeVar("T")

TYPES: Final = ("integer", "float", "string", "boolean", "datetime")

MAX_CONDITIONS: Final = 100
"""Maximum number of conditions of a simple query."""

_BOOLEANS: Final = ("true", "false")
_INDEXED: Final = re.compile(r"\[([0-9]{1,9})\]", re.ASCII)


@dataclass(frozen=True)
class Query:
    """A condition as a client wrote it.

    Attributes:
        field: the name of a field.
        op: one of OPERATORS.
        value: as text.
        type: one of TYPES; empty if none is given.
    """

    field: str
    op: str
    value: str
    type: str = ""

    def typed(self) -> str:
        """The value in the form in which values without a declared type compare: `true` for True, `1` for +1.

        Raises:
            Fault: it is not of its type: status 400.
        """
        match self.type:
            case "integer":
                return str(self._converted(lambda: int(self.value)))
            case "float":
                return repr(self._converted(lambda: float(self.value)))
            case "boolean":
                return str(self.boolean()).lower()
            case "datetime":
                self.moment()
        return self.value

    def boolean(self) -> bool:
        """The value as true or false.

        Raises:
            Fault: it is neither: status 400.
        """
        found = truth(self.value)
        if found is None:
            raise self._unfit("boolean")
        return found

    def moment(self) -> datetime:
        """The value as a time, UTC.

        Raises:
            Fault: it is not one: status 400.
        """
        try:
            return times.parse(self.value)
        except UsageError as error:
            raise invalid(self.field, self.value, sentence(error)) from None

    def _converted(self, convert: Callable[[], T]) -> T:
        try:
            return convert()
        except (ValueError, OverflowError):
            raise self._unfit(self.type) from None

    def _unfit(self, kind: str) -> Fault:
        text = f"Unable to convert the value {self.value[:SHOWN_LENGTH]} to the expected data type {kind}"
        return Fault(400, f"{text}. Change q.value of {self.field[:SHOWN_LENGTH]}, or q.type")


def queries_of(given: Given, name: str = "q") -> list[Query]:
    """The conditions that a request gives, in order.

    Args:
        given: the arguments of the request.
        name: of the argument that Q declares.

    Raises:
        Fault: one has no field or no value, or its operator or type is unknown: status 400.
    """
    found = _of_body(given.body[name]) if name in given.body else _of_text(given.values.get(name, ()))
    if len(found) > MAX_CONDITIONS:
        raise Fault(400, f"The query has {len(found):,} conditions. Give at most {MAX_CONDITIONS:,}")
    return [_query(each) for each in found]


def _of_text(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    dotted: dict[str, list[str]] = {}
    indexed: dict[int, dict[str, Any]] = {}
    for name, value in pairs:
        part = name.rpartition(".")[2]
        index = _INDEXED.search(name)
        if index is None:
            dotted.setdefault(part, []).append(value)
        else:
            indexed.setdefault(int(index[1]), {})[part] = value
    count = max((len(values) for values in dotted.values()), default=0)
    if count > MAX_CONDITIONS:
        return [{}] * count
    together = [{part: values[n] for part, values in dotted.items() if n < len(values)} for n in range(count)]
    return [*together, *(indexed[index] for index in sorted(indexed))]


def _of_body(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise invalid("q", given, 'Write a list of objects, such as [{"field": "meter", "value": "cpu"}]')
    for each in given:
        if not isinstance(each, dict):
            raise invalid("q", each, 'Write an object, such as {"field": "meter", "value": "cpu"}')
        for part in each:
            if part not in PARTS:
                raise unknown_argument(part, f"A condition has {', '.join(PARTS)}")
    return given


def _query(given: Mapping[str, Any]) -> Query:
    parts = {part: _text(part, value) for part, value in given.items() if value is not None}
    for part in ("field", "value"):
        if part not in parts or (part == "field" and not parts[part]):
            raise invalid(part, None, f"Mandatory field missing. Give each condition q.{part}")
    op = parts.get("op") or "eq"
    if op not in OPERATORS:
        raise invalid("op", op, f"Write one of {', '.join(OPERATORS)}")
    kind = parts.get("type") or ""
    if kind and kind not in TYPES:
        raise invalid("type", kind, f"Write one of {', '.join(TYPES)}, or leave it out")
    return Query(parts["field"], op, parts["value"], kind)


def _text(part: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise invalid(part, value, "Wrong type. Write a text")


def equal(query: Query, fields: Fields) -> Condition:
    """The condition that a field equals a value.

    Args:
        query: of a client.
        fields: those that can be queried.

    Raises:
        Fault: there is no such field, its operator is not `eq`, or its value is not usable: status 400.
    """
    checked_equal(query)
    return compared(query, fields)


def compared(query: Query, fields: Fields) -> Condition:
    """The condition of a query, with any operator.

    What has no declared type, such as metadata, is equal to True if it is true, or the text `True`: metadata is shown
    as texts, in Python's form.

    Raises:
        Fault: there is no such field, or its value is not usable: status 400.
    """
    target = with_field(query.field, fields)
    text = query.typed()
    if target.type != "loose":
        text = query.value
    try:
        if query.op == "eq" and target.type == "loose" and text.lower() in _BOOLEANS:
            return OneOf(query.field, (text.lower(), text.capitalize()), fields)
        return Filter(query.field, query.op, text, fields)
    except UsageError as error:
        raise invalid(query.field, query.value, sentence(error)) from None


def checked_equal(query: Query) -> None:
    """Make sure that a condition is one of equality.

    Raises:
        Fault: it has another operator: status 400.
    """
    if query.op != "eq":
        raise invalid("op", query.op, f"Unimplemented operator for {query.field[:100]}. Write eq")


def with_field(name: str, fields: Fields, others: Iterable[str] = ()) -> Field:
    """The field that has a name.

    Args:
        name: as a client wrote it.
        fields: those that can be queried.
        others: further names that can be queried, for the error.

    Raises:
        Fault: there is none: status 400.
    """
    try:
        return find(fields, name)
    except UnknownKeyword:
        listed = sorted({*names(fields), *others})
        near = near_misses(name[:SHOWN_LENGTH], listed)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(listed)}"
        raise unknown_argument(name, f"unrecognized field in query. {hint}") from None
    except UsageError as error:
        raise invalid(name, name, sentence(error)) from None


def latest(queries: Iterable[Query], name: Callable[[str], str]) -> list[Query]:
    """The conditions that count: of those with one field and operator, the last one, as in Ceilometer.

    Args:
        queries: in order.
        name: gives the one name of a field that has several.
    """
    found: dict[tuple[str, str], Query] = {}
    for each in queries:
        found[name(each.field), each.op] = each
    return list(found.values())


def sentence(error: UsageError) -> str:
    """What is wrong and what to do, without the place."""
    what = error.what[:1].upper() + error.what[1:]
    return f"{what}. {error.hint}" if error.hint else what
