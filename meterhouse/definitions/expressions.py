"""JSONPath expressions of definition files, compiled once to plain functions over a notification.

The dialect is that of `jsonpath-rw-ext`, which Ceilometer uses: dotted and quoted fields, indexes, slices, `[*]`,
filters, arithmetic, string concatenation, unions, recursive descent, sort keys, and the back-tick functions `len`,
`sorted`, `parent`, `this`, `split(char, segment, max_split)` and `sub(/regex/, replacement)`. The module `jsonpath`
parses it. This module walks the tree once, at load time, and never evaluates anything as Python code.

An expression sees a notification as Ceilometer presents it: `ctxt` (the request context, `_context_*` on the wire),
`publisher_id`, `event_type`, `payload` and `metadata` (`message_id`, `timestamp`), and nothing else. A field that a
message lacks is null. If a value is not of the kind that an expression needs (an index of a number, a regular
expression on a list), the expression raises, as in Ceilometer.
"""

import operator
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cmp_to_key, lru_cache
from typing import Any, Final, Literal, NamedTuple

from meterhouse.definitions import jsonpath as syntax
from meterhouse.definitions import patterns
from meterhouse.definitions.jsonpath import Node

Message = dict[str, Any]
Reader = Callable[[Any], Any]
Field = tuple[Literal["payload", "message"], str]

MAX_LENGTH: Final = 10_000
"""Maximum length of an expression, in characters."""

WHOLE_PAYLOAD: Final[frozenset[Field]] = frozenset({("message", "payload")})

DESCENT_LIMIT: Final = 20_000
"""Maximum number of values that a recursive descent (`..`) visits in one message."""

MATCH_LIMIT: Final = 500_000
"""Maximum number of matches, including intermediate ones, in one evaluation of an expression."""

_MISSING: Final = object()
_CONTEXT: Final = "_context_"
_ROOT_FIELDS: Final = frozenset({"ctxt", "publisher_id", "event_type", "payload", "metadata"})
_OWN_CONTEXT: Final = {"msg_id", "reply_q"}  # used by the transport, which removes them
_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "~": lambda text, regex: re.match(regex, text),
}


class ExpressionError(ValueError):
    """An expression that is not of the dialect."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: as written.
        first: its first value that is not null, or None.
        all: all its values, including nulls.
        matches: its values with their paths (`payload.volume_attachment.[0].server_id`).
        constant: whether it cannot match any message (like the names and units of most meters).
        fields: if the expression is simply the first of some fields that is not null: these fields, of the `payload`
            or of the `message` itself.
        reads: the fields of the request context and the payload that it can read; None for the whole message.
    """

    text: str
    first: Callable[[Message], Any]
    all: Callable[[Message], list[Any]]
    matches: Callable[[Message], list[tuple[str, Any]]]
    constant: bool = False
    fields: tuple[Field, ...] = ()
    reads: frozenset[Field] | None = frozenset()


class Match(NamedTuple):
    """A value, the step that leads to it from its holder, and the holder's match; None for a root."""

    value: Any
    step: str
    holder: "Match | None"


Finder = Callable[[Match], list[Match]]
Rooted = Callable[[Message], list[Match]]

_NO_HOLDER: Final = Match(None, "", None)
"""The holder of a root: most steps treat it as null, and it cannot be a result."""

_SOME_ROOT: Final = Match(None, "", None)
"""Stands for the notification above fields that are read at once."""


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Compile an expression.

    Raises:
        ExpressionError: it does not parse.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"'{text[:60]}…' has more than {MAX_LENGTH} characters")
    try:
        tree = syntax.parse(text)
        branches = _branches(tree)
        scalars = [_scalar(branch) for branch in branches]
        known = [scalar for scalar in scalars if scalar is not None]
        if len(known) == len(scalars):
            return _of_scalars(text, [scalar for scalar in known if not scalar.never], _read_by(tree))
        return _of_any(text, [_rooted(branch) for branch in branches], _read_by(tree))
    except syntax.JsonPathError as error:
        raise ExpressionError(str(error)) from None
    except RecursionError:
        raise ExpressionError(f"'{text[:60]}…' is nested too deeply") from None


