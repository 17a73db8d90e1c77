"""Random conditions on random rows, what they mean in plain Python, and how they are written as text and as JSON."""

import json
import operator
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from meterhouse import times
from meterhouse.filters import And, Condition, Field, Fields, Filter, Match, Not, OneOf, Or
from meterhouse.filters.conditions import MAX_DEPTH, NUMBER

FIELDS: Fields = {
    "resource": Field("resource_id"),
    "project": Field("project_id"),
    "seen": Field("seen", "time"),
    "metadata.": Field("metadata", "loose"),
}
KEYS = ("a", "b", "a.b", "tags.0", "tags.1", "tags.01", "tags.-1", "0.0", "it's", "odd key", "x/y", "x~y", "snow☃")
MOMENT = datetime(2026, 11, 10, 12, tzinfo=UTC)

TEXTS = st.sampled_from(
    [
        *("", "a", "A", "aa", "ab", "b", "Z", "z", "é", "É", "\uffff", "\U0001f600", " ", "a b", "x\ny", "\t", "5\n"),
        *("10", "9", "9.0", "1e1", "1e+1", "007", "+5", "-0", "0.1", "true", "null", "nan", "inf", "5" * 16),
        *("%", "_", "?", "'", '"', "''", "\\", "a\\", "; --", ":x", "[1]", "(", "and", "in"),
    ]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)

_JSON = st.recursive(
    TEXTS | st.booleans() | st.none() | st.integers(-20, 20) | st.sampled_from([9.0, 0.1, 1e22, 2**70]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", "01", "-1", "tags"]), inner)
    ),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {
        "resource_id": st.none() | TEXTS,
        "project_id": st.none() | TEXTS,
        "seen": st.none() | st.integers(0, 3).map(lambda n: MOMENT + timedelta(hours=n)),
        "metadata": st.none() | st.dictionaries(st.sampled_from([*KEYS, "tags", "0", "x"]), _JSON, max_size=6),
    }
)
"""A row; its metadata is an object."""

# -- conditions -----------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["resource", "project", *(f"metadata.{key}" for key in KEYS)])
_PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "é", "☃", ".", r"\.", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\n", " ", "]", "}"])
    | st.sampled_from(["[a-z]", "[^a]", r"[\d_]", r"[^\s]", "[-a]", "[a-]", r"[\]\\^]", "[☃-\U0001f600]", "[~&|]"]),
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{0}", "{2}", "{1,}", "{0,2}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        )
    ),
    max_leaves=5,
)
PATTERNS = st.tuples(st.sampled_from(["", "^"]), _PATTERNS, st.sampled_from(["", "$"])).map("".join)
_LEAVES = st.one_of(
    st.builds(lambda name, op, value: Filter(name, op, value, FIELDS), _NAMES, st.sampled_from(["eq", "ne"]), TEXTS),
    st.builds(
        lambda name, op, value: Filter(name, op, value, FIELDS),
        _NAMES,
        st.sampled_from(["lt", "le", "gt", "ge"]),
        TEXTS,
    ),
    st.builds(
        lambda op, hours: Filter("seen", op, times.text(MOMENT + timedelta(hours=hours)), FIELDS),
        st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]),
        st.integers(0, 3),
    ),
    st.builds(lambda name, among: OneOf(name, tuple(among), FIELDS), _NAMES, st.lists(TEXTS, min_size=1, max_size=4)),
    st.builds(lambda name, pattern, found: Match(name, pattern, found, FIELDS), _NAMES, PATTERNS, st.booleans()),
)


def _joined(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    parts = st.lists(inner, min_size=2, max_size=4).map(tuple)
    return st.builds(And, parts) | st.builds(Or, parts) | st.builds(Not, inner)


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(_LEAVES, _joined, max_leaves=8).filter(
    lambda condition: condition.size.depth <= MAX_DEPTH // 3
)

# -- what they mean -------------------------------------------------------------------------------------------


def holds(condition: Condition, row: dict[str, Any]) -> bool:
    """Whether a row meets a condition."""
    match condition:
        case And(parts):
            return all(holds(part, row) for part in parts)
        case Or(parts):
            return any(holds(part, row) for part in parts)
        case Not(part):
            return not holds(part, row)
    target = condition.target
    value = _text_of(row["metadata"], target.key) if target.key else row[target.column]
    if value is None:
        return False
    match condition:
        case Filter(op=op, operand=operand):
            return _compare(op, value, operand, target.type)
        case OneOf(operands=operands):
            return any(_compare("eq", value, each, target.type) for each in operands)
        case Match(pattern=pattern, found=found):
            end = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
            return bool(re.search(end, value, re.DOTALL | re.ASCII)) == found


def _compare(op: str, value: Any, operand: Any, type: str) -> bool:
    if type == "loose" and re.fullmatch(NUMBER.strip("^$"), operand):
        if not re.fullmatch(NUMBER.strip("^$"), value):
            return op == "ne"
        value, operand = float(value), float(operand)
    return bool(getattr(operator, op)(value, operand))


def _text_of(metadata: Any, key: str) -> str | None:
    whole = _text(metadata.get(key)) if metadata is not None else None
    if whole is not None or metadata is None:
        return whole
    # A step into a list is a position; of two ways into an object there is only one.
    found = metadata
    for step in key.split("."):
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and re.fullmatch("0|[1-9][0-9]*", step) and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return _text(found)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else canonical(value)


def canonical(value: Any) -> str:
    """JSON as the warehouse stores metadata: without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


# -- how they are written -------------------------------------------------------------------------------------

_SIGNS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def as_text(condition: Condition) -> str:
    """The condition as a text, with all parentheses."""
    match condition:
        case And(parts):
            return f"({' and '.join(map(as_text, parts))})"
        case Or(parts):
            return f"({' OR '.join(map(as_text, parts))})"
        case Not(part):
            return f"not {as_text(part)}"
        case Filter(field, op, value):
            return f"{_name(field)} {_SIGNS[op]} {_quoted(value)}"
        case OneOf(field, among):
            return f"{_name(field)} in ({', '.join(map(_quoted, among))})"
        case Match(field, pattern, found):
            return f"{_name(field)}{'=~' if found else '!~'}{_quoted(pattern)}"


def _name(field: str) -> str:
    prefix, dot, key = field.partition(".")
    return f"{prefix}{dot}{_quoted(key)}" if key else field


def _quoted(text: str) -> str:
    quote = "'" if '"' in text else '"'
    return quote + text.replace(quote, quote * 2) + quote


def as_json(condition: Condition) -> dict[str, Any]:
    """The condition as Ceilometer's complex queries have it."""
    match condition:
        case And(parts):
            return {"and": [as_json(part) for part in parts]}
        case Or(parts):
            return {"OR": [as_json(part) for part in parts]}
        case Not(part):
            return {"not": as_json(part)}
        case Filter(field, op, value):
            return {_SIGNS[op]: {field: value}}
        case OneOf(field, among):
            return {"in": {field: list(among)}}
        case Match(field, pattern, found):
            return {"=~" if found else "!~": {field: pattern}}
