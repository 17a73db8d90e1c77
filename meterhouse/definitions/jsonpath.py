"""The syntax of JSONPath expressions in definition files: from a text to a tree.

The dialect is that of `jsonpath-rw-ext` 1.2, which Ceilometer reads its definitions with. Ambiguous expressions are
read as that grammar reads them:

- `|` binds more tightly than `.`: `a.b|c` is `a.(b|c)`; `&` and `where` bind still more tightly, in this order;
- `.` binds more tightly than `..`, and both bind more tightly than brackets that follow: `a|b[0]` is `(a|b)[0]`;
- `+`, `-` and `*` bind most loosely, all with the same precedence, from the right: `a * b - c` is `a * (b - c)`;
- `/` is not a division: it starts a sort key;
- `true` and `false` are not names, and a name may not start with them;
- a single name beside an operator is a text, not a field: `$.payload.host + _`.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from meterhouse.definitions.patterns import compile_pattern


class JsonPathError(ValueError):
    """A text that is not an expression of the dialect."""


@dataclass(frozen=True, slots=True)
class Root:
    """`$`, the root of the current value."""


@dataclass(frozen=True, slots=True)
class This:
    """`@`, the current value."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The holder of the current value."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Members of a mapping; a `*` among the names stands for all of them."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`[1]`."""

    at: int


@dataclass(frozen=True, slots=True)
class Slice:
    """`[1:2]`, or `[*]`, which has neither start nor end."""

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Test:
    """One condition of a filter; without an operator, it holds if there is a value."""

    target: "Node"
    op: str | None
    literal: "str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Filter:
    """`[?a = 1 & b]`: the items of a list that meet all conditions."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Sorted:
    r"""`` `sorted` ``, or `[/a \b]`: sorted by these keys, each with whether its order is descending."""

    keys: tuple[tuple["Node", bool], ...]


@dataclass(frozen=True, slots=True)
class Len:
    """`` `len` ``."""


@dataclass(frozen=True, slots=True)
class Split:
    """`` `split(char, segment, max_split)` ``."""

    char: str
    segment: int
    limit: int


@dataclass(frozen=True, slots=True)
class Sub:
    """`` `sub(/regex/, replacement)` ``."""

    regex: re.Pattern[str]
    replacement: str


@dataclass(frozen=True, slots=True)
class Child:
    """`a.b`."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Descendants:
    """`a..b`."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Where:
    """`a where b`."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Union:
    """`a|b`."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Intersect:
    """`a & b`, which is in the grammar but is not evaluated."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Operation:
    """`a * b`; an operand is a path, a number or a text."""

    left: "Node | int | float | str"
    op: str
    right: "Node | int | float | str"


Node = (
    Root
    | This
    | Parent
    | Fields
    | Index
    | Slice
    | Filter
    | Sorted
    | Len
    | Split
    | Sub
    | Child
    | Descendants
    | Where
    | Union
    | Intersect
    | Operation
)


class _Token(NamedTuple):
    kind: str
    value: str | int | float | bool
    at: int