def _branches(node: Node) -> list[Node]:
    """`a`, `b` and `c` of `a|b|c`."""
    branches: list[Node] = []
    while isinstance(node, syntax.Union):
        branches[:0] = _branches(node.right)
        node = node.left
    return [node, *branches]


def _of_scalars(text: str, scalars: "list[_Scalar]", reads: frozenset[Field] | None) -> Expression:
    if not scalars:
        return Expression(text, lambda message: None, lambda message: [], lambda message: [], constant=True)
    paths_and_readers = [(scalar.path, scalar.read) for scalar in scalars]

    def everything(message: Message) -> list[Any]:
        return [value for _, read in paths_and_readers if (value := read(message)) is not _MISSING]

    def matches(message: Message) -> list[tuple[str, Any]]:
        return [(path, value) for path, read in paths_and_readers if (value := read(message)) is not _MISSING]

    fields = tuple(scalar.field for scalar in scalars if scalar.field)
    if len(fields) < len(scalars):
        fields = ()
    if len(scalars) == 1:
        return Expression(text, scalars[0].first, everything, matches, fields=fields, reads=reads)
    firsts = [scalar.first for scalar in scalars]
    eager = not all(scalar.safe for scalar in scalars[1:])

    def first(message: Message) -> Any:
        for each in firsts:
            value = each(message)
            if value is not None:
                return value
        return None

    def first_of_all(message: Message) -> Any:
        # If a later branch raises, the whole expression does.
        return next((value for value in [each(message) for each in firsts] if value is not None), None)

    return Expression(text, first_of_all if eager else first, everything, matches, fields=fields, reads=reads)


def _of_any(text: str, finders: list[Rooted], reads: frozenset[Field] | None) -> Expression:
    def find(message: Message) -> list[Match]:
        _work.left = MATCH_LIMIT
        return [match for finder in finders for match in finder(message)]

    def everything(message: Message) -> list[Any]:
        return [match.value for match in find(message) if match is not _NO_HOLDER]

    def first(message: Message) -> Any:
        return next((value for value in _values(find(message)) if value is not None), None)

    def matches(message: Message) -> list[tuple[str, Any]]:
        found = find(message)
        return list(zip(map(_path, found), _values(found), strict=True))

    return Expression(text, first, everything, matches, reads=reads)


def _values(matches: Iterable[Match]) -> list[Any]:
    return [_value(match) for match in matches]


def _value(match: Match) -> Any:
    if match is _NO_HOLDER:
        raise AttributeError("nothing holds this value: it has no `parent`")
    return match.value


def _path(match: Match) -> str:
    steps: list[str] = []
    while match.holder is not None:
        steps.append(match.step)
        match = match.holder
    return ".".join(reversed(steps))


# -- the notification as Ceilometer shows it -------------------------------------------------------------------------


def _context(message: Message) -> dict[str, Any]:
    context = {
        key[9:]: value for key, value in message.items() if key.startswith(_CONTEXT) and key[9:] not in _OWN_CONTEXT
    }
    context["client_timeout"] = message.get("_timeout")
    return context


def _root_field(message: Message, name: str) -> Any:
    if name == "ctxt":
        return _context(message)
    if name == "metadata":
        return {"message_id": message.get("message_id"), "timestamp": message.get("timestamp")}
    return message.get(name) if name in _ROOT_FIELDS else _MISSING


def _view(message: Message) -> dict[str, Any]:
    return {name: _root_field(message, name) for name in ("ctxt", "publisher_id", "event_type", "payload", "metadata")}


def _single_field(names: list[str]) -> Field | None:
    """The field that a chain of names reads, if it reads just one."""
    match _wire_names(names):
        case ["payload", name]:
            return "payload", name
        case [name] if name not in ("ctxt", "metadata"):
            return "message", name
    return None


