"""JSONPath expressions of definition files, compiled once to plain functions over a notification.

The dialect is that of `jsonpath-rw-ext`, on which Ceilometer is built: dotted and quoted fields, indexes, slices,
`[*]`, filters, arithmetic, string concatenation, unions, recursive descent, and the back-tick functions `len`, `keys`,
`sorted`, `parent`, `this`, `str()`, `split(chars, segment, max_split)` and `sub(/regex/, replacement)`. The
`jsonpath-ng` grammar parses it; its tree is walked here, at load time, never per message, and nothing is ever
evaluated as Python code.

An expression sees a notification as Ceilometer shows it: `ctxt` (the request context, `_context_*` on the wire),
`publisher_id`, `event_type`, `priority`, `payload` and `metadata` (`message_id`, `timestamp`); nothing else of it.
"""

import operator
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

Message = dict[str, Any]
Reader = Callable[[Any], Any]
Match = tuple[Any, str, Any]  # the value, its path, the match that holds it; the root's path is empty
Finder = Callable[[Match], list[Match]]

DESCENT_LIMIT: Final = 20_000
"""So many values a recursive descent (`..`) may look at in one message."""

_MISSING: Final = object()
_CONTEXT: Final = "_context_"
_ROOT_FIELDS: Final = frozenset({"publisher_id", "event_type", "priority", "payload"})
_PLAIN: Final = re.compile(r"(?:\$\.)?[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*\Z")
_KEYWORDS: Final = frozenset({"where", "wherenot"})
_QUOTED_OR_STAR: Final = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)|\[\s*\*\s*\]""")
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class ExpressionError(ValueError):
    """An expression that is not of the dialect."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: as written.
        first: its first value that is not null, else None.
        all: all its values, nulls kept.
        matches: its values with their paths (`payload.volume_attachment.[0].server_id`).
        constant: it can never match, whatever the message (the names and units of most meters).
        payload_field: the field of the payload that it reads, where it does no more than that.
    """

    text: str
    first: Callable[[Message], Any]
    all: Callable[[Message], list[Any]]
    matches: Callable[[Message], list[tuple[str, Any]]]
    constant: bool = False
    payload_field: str | None = None


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Compile an expression.

    Raises:
        ExpressionError: it does not parse, or uses what the dialect has not.
    """
    if _PLAIN.match(text) and _KEYWORDS.isdisjoint(fields := text.removeprefix("$.").split(".")):
        if not _is_root_field(fields[0]):
            return Expression(text, lambda message: None, lambda message: [], lambda message: [], constant=True)
        payload_field = fields[1] if len(fields) == 2 and fields[0] == "payload" else None
        scalar: Reader | None = _chain(fields)
        find: Finder = _find_steps([_find_fields((name,)) for name in fields])
    else:
        payload_field = None
        tree = _parse(text)
        fields = _pure_chain(tree)
        scalar = _scalar(tree, at_root=True)
        find = _finder(tree) if "`parent`" in text else _from_root(tree)

    def matches(message: Message) -> list[tuple[str, Any]]:
        return [(path, _seen(value, path)) for value, path, _ in find((message, "", None))]

    if scalar is None:

        def everything(message: Message) -> list[Any]:
            return [_seen(value, path) for value, path, _ in find((message, "", None))]

        def first_of_all(message: Message) -> Any:
            for value, path, _ in find((message, "", None)):
                if value is not None:
                    return _seen(value, path)
            return None

        return Expression(text, first_of_all, everything, matches)
    read = scalar

    def only(message: Message) -> Any:
        value = read(message)
        return None if value is _MISSING else value

    def one_or_none(message: Message) -> list[Any]:
        value = read(message)
        return [] if value is _MISSING else [value]

    first = _first_of_chain(fields) if fields and _is_root_field(fields[0]) else only
    return Expression(text, first, one_or_none, matches, payload_field=payload_field)