# In the order in which the dialect tries them. A character that matches none is an error.
_TOKENS: Final = re.compile(
    r"""(?P<bool>true|false)
    |(?P<sort>,?\s*[/\\])
    |(?P<id>@?[a-zA-Z_][a-zA-Z0-9_@\-]*)
    |(?P<float>-?\d+\.\d+)
    |(?P<number>-?\d+)
    |'(?P<single>(?:[^'\\]|\\.)*)'
    |"(?P<double>(?:[^"\\]|\\.)*)"
    |`(?P<function>(?:[^`\\]|\\.)*)`
    |(?P<space>[ \t\n]+)
    |(?P<compare>==?|<=|>=|!=|<|>|~)
    |(?P<symbol>\.\.|[*.\[\]()$,:|&?@+\-])""",
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(.)")
_SUB: Final = re.compile(r"sub\(/(.*)/,\s+(.*)\)")
_SPLIT: Final = re.compile(r"split\((.),\s+(\d+),\s+(\d+|-1)\)")
_LEVELS: Final = {"..": 4, ".": 5, "|": 6, "&": 7, "where": 8}
_BRACKETS: Final = 3  # above arithmetic, below every other operator
_ARITHMETIC: Final = frozenset("+-*")
_BINARY: Final[dict[str, type[Child | Descendants | Where | Union | Intersect]]] = {
    ".": Child,
    "..": Descendants,
    "where": Where,
    "|": Union,
    "&": Intersect,
}
_END: Final = _Token("end", "", -1)


def parse(text: str) -> Node:
    """Parse an expression.

    Raises:
        JsonPathError: the text is not an expression.
    """
    try:
        parser = _Parser(text)
        tree = parser.path(0)
        parser.take("end")
    except RecursionError:
        raise JsonPathError(f"'{text[:60]}…' is nested too deeply") from None
    return tree


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        found = _TOKENS.match(text, at)
        if found is None:
            raise JsonPathError(f"'{text}' is not a JSONPath: unexpected {text[at]!r} at {at}")
        kind, value = str(found.lastgroup), found[str(found.lastgroup)]
        if kind in ("single", "double"):
            tokens.append(_Token("id", _ESCAPE.sub(r"\1", value), at))
        elif kind == "function":
            tokens.append(_Token(kind, _ESCAPE.sub(r"\1", value), at))
        elif kind == "id" and value == "where":
            tokens.append(_Token("symbol", value, at))
        elif kind == "sort":
            tokens.append(_Token(kind, value[-1], at))
        elif kind == "bool":
            tokens.append(_Token(kind, value == "true", at))
        elif kind in ("number", "float"):
            tokens.append(_Token(kind, int(value) if kind == "number" else float(value), at))
        elif kind != "space":
            tokens.append(_Token(kind, value, at))
        at = found.end()
    return tokens


class _Parser:
    """Reads the tokens once, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0

    def take(self, kind: str, value: str | None = None) -> _Token:
        """Take the next token, which has to be of this kind and value."""
        token = self._peek()
        if token.kind != kind or (value is not None and token.value != value):
            raise self._unexpected()
        self._next += 1
        return token

    def path(self, level: int) -> Node:
        """Read a path, up to the first operator that does not bind more tightly than the level."""
        token = self._peek()
        if token.kind in ("number", "float"):
            self._next += 1
            return self._more(self._operation(token.value, token.kind), level)
        return self._more(self._first(), level)

    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else _END

    def _is(self, *symbols: str) -> bool:
        token = self._peek()
        return token.kind == "symbol" and token.value in symbols

    def _unexpected(self) -> JsonPathError:
        token = self._peek()
        what = "end" if token is _END else f"{token.value!r} at {token.at}"
        return JsonPathError(f"'{self._text}' is not a JSONPath: unexpected {what}")

    def _first(self) -> Node:
        token = self._peek()
        if token.kind == "id":
            return Fields(self._names())
        self._next += 1
        if token.kind == "function":
            return self._function(str(token.value))
        if token.kind == "symbol":
            if token.value == "*":
                return Fields(("*",))
            if token.value == "$":
                return Root()
            if token.value == "@":
                return This()
            if token.value == "(":
                inner = self.path(0)
                self.take("symbol", ")")
                return inner
            if token.value == "[":
                inner = self._selected()
                self.take("symbol", "]")
                return inner
        self._next -= 1
        raise self._unexpected()

    def _more(self, left: Node, level: int) -> Node:
        """Read what follows a path and binds more tightly than the level."""
        while True:
            token = self._peek()
            if token.kind != "symbol":
                return left
            symbol = str(token.value)
            if symbol in _LEVELS and _LEVELS[symbol] > level:
                self._next += 1
                left = _BINARY[symbol](left, self.path(_LEVELS[symbol]))
            elif symbol == "[" and level < _BRACKETS:
                self._next += 1
                left = Child(left, self._filter_or_sorted() or self._selected())
                self.take("symbol", "]")
            elif symbol in _ARITHMETIC and level == 0:
                left = self._operation(left, "path")
            else:
                return left

    def _operation(self, left: "Node | int | float | str", kind: str) -> Operation:
        """Read the rest of an operation after its left operand. A number has to be followed by an operator."""
        if not self._is(*_ARITHMETIC):
            raise self._unexpected()
        op = str(self.take("symbol").value)
        token = self._peek()
        right: Node | int | float | str
        if token.kind in ("number", "float"):
            self._next += 1
            if self._is(*_ARITHMETIC):
                right = self._more(self._operation(token.value, token.kind), 0)
            elif kind in ("path", token.kind):
                right = token.value
            else:
                self._next -= 1
                raise self._unexpected()
        else:
            right = self.path(0)
        return Operation(_operand(left), op, _operand(right))

    def _names(self) -> tuple[str, ...]:
        names = [str(self.take("id").value)]
        while self._is(","):
            self._next += 1
            names.append(str(self.take("id").value))
        return tuple(names)

    def _function(self, text: str) -> Node:
        if text == "this":
            return This()
        if text == "parent":
            return Parent()
        if text == "len":
            return Len()
        if text == "sorted":
            return Sorted(())
        if text.startswith("split("):
            found = _SPLIT.match(text)
            if found:
                return Split(found[1], int(found[2]), int(found[3]))
        elif text.startswith("sub("):
            found = _SUB.match(text)
            if found:
                try:
                    return Sub(compile_pattern(found[1].strip()), found[2].strip())
                except ValueError as error:
                    raise JsonPathError(f"'{self._text}' cannot be used: {error}") from None
        raise JsonPathError(f"'{self._text}' is not a JSONPath: unknown function `{text}`")

    def _selected(self) -> Node:
        """Read brackets that need no path before them: an index, a slice, or names."""
        token = self._peek()
        if token.kind == "id":
            return Fields(self._names())
        if self._is("*"):
            self._next += 1
            return Slice(None, None)
        start = self._number()
        if start is not None and not self._is(":"):
            return Index(start)
        self.take("symbol", ":")
        return Slice(start, self._number())

    def _number(self) -> int | None:
        token = self._peek()
        if token.kind != "number":
            return None
        self._next += 1
        return int(token.value)

    def _filter_or_sorted(self) -> Filter | Sorted | None:
        if self._is("?"):
            self._next += 1
            return Filter(tuple(self._tests()))
        keys: list[tuple[Node, bool]] = []
        while self._peek().kind == "sort":
            descending = self.take("sort").value == "\\"
            keys.append((self.path(0), descending))
        return Sorted(tuple(keys)) if keys else None

    def _tests(self) -> list[Test]:
        tests = self._test()
        while self._is("&"):
            self._next += 1
            tests += self._test()
        return tests

    def _test(self) -> list[Test]:
        if not self._is("("):
            return [self._compared(self.path(0))]
        self._next += 1
        inner = self._tests()
        self.take("symbol", ")")
        if len(inner) == 1 and inner[0].op is None:
            # The brackets only enclosed a path, which may continue.
            return [self._compared(self._more(inner[0].target, 0))]
        return inner

    def _compared(self, target: Node) -> Test:
        if self._peek().kind != "compare":
            return Test(target, None, None)
        op = str(self.take("compare").value)
        token = self._peek()
        if token.kind not in ("id", "float", "number", "bool"):
            raise self._unexpected()
        self._next += 1
        return Test(target, op, token.value)


def _operand(item: "Node | int | float | str") -> "Node | int | float | str":
    return item.names[0] if isinstance(item, Fields) and len(item.names) == 1 else item