def _read_by(node: Node) -> frozenset[Field] | None:
    """The fields of the request context and the payload that a tree can read; None for the whole message."""
    if isinstance(node, (syntax.Operation, syntax.Union)):
        sides = [side for side in (node.left, node.right) if not isinstance(side, (int, float, str))]
        return all_reads(_read_by(side) for side in sides)
    if isinstance(node, syntax.Where) and not _looks_up(node.right):
        return _read_by(node.left)
    steps = _steps(node)
    while len(steps) > 1 and isinstance(steps[0], (syntax.Root, syntax.This)):
        steps = steps[1:]
    if any(_looks_up(step) for step in steps) or not isinstance(steps[0], syntax.Fields) or len(steps[0].names) > 1:
        return None
    named = steps[1].names if len(steps) > 1 and isinstance(steps[1], syntax.Fields) else ("*",)
    match steps[0].names[0]:
        case "payload":
            return WHOLE_PAYLOAD if "*" in named else frozenset(("payload", name) for name in named)
        case "ctxt" if not {"*", "client_timeout"} & set(named):
            return frozenset(("message", _CONTEXT + name) for name in named)
        case "ctxt" | "*":
            return None
    return frozenset()


def all_reads(reads: Iterable[frozenset[Field] | None]) -> frozenset[Field] | None:
    """The union of several sets of fields; None for the whole message."""
    found = list(reads)
    return None if None in found else frozenset().union(*(each for each in found if each))


# -- expressions with at most one value: functions from value to value -----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scalar:
    """An expression that has at most one value.

    Attributes:
        read: from a notification to the value, or `_MISSING`.
        first: the same, with None for `_MISSING`.
        path: the path of the value.
        safe: whether it never raises.
        never: whether it never has a value.
        field: the field, if it only reads one field.
    """

    read: Reader
    first: Callable[[Message], Any]
    path: str
    safe: bool
    never: bool = False
    field: Field | None = None


def _scalar(node: Node) -> _Scalar | None:
    """A node, evaluated on the notification, as an expression with at most one value; None if it can have more."""
    steps = _steps(node)
    while len(steps) > 1 and isinstance(steps[0], (syntax.Root, syntax.This)):
        steps = steps[1:]
    names: list[str] = []
    while steps and (name := _single_name(steps[0])) is not None:
        names.append(name)
        steps = steps[1:]
    readers: list[Reader] = []
    path, safe = list(names), True
    if names:
        if names[0] not in _ROOT_FIELDS:
            read = _reader_of_steps(steps)
            if read is None:
                return None
            return _Scalar(lambda message: _MISSING, lambda message: None, "", True, never=True)
        readers = _chain(names)
    elif steps and isinstance(steps[0], syntax.Operation):
        calculate = _scalar_operation(steps[0])
        if calculate is None:
            return None
        readers, safe = [calculate], False
        steps = steps[1:]
    else:
        return None
    read_on = _reader_of_steps(steps)
    if read_on is None:
        return None
    readers += read_on
    for step in steps:
        safe = safe and isinstance(step, (syntax.This, syntax.Fields, syntax.Len, syntax.Split))
        if isinstance(step, syntax.Fields):
            path.append(step.names[0])
        elif isinstance(step, syntax.Index):
            path.append(f"[{step.at}]")
        elif not isinstance(step, syntax.This):
            path = []
    read_all = _compose(readers)
    if names and not steps:
        return _Scalar(read_all, _first_of_chain(names), ".".join(path), safe, field=_single_field(names))

    def first(message: Message) -> Any:
        value = read_all(message)
        return None if value is _MISSING else value

    return _Scalar(read_all, first, ".".join(path), safe)


def _single_name(node: Node) -> str | None:
    return node.names[0] if isinstance(node, syntax.Fields) and len(node.names) == 1 and node.names[0] != "*" else None


def _scalar_operation(node: syntax.Operation) -> Reader | None:
    left, right = _scalar_operand(node.left), _scalar_operand(node.right)
    if left is None or right is None:
        return None
    symbol = node.op

    def calculate(message: Message) -> Any:
        a, b = left(message), right(message)
        return _MISSING if a is _MISSING or b is _MISSING else _apply(symbol, a, b)

    return calculate