def _parse(text: str) -> Any:
    from jsonpath_ng.ext.parser import parse

    # `[*]` of something that is no list is that thing itself in this dialect, `.*` is the values of a mapping; newer
    # jsonpath-ng parses both to the same node, so `[*]` is written as the full slice.
    sliced = _QUOTED_OR_STAR.sub(lambda found: found[1] or "[:]", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return parse(sliced)
        except RecursionError:
            raise ExpressionError(f"'{text[:60]}…' is nested too deeply") from None
        except Exception as error:  # the parser raises bare Exception in older releases
            raise ExpressionError(f"'{text}' is no JSONPath: {error}") from None


# -- the notification as Ceilometer shows it -------------------------------------------------------------------------


def _is_root_field(name: str) -> bool:
    return name in _ROOT_FIELDS or name in ("ctxt", "metadata")


def _context(message: Message) -> dict[str, Any]:
    return {key[9:]: value for key, value in message.items() if key.startswith(_CONTEXT)}


def _root_field(message: Message, name: str) -> Any:
    if name in _ROOT_FIELDS:
        return message.get(name, _MISSING)
    if name == "ctxt":
        return _context(message)
    if name == "metadata":
        return {key: message[key] for key in ("message_id", "timestamp") if key in message}
    return _MISSING


def _view(message: Message) -> dict[str, Any]:
    names = ("publisher_id", "event_type", "priority", "payload")
    view: dict[str, Any] = {name: message[name] for name in names if name in message}
    view["ctxt"] = _context(message)
    view["metadata"] = _root_field(message, "metadata")
    return view


def _seen(value: Any, path: str) -> Any:
    return value if path else _view(value)


# -- expressions with one value at most: functions from value to value -----------------------------------------------


def _chain(fields: list[str]) -> Reader:
    """A reader of nested fields, from the notification."""
    return _compose(_chain_steps(fields))


def _chain_steps(fields: list[str]) -> list[Reader]:
    first, *rest = _wire_names(fields)
    if first in ("ctxt", "metadata"):
        return [lambda message: _root_field(message, first), *(_field(name) for name in rest)]
    return [lambda message: message.get(first, _MISSING), *(_field(name) for name in rest)]


def _first_of_chain(fields: list[str]) -> Callable[[Message], Any]:
    """The same as a function whose missing values are None, in as few calls as can be: most of the work is here."""
    names = _wire_names(fields)
    if names[0] in ("ctxt", "metadata") or len(names) > 3:
        read = _chain(fields)

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


def _wire_names(fields: list[str]) -> list[str]:
    """`ctxt.x` is `_context_x` in the message itself."""
    if fields[0] == "ctxt" and len(fields) > 1:
        return [_CONTEXT + fields[1], *fields[2:]]
    return fields


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


def _kind(node: Any) -> str:
    return type(node).__name__.lstrip("_")


def _steps(node: Any) -> list[Any]:
    """The nodes of `a.b[0].c` from left to right."""
    steps: list[Any] = []
    while _kind(node) == "Child":
        right = _steps(node.right)
        steps[:0] = right
        node = node.left
    return [node, *steps]


def _scalar(node: Any, *, at_root: bool) -> Reader | None:
    """A reader for a node that has one value at most, else None."""
    kind = _kind(node)
    if kind == "Operation":
        left, right = _operand(node.left, at_root), _operand(node.right, at_root)
        if left is None or right is None:
            return None
        return _arithmetic(node.op_symbol if hasattr(node, "op_symbol") else node.op, left, right)
    steps = _steps(node)
    if at_root and len(steps) > 1 and _kind(steps[0]) == "Root":
        steps = steps[1:]
    while len(steps) > 1 and _kind(steps[0]) == "This":
        steps = steps[1:]
    names: list[str] = []
    if at_root:
        while steps and _kind(steps[0]) == "Fields" and len(steps[0].fields) == 1:
            names.append(steps.pop(0).fields[0])
        if not names or names[0] == "*":
            return None
    readers = [_reader(step) for step in steps]
    if any(reader is None for reader in readers):
        return None
    composed = [reader for reader in readers if reader is not None]
    if at_root:
        if not _is_root_field(names[0]):
            return lambda value: _MISSING
        composed = [*_chain_steps(names), *composed]
    return _compose(composed)


def _pure_chain(node: Any) -> list[str]:
    """The names of a tree that is nothing but nested fields, else none."""
    steps = _steps(node)
    if len(steps) > 1 and _kind(steps[0]) == "Root":
        steps = steps[1:]
    if all(_kind(step) == "Fields" and len(step.fields) == 1 and not _is_wildcard(step) for step in steps):
        return [str(step.fields[0]) for step in steps]
    return []


def _reader(node: Any) -> Reader | None:
    kind = _kind(node)
    if kind == "Fields" and len(node.fields) == 1 and not _is_wildcard(node):
        return _field(node.fields[0])
    if kind == "Index":
        indices = _indices(node)
        if len(indices) != 1:
            return None
        at = indices[0]
        return lambda value: value[at] if isinstance(value, list) and -len(value) <= at < len(value) else _MISSING
    return _function(node)


def _indices(node: Any) -> tuple[int, ...]:
    return tuple(node.indices) if hasattr(node, "indices") else (node.index,)


def _is_wildcard(node: Any) -> bool:
    return tuple(node.fields) == ("*",) and not hasattr(node, "_deprecated_wildcard_use")


def _function(node: Any) -> Reader | None:
    """A back-tick function as a reader, or None where the node is none."""
    kind = _kind(node)
    if kind == "Split":
        return _split(node.chars, str(node.segment), int(node.max_split))
    if kind == "Sub":
        return _substitute(re.compile(node.expr), node.repl)
    if kind == "Len":
        return lambda value: len(value) if isinstance(value, (str, list, dict)) else _MISSING
    if kind == "Str":
        return str
    if kind == "This":
        return lambda value: value
    if kind == "SortedThis" and not node.expressions:
        return _sorted
    return None


def _split(chars: str, segment: str, max_split: int) -> Reader:
    at = None if segment == "*" else int(segment)

    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return _MISSING
        parts = value.split(chars, max_split)
        if at is None:
            return parts
        return parts[at] if -len(parts) <= at < len(parts) else _MISSING

    return split


def _substitute(regex: re.Pattern[str], replacement: str) -> Reader:
    def substitute(value: Any) -> Any:
        if not isinstance(value, str):
            return _MISSING
        changed = regex.sub(replacement, value)
        # A text that the regex leaves as it is has no value at all: a quirk on which definitions build conditions.
        return _MISSING if changed == value else changed

    return substitute


def _sorted(value: Any) -> Any:
    if not isinstance(value, (list, dict)):
        return value
    try:
        return sorted(value)
    except TypeError:
        return _MISSING


def _operand(item: Any, at_root: bool) -> Reader | None:
    if isinstance(item, (int, float, str)):
        return lambda value: item
    return _scalar(item, at_root=at_root)


def _arithmetic(symbol: str, left: Reader, right: Reader) -> Reader:
    def calculate(value: Any) -> Any:
        a, b = left(value), right(value)
        return _MISSING if a is _MISSING or b is _MISSING else _apply(symbol, a, b)

    return calculate


def _apply(symbol: str, left: Any, right: Any) -> Any:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        if symbol == "+":
            return left + right
        if symbol == "-":
            return left - right
        return left * right if symbol == "*" else left / right
    # Python would also repeat a text or a list (`*`): a way to make a message fill the memory, and never meant.
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    return _MISSING


# -- expressions with any number of values: functions from match to matches ------------------------------------------


def _below(path: str, step: str) -> str:
    return f"{path}.{step}" if path and path != "`this`" else step


def _find_steps(finders: list[Finder]) -> Finder:
    def find(match: Match) -> list[Match]:
        matches = [match]
        for finder in finders:
            matches = [found for each in matches for found in finder(each)]
            if not matches:
                break
        return matches

    return find


def _find_fields(names: tuple[str, ...]) -> Finder:
    def find(match: Match) -> list[Match]:
        value, path, _ = match
        found: list[Match] = []
        for name in names:
            if not path:
                inner = _root_field(value, name)
            elif isinstance(value, dict):
                inner = value.get(name, _MISSING)
            else:
                continue
            if inner is not _MISSING:
                found.append((inner, _below(path, name), match))
        return found

    return find


def _find_members(match: Match) -> list[Match]:
    value = _seen(match[0], match[1])
    if not isinstance(value, dict):
        return []
    return [(inner, _below(match[1], name), match) for name, inner in value.items()]


def _find_items(match: Match) -> list[Match]:
    value = match[0]
    if not isinstance(value, list):
        return [match]
    return [(inner, _below(match[1], f"[{at}]"), match) for at, inner in enumerate(value)]


def _find_slice(start: int | None, end: int | None, step: int | None) -> Finder:
    if start is None and end is None and step is None:
        return _find_items
    cut = slice(start, end, step)

    def find(match: Match) -> list[Match]:
        if isinstance(match[0], list):
            return [(match[0][at], _below(match[1], f"[{at}]"), match) for at in range(len(match[0]))[cut]]
        return [match] if [0][cut] else []

    return find


def _find_indices(indices: tuple[int, ...]) -> Finder:
    def find(match: Match) -> list[Match]:
        value = match[0]
        if not isinstance(value, list):
            return []
        size = len(value)
        return [(value[at], _below(match[1], f"[{at}]"), match) for at in indices if -size <= at < size]

    return find


def _find_root(match: Match) -> list[Match]:
    while match[2] is not None:
        match = match[2]
    return [match]


def _find_parent(match: Match) -> list[Match]:
    return [match[2]] if match[2] is not None else []


def _find_keys(match: Match) -> list[Match]:
    value = _seen(match[0], match[1])
    return [(name, "`keys`", None) for name in value] if isinstance(value, dict) else []


def _find_with(read: Reader) -> Finder:
    def find(match: Match) -> list[Match]:
        value = read(_seen(match[0], match[1]))
        return [] if value is _MISSING else [(value, "`this`", None)]

    return find


def _find_union(left: Finder, right: Finder) -> Finder:
    return lambda match: left(match) + right(match)


def _find_where(left: Finder, right: Finder, *, wanted: bool) -> Finder:
    return lambda match: [found for found in left(match) if bool(right(found)) is wanted]


def _find_descendants(left: Finder, right: Finder) -> Finder:
    def find(match: Match) -> list[Match]:
        found: list[Match] = []
        waiting = left(match)[::-1]
        looked_at = 0
        while waiting:
            looked_at += 1
            if looked_at > DESCENT_LIMIT:
                raise ValueError(f"a recursive descent looked at more than {DESCENT_LIMIT} values")
            each = waiting.pop()
            found += right(each)
            if isinstance(each[0], list):
                waiting += _find_items(each)[::-1]
            else:
                waiting += _find_members(each)[::-1]
        return found

    return find


def _find_arithmetic(symbol: str, left: Finder | float | str, right: Finder | float | str) -> Finder:
    def values(side: Finder | float | str, match: Match) -> list[Any] | None:
        return [found[0] for found in side(match)] if callable(side) else None

    def find(match: Match) -> list[Match]:
        lefts, rights = values(left, match), values(right, match)
        if lefts is None:
            lefts = [left] * len(rights if rights is not None else [None])
        if rights is None:
            rights = [right] * len(lefts)
        if len(lefts) != len(rights):
            return []
        results = [_apply(symbol, a, b) for a, b in zip(lefts, rights, strict=True)]
        return [] if any(each is _MISSING for each in results) else [(each, "`this`", None) for each in results]

    return find


def _find_filtered(tests: list[Callable[[Match], bool]]) -> Finder:
    def find(match: Match) -> list[Match]:
        if not isinstance(match[0], list):
            return []
        return [each for each in _find_items(match) if all(test(each) for test in tests)]

    return find


def _test(node: Any) -> Callable[[Match], bool]:
    """A filter's expression as a test of one item of the list."""
    kind = _kind(node)
    if kind in ("And", "Or"):
        tests = [_test(operand) for operand in node.operands]
        if kind == "And":
            return lambda match: all(test(match) for test in tests)
        return lambda match: any(test(match) for test in tests)
    if kind != "Expression":
        find = _finder(node)
        return lambda match: bool(find(match))
    read = _scalar(node.target, at_root=False)
    find = _finder(node.target) if read is None else _find_relative(read)
    if node.op is None:
        return lambda match: bool(find(match))
    if node.op == "!":
        return lambda match: not find(match)
    if _kind(node.value) in ("Child", "This", "Root"):
        other = _finder(node.value)
        return lambda match: any(
            _compare(node.op, each[0], against[0]) for each in find(match) for against in other(match)
        )
    if node.op == "=~":
        regex = re.compile(str(node.value))
        return lambda match: any(isinstance(each[0], str) and bool(regex.search(each[0])) for each in find(match))
    op, value = node.op, node.value
    if read is not None and isinstance(value, str):
        compare = _COMPARE[op]
        at = read

        def test_text(match: Match) -> bool:
            text = at(match[0])
            return isinstance(text, str) and compare(text, value)

        if op in ("=", "=="):
            return test_text
    return lambda match: any(_compare(op, each[0], value) for each in find(match))


def _find_relative(read: Reader) -> Finder:
    def find(match: Match) -> list[Match]:
        value = read(match[0])
        return [] if value is _MISSING else [(value, "`this`", match)]

    return find


def _compare(op: str, value: Any, literal: Any) -> bool:
    if isinstance(literal, (int, float)) and isinstance(value, str):
        # As in jsonpath-rw-ext, `[?size > 5]` finds the text "6" too.
        try:
            value = type(literal)(value) if not isinstance(literal, bool) else int(value)
        except ValueError:
            return False
    try:
        return bool(_COMPARE[op](value, literal))
    except TypeError:
        return False


def _from_root(node: Any) -> Finder:
    """As `_finder`, with the fields that lead from the notification to the first step of another kind read at once."""
    steps = _steps(node)
    if len(steps) > 1 and _kind(steps[0]) == "Root":
        steps = steps[1:]
    names: list[str] = []
    while steps and _kind(steps[0]) == "Fields" and len(steps[0].fields) == 1 and not _is_wildcard(steps[0]):
        names.append(str(steps.pop(0).fields[0]))
    if not names or not steps or not _is_root_field(names[0]):
        return _finder(node)
    read, path = _chain(names), ".".join(names)
    rest = _find_steps([_finder(step) for step in steps])

    def find(match: Match) -> list[Match]:
        value = read(match[0])
        return [] if value is _MISSING else rest((value, path, match))

    return find


def _finder(node: Any) -> Finder:
    """Any node as a function from match to matches.

    Raises:
        ExpressionError: the dialect has no such node.
    """
    kind = _kind(node)
    if kind == "Child":
        return _find_steps([_finder(step) for step in _steps(node)])
    if kind == "Fields":
        return _find_members if _is_wildcard(node) else _find_fields(tuple(node.fields))
    simple: dict[str, Finder] = {
        "Root": _find_root,
        "This": lambda match: [match],
        "Parent": _find_parent,
        "Wildcard": _find_members,
        "Keys": _find_keys,
    }
    if kind in simple:
        return simple[kind]
    if kind == "Slice":
        if node.step == 0:
            raise ExpressionError("a slice cannot have the step 0")
        return _find_slice(node.start, node.end, node.step)
    if kind == "Index":
        return _find_indices(_indices(node))
    if kind == "Filter":
        return _find_filtered([_test(expression) for expression in node.expressions])
    if kind == "Union":
        return _find_union(_finder(node.left), _finder(node.right))
    if kind in ("Where", "WhereNot"):
        return _find_where(_finder(node.left), _finder(node.right), wanted=kind == "Where")
    if kind == "Descendants":
        return _find_descendants(_finder(node.left), _finder(node.right))
    if kind == "Operation":
        sides = [side if isinstance(side, (int, float, str)) else _finder(side) for side in (node.left, node.right)]
        return _find_arithmetic(node.op_symbol, *sides)
    read = _function(node)
    if read is None:
        raise ExpressionError(f"'{node}' is not supported in definitions")
    return _find_with(read)