def _scalar_operand(item: Node | int | float | str) -> Reader | None:
    if isinstance(item, (int, float, str)):
        return lambda message: item
    scalar = _scalar(item)
    return None if scalar is None else scalar.read


def _chain(names: list[str]) -> list[Reader]:
    """Readers of nested fields, from the notification."""
    first, *rest = _wire_names(names)
    if first in ("ctxt", "metadata"):
        return [lambda message: _root_field(message, first), *(_field(name) for name in rest)]
    if first.startswith(_CONTEXT):
        return [lambda message: message.get(first, _MISSING), *(_field(name) for name in rest)]
    return [lambda message: message.get(first), *(_field(name) for name in rest)]


def _first_of_chain(names: list[str]) -> Callable[[Message], Any]:
    """The chain as one function that returns None for a missing value. It makes few calls: most of the work is here."""
    names = _wire_names(names)
    if names[0] in ("ctxt", "metadata") or len(names) > 3:
        read = _compose(_chain(names))

        def first(message: Message) -> Any:
            value = read(message)
            return None if value is _MISSING else value

        return first
    one, two, three = (*names, "", "")[:3]
    if len(names) == 1:
        return lambda message: message.get(one)

    def second(message: Message) -> Any:
        outer = message.get(one)
        return outer.get(two) if isinstance(outer, dict) else None

    def third(message: Message) -> Any:
        outer = message.get(one)
        if isinstance(outer, dict):
            inner = outer.get(two)
            if isinstance(inner, dict):
                return inner.get(three)
        return None

    return second if len(names) == 2 else third


def _wire_names(names: list[str]) -> list[str]:
    """The names in the message itself: `_context_x` for `ctxt.x`, and two fields of `metadata` without it."""
    first, second = (*names, "")[:2]
    if first == "ctxt" and second and second != "client_timeout" and second not in _OWN_CONTEXT:
        return [_CONTEXT + second, *names[2:]]
    if first == "metadata" and second in ("message_id", "timestamp"):
        return [second, *names[2:]]
    return names


def _compose(steps: list[Reader]) -> Reader:
    if len(steps) == 1:
        return steps[0]

    def run(value: Any) -> Any:
        for step in steps:
            value = step(value)
            if value is _MISSING:
                return _MISSING
        return value

    return run


def _field(name: str) -> Reader:
    return lambda value: value.get(name, _MISSING) if isinstance(value, dict) else _MISSING


def _steps(node: Node) -> list[Node]:
    """The nodes of `a.b[0].c` from left to right."""
    steps: list[Node] = []
    while isinstance(node, syntax.Child):
        steps[:0] = _steps(node.right)
        node = node.left
    return [node, *steps]


def _reader_of_steps(steps: list[Node]) -> list[Reader] | None:
    readers = [_reader(step) for step in steps]
    known = [reader for reader in readers if reader is not None]
    return known if len(known) == len(readers) else None


def _reader(node: Node) -> Reader | None:
    """A step as a function, if it has at most one value; otherwise None."""
    name = _single_name(node)
    if name is not None:
        return _field(name)
    if isinstance(node, syntax.This):
        return lambda value: value
    if isinstance(node, syntax.Index):
        at = node.at
        return lambda value: value[at] if len(value) > at else _MISSING
    return _function(node)


def _function(node: Node) -> Reader | None:
    if isinstance(node, syntax.Split):
        return _split(node)
    if isinstance(node, syntax.Sub):
        return _substitute(node)
    if isinstance(node, syntax.Len):
        return lambda value: len(value) if isinstance(value, (str, list, dict)) else _MISSING
    return None


def _split(node: syntax.Split) -> Reader:
    char, at, limit = node.char, node.segment, node.limit

    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return _MISSING
        parts = value.split(char, limit)
        return parts[at] if at < len(parts) else _MISSING

    return split


def _substitute(node: syntax.Sub) -> Reader:
    regex, replacement = node.regex, node.replacement

    def substitute(value: Any) -> Any:
        changed = patterns.substitute(regex, replacement, value)
        # If the regex changes nothing, there is no value at all: a quirk that definitions use to write conditions.
        return _MISSING if changed == value else changed

    return substitute


def _apply(symbol: str, left: Any, right: Any) -> Any:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        if symbol == "+":
            return left + right
        return left - right if symbol == "-" else left * right
    # Python would also repeat a text or a list (`*`). No definition means that, and a message could fill the memory.
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    if symbol == "+" and isinstance(left, list) and isinstance(right, list):
        return left + right
    return _MISSING


# -- expressions with any number of values: functions from match to matches ------------------------------------------


def _rooted(node: Node) -> Rooted:
    """A node as a function from the notification to matches.

    The fields before the first step of another kind are read together. The context is only built if a step needs it.
    """
    if _sorts_the_notification(node):
        return _raise_for_notification
    if isinstance(node, syntax.Union):
        sides = [_rooted(branch) for branch in _branches(node)]
        return lambda message: [match for side in sides for match in side(message)]
    if isinstance(node, syntax.Operation):
        left = node.left if isinstance(node.left, (int, float, str)) else _rooted(node.left)
        right = node.right if isinstance(node.right, (int, float, str)) else _rooted(node.right)
        return _operation(node.op, left, right)
    steps = _steps(node)
    while len(steps) > 1 and isinstance(steps[0], (syntax.Root, syntax.This)):
        steps = steps[1:]
    names: list[str] = []
    while steps and (name := _single_name(steps[0])) is not None:
        names.append(name)
        steps = steps[1:]
    if any(_looks_up(step) for step in steps) or not (names or isinstance(steps[0], (syntax.Union, syntax.Operation))):
        find_anywhere = _finder(node)
        return lambda message: find_anywhere(Match(_view(message), "", None))
    rest = _find_steps([_finder(step) for step in (steps if names else steps[1:])])
    if not names:
        begin = _rooted(steps[0])
        return lambda message: [found for match in begin(message) for found in rest(match)]
    if names[0] not in _ROOT_FIELDS:
        return lambda message: []
    read, path = _compose(_chain(names)), ".".join(names)

    def find(message: Message) -> list[Match]:
        value = read(message)
        return [] if value is _MISSING else rest(Match(value, path, _SOME_ROOT))

    return find


def _sorts_the_notification(node: Node) -> bool:
    """Whether the expression sorts the notification itself, not a value in it, which always fails."""
    if isinstance(node, (syntax.Child, syntax.Where, syntax.Descendants)):
        return _sorts_the_notification(node.left)
    if isinstance(node, (syntax.Union, syntax.Operation)):
        return any(
            _sorts_the_notification(side) for side in (node.left, node.right) if not isinstance(side, (int, float, str))
        )
    return isinstance(node, syntax.Sorted)


def _raise_for_notification(message: Message) -> list[Match]:
    raise TypeError("a notification cannot be sorted")


def _looks_up(node: Node) -> bool:
    """Whether a step needs the holder of its value."""
    if isinstance(node, (syntax.Root, syntax.Parent)):
        return True
    if isinstance(node, syntax.Filter):
        return False  # in a filter's conditions, the item of the list is the root
    if isinstance(node, (syntax.Child, syntax.Where, syntax.Descendants, syntax.Union, syntax.Operation)):
        return any(_looks_up(side) for side in (node.left, node.right) if not isinstance(side, (int, float, str)))
    return False


def _finder(node: Node) -> Finder:
    """Any node as a function from match to matches."""
    if isinstance(node, syntax.Child):
        return _find_steps([_finder(step) for step in _steps(node)])
    if isinstance(node, syntax.Fields):
        return _find_members if "*" in node.names else _find_fields(node.names)
    if isinstance(node, syntax.Index):
        return _find_index(node.at)
    if isinstance(node, syntax.Slice):
        return _find_slice(slice(node.start, node.end))
    if isinstance(node, syntax.Filter):
        return _find_filtered(node)
    if isinstance(node, syntax.Sorted):
        return _find_sorted(node)
    if isinstance(node, syntax.Union):
        return _find_union([_finder(branch) for branch in _branches(node)])
    if isinstance(node, syntax.Where):
        return _find_where(_finder(node.left), _condition(node.right))
    if isinstance(node, syntax.Descendants):
        return _find_descendants(_finder_of_left(node.left), _finder(node.right))
    if isinstance(node, syntax.Operation):
        left = node.left if isinstance(node.left, (int, float, str)) else _finder(node.left)
        right = node.right if isinstance(node.right, (int, float, str)) else _finder(node.right)
        return _operation(node.op, left, right)
    if isinstance(node, syntax.This):
        return lambda match: [match]
    if isinstance(node, syntax.Root):
        return _find_root
    if isinstance(node, syntax.Parent):
        return lambda match: [match.holder or _NO_HOLDER]
    read = _function(node)
    return _find_nothing if read is None else _find_with(read)


class _Work(threading.local):
    """The number of matches that are left for the current evaluation."""

    left = MATCH_LIMIT

    def spend(self, matches: int) -> None:
        self.left -= matches
        if self.left < 0:
            raise ValueError(
                f"the expression has more than {MATCH_LIMIT} matches, with intermediate ones, in one message"
            )


_work: Final = _Work()


def _find_nothing(match: Match) -> list[Match]:
    # Not a promise: jsonpath-rw parses `a & b` and raises this for each message, so the result has to name this error.
    raise NotImplementedError("'&' between two paths has no meaning")


def _find_steps(finders: list[Finder]) -> Finder:
    def find(match: Match) -> list[Match]:
        matches = [match]
        for finder in finders:
            found: list[Match] = []
            for each in matches:
                found += finder(each)
                if len(found) > _work.left:
                    break
            matches = found
            _work.spend(len(matches))
            if not matches:
                break
        return matches

    return find


def _find_fields(names: tuple[str, ...]) -> Finder:
    def find(match: Match) -> list[Match]:
        value = match.value
        if not isinstance(value, dict):
            return []
        return [Match(value[name], name, match) for name in names if name in value]

    return find


def _find_members(match: Match) -> list[Match]:
    if not isinstance(match.value, dict):
        return []
    return [Match(inner, name, match) for name, inner in match.value.items()]


def _find_index(at: int) -> Finder:
    step = f"[{at}]"
    return lambda match: [Match(match.value[at], step, match)] if len(match.value) > at else []


def _find_slice(cut: slice) -> Finder:
    def find(match: Match) -> list[Match]:
        value = match.value
        if isinstance(value, (dict, int, str)):
            # A value that is not a list is treated as a list of one.
            match = Match([value], match.step, match.holder)
            value = match.value
        return [Match(value[at], f"[{at}]", match) for at in range(len(value))[cut]]

    return find


def _find_root(match: Match) -> list[Match]:
    while match.holder is not None:
        match = match.holder
    return [Match(match.value, "", None)]


def _find_with(read: Reader) -> Finder:
    def find(match: Match) -> list[Match]:
        value = read(match.value)
        return [] if value is _MISSING else [Match(value, "", None)]

    return find


def _find_union(finders: list[Finder]) -> Finder:
    return lambda match: [found for finder in finders for found in finder(match)]


def _find_where(left: Finder, right: Callable[[Match], bool]) -> Finder:
    return lambda match: [found for found in left(match) if right(found)]


def _find_descendants(left: Finder, right: Finder) -> Finder:
    def find(match: Match) -> list[Match]:
        found: list[Match] = []
        waiting = left(match)[::-1]
        looked_at = 0
        while waiting:
            looked_at += 1
            if looked_at > DESCENT_LIMIT:
                raise ValueError(f"a recursive descent visited more than {DESCENT_LIMIT} values")
            each = waiting.pop()
            found += right(each)
            _work.spend(1)
            if len(found) > _work.left:
                _work.spend(len(found))
            if isinstance(each.value, list):
                waiting += [Match(inner, f"[{at}]", each) for at, inner in enumerate(each.value)][::-1]
            elif isinstance(_value(each), dict):
                waiting += _find_members(each)[::-1]
        return found

    return find


def _operation(
    symbol: str,
    left: Callable[[Any], list[Match]] | float | str,
    right: Callable[[Any], list[Match]] | float | str,
) -> Callable[[Any], list[Match]]:
    def find(given: Any) -> list[Match]:
        lefts = left(given) if callable(left) else None
        rights = right(given) if callable(right) else None
        if lefts is None:
            lefts = [Match(left, "", None)] * (1 if rights is None else len(rights))
        if rights is None:
            rights = [Match(right, "", None)] * len(lefts)
        if len(lefts) != len(rights):
            return []
        results: list[Match] = []
        for pair in zip(lefts, rights, strict=True):
            result = _apply(symbol, *_values(pair))
            if result is _MISSING:
                return []
            results.append(Match(result, "", None))
        return results

    return find


# -- conditions and sort keys ----------------------------------------------------------------------------------------


class _NotSortable(TypeError):
    """The value to sort is neither a list nor a mapping."""


def _find_sorted(node: syntax.Sorted) -> Finder:
    keys = [(_finder(key), descending) for key, descending in node.keys]

    def compare(one: Any, other: Any) -> int:
        for find, descending in keys:
            lefts, rights = find(Match(one, "", None)), find(Match(other, "", None))
            if len(lefts) != 1 or len(rights) != 1:
                continue
            (left,), (right,) = _values(lefts), _values(rights)
            if left == right:
                continue
            return 1 if (left < right) is descending else -1
        return 0

    def find(match: Match) -> list[Match]:
        value = match.value
        if not isinstance(value, list) and (keys or not isinstance(value, dict)):
            raise _NotSortable(f"a {type(value).__name__} cannot be sorted")
        made = sorted(value, key=cmp_to_key(compare)) if keys else sorted(value)
        return [Match(made, "", None)]

    return find


def _finder_of_left(node: Node) -> Finder:
    """The left side of `..`, where sorting a value that cannot be sorted returns the value itself."""
    find = _finder(node)
    if not isinstance(node, syntax.Sorted):
        return find

    def find_or_this(match: Match) -> list[Match]:
        try:
            return find(match)
        except _NotSortable:
            return [match]

    return find_or_this


def _condition(node: Node) -> Callable[[Match], bool]:
    """Whether a node has any match."""
    find = _finder_of_left(node)
    return lambda match: bool(find(match))


def _find_filtered(node: syntax.Filter) -> Finder:
    tests = [_test(test) for test in node.tests]

    def find(match: Match) -> list[Match]:
        if not isinstance(match.value, list):
            return []
        _work.spend(len(match.value))
        return [
            Match(item, f"[{at}]", match)
            for at, item in enumerate(match.value)
            # All tests run, because a later one may raise.
            if False not in [test(Match(item, "", None)) for test in tests]
        ]

    return find


def _test(test: syntax.Test) -> Callable[[Match], bool]:
    """A condition as a function of a list's item."""
    if test.op is None:
        return _condition(test.target)
    compare, literal = _COMPARE[test.op], test.literal
    if test.op == "~" and isinstance(literal, str):
        compare = _compare_with(literal)
    find = _finder(test.target)
    name = _single_name(_without_this(test.target))
    if name is not None and isinstance(literal, str) and test.op in ("=", "=="):

        def equals(match: Match) -> bool:
            item = match.value
            return isinstance(item, dict) and item.get(name) == literal

        return equals
    if not isinstance(literal, int):
        return lambda match: (
            True in [bool(compare(value, literal)) for value in _values(find(match)) if value is not None]
        )

    def compares(match: Match) -> bool:
        held = False
        for value in _values(find(match)):
            if value is not None:
                try:
                    number = int(value)
                except ValueError:
                    continue
                held = bool(compare(number, literal)) or held
        return held

    return compares


def _compare_with(text: str) -> Callable[[Any, Any], Any]:
    try:
        regex = patterns.compile_pattern(text)
    except ValueError as error:
        raise ExpressionError(str(error)) from None
    return lambda value, _: patterns.match(regex, value)


def _without_this(node: Node) -> Node:
    steps = _steps(node)
    while len(steps) > 1 and isinstance(steps[0], (syntax.Root, syntax.This)):
        steps = steps[1:]
    return steps[0] if len(steps) == 1 else node
