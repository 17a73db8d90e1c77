"""Expressions of pollsters: they compute what Python computes, execute nothing, and stay within their limits."""

import builtins
import json
import re
import string
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.polling.expressions import (
    ANSWER_STEPS,
    Expression,
    ExpressionError,
    compile_attribute,
    compile_expression,
    compile_text,
)
from meterhouse.polling.expressions.functions import FUNCTIONS

ENTRY: dict[str, Any] = {
    "id": "a1",
    "user": "p1$u1",
    "size": 3,
    "ratio": 2.5,
    "flavor": {"vcpus": 4, "ram": 2048},
    "image": None,
    "tags": ["x", "y", "x"],
    "links": [{"rel": "prev", "href": "http://a/1"}, {"rel": "next", "href": "http://a/2"}],
    "text": "[1, 2]",
}

# Of Ceilometer's documentation, and what its users write.
ATTRIBUTES = {
    "size": 3,
    "flavor.vcpus": 4,
    ". | value['flavor']['ram'] / 1024": 2.0,
    "size | value * 1000 | value ** 2": 9_000_000,
    "user | value.split('$')[0].strip()": "p1",
    "user | value.split ('$') | value[0] | value.strip()": "p1",
    "image | value or { 'id': '' } | value['id']": "",
    "tags | ','.join(value)": "x,y,x",
    "links | filter(lambda v: v.get('rel') == 'next', value) | list(value) | value[0] | value.get('href')": "http://a/2",
    "links | next((v['href'] for v in value if v['rel'] == 'next'), None)": "http://a/2",
    "links | next((v['href'] for v in value if v['rel'] == 'last'), None)": None,
    ". | len(value['tags']) if 'tags' in value else 0": 3,
    "tags | sorted(set(value), reverse=True)": ["y", "x"],
    "tags | {t: value.count(t) for t in value}": {"x": 2, "y": 1},
    "links | [v['href'] for v in value][::-1]": ["http://a/2", "http://a/1"],
    "text | json.loads(value) | sum(value)": 3,
    "user | re.sub('[$].*', '', value)": "p1",
    "user | re.match('p([0-9]+)', value).group(1) | int(value)": 1,
    "ratio | f'{value:.2f}'": "2.50",
    "ratio | '%5.1f%%' % value": "  2.5%",
    "ratio | '{} of {n}'.format(value, n=3)": "2.5 of 3",
    ". | value if isinstance(value, list) else [value] | len(value)": 1,
    ". | max(value['links'], key=lambda v: v['href'])['rel']": "next",
    ". | dict(zip(['a', 'b'], map(str, range(2)))) if value else {}": {"a": "0", "b": "1"},
    "tags | [f'{i}{t}' for i, t in enumerate(value)]": ["0x", "1y", "2x"],
}


@pytest.mark.parametrize(("text", "value"), ATTRIBUTES.items())
def test_an_attribute_is_a_path_and_operations(text: str, value: object) -> None:
    assert compile_attribute(text)(ENTRY) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("__import__('os').system('true') or value", "no method 'system'"),
        ("open('/etc/passwd').read() + value", "no method 'read'"),
        ("eval('1') + value", "no variable or function 'eval'"),
        ("value.__class__", "an attribute that is not called"),
        ("value.__class__.__mro__()", "no method '__mro__'"),
        ("value.__getattribute__('x')", "no method '__getattribute__'"),
        ("value.format_map(value)", "no method 'format_map'"),
        ("value.pop('id')", "no method 'pop'"),
        ("(lambda *a: a)(value)", "plain parameters"),
        ("[*value]", "* cannot be used"),
        ("str(*value)", "* and ** cannot be used"),
        ("(x := value)", ":= cannot be used"),
        ("value if", "is not an expression"),
        ("b'x' + value", "type bytes"),
        ("1j * value", "type complex"),
        ("5", "does not use the variable value"),
        ("value" + "+1" * 100, "nested at most"),
        ("value" + "+1" * 1_000, "at most 1,000 parts"),
        ("(" * 1_000 + "value" + ")" * 1_000, "is not an expression|cannot be read"),
        ("value" + " " * 5_000 + "+ 1", "4,096 characters"),
        ("json.dump(value)", "no method 'dump'"),
        ("os.remove(value)", "no method 'remove'"),
    ],
)
def test_what_is_not_in_the_subset_is_refused_when_it_is_compiled(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(reason) if "|" not in reason else reason):
        compile_attribute(f". | {text}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("missing", "there is no 'missing'"),
        ("flavor.missing", "there is no 'flavor.missing'"),
        ("size.deeper", "there is no 'size.deeper'"),
        ("flavor | value['gone']", "there is no 'gone'"),
        ("size | value / 0", "division by zero"),
        ("size | value.strip()", "a value of type int has no method 'strip'"),
        ("tags | value[7]", "out of range"),
        ("image | value + 1", "unsupported operand"),
        ("size | (lambda: value)", "the result is a function"),
        ("size | [str, value]", "has a function"),
        ("user | re.match('p', value)", "the result is a function or a match"),
        ("tags | next(iter(value), value)(value)", "not a function"),
        ("user | '{0.__class__}'.format(value)", "a number or a name"),
        ("user | '{:{}}'.format(value, 9)", "no fields in it"),
        ("size | (-value) ** 0.5", "not a number"),
        ("size | (lambda f: f(f))(lambda f: f(f) + value)", "100 levels deep"),
    ],
)
def test_an_expression_without_a_value_says_why(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(reason)):
        compile_attribute(text)(ENTRY)


BOMBS = [
    "'a' * 10 ** 10",
    "[0] * 10 ** 9",
    "9 ** 9 ** 9 ** 9",
    "2 ** 10 ** 9",
    "1 << 10 ** 10",
    "(10 ** 4000) * (10 ** 4000)",
    "int('9' * 4300) ** 3",
    "int('f' * 10 ** 6, 16)",
    "round(5, -10 ** 9)",
    "sum(range(10 ** 12))",
    "list(range(10 ** 9))",
    "[x for a in range(10 ** 4) for b in range(10 ** 4) for x in (a, b)]",
    "f'{1:1000000000}'",
    "'%1000000000d' % 1",
    "'%.1000000000f' % 1",
    "'%*d' % (10 ** 9, 1)",
    "'%(a(b)c)1000000000d' % {'a(b)c': 1}",
    "'{:1000000000}'.format(1)",
    "format(1, '>1000000000')",
    "'a'.ljust(10 ** 10)",
    "'a'.zfill(10 ** 10)",
    "('a' * 9 ** 5).replace('a', 'b' * 9 ** 5)",
    "('a' * 9 ** 5).join(['b'] * 9 ** 5)",
    "str([['a' * 9 ** 5] * 1000] * 1000)",
    "(lambda a: (lambda b: (lambda c: (lambda d: str([d] * 99))([c] * 99))([b] * 99))([a] * 99))([1] * 99)",
    "(lambda a: (lambda b: (lambda c: (lambda d: [d] * 999)([c] * 999))([b] * 999))([a] * 999))([1] * 999)",
    "(lambda a: (lambda b: (lambda c: [c] * 99 == [c] * 98)([b] * 99))([a] * 99))([[1] * 99] * 99)",
    "{x * (2 ** 61 - 1) for x in range(50000)}",
    "{x * (2 ** 61 - 1): 1 for x in range(50000)}",
    "dict([(x * (2 ** 61 - 1), 1) for x in range(20000)])",
    "sum([[1] * 1000] * 10000, [])",
    "sorted([[1] * 10000] * 9, key=lambda v: [v] * 1000)",
    "re.sub('(a*)*b', 'x', 'a' * 10000)",
    "re.match('(a|b|ab)*(a|b|ab)*(a|b|ab)*c', 'ab' * 1000)",
    "any(x == 'b' * 9 ** 5 for x in ['a' * 9 ** 5] * 9 ** 5)",
    "(lambda f: f(f))(lambda f: [f(f), f(f)])",
    "max(range(10 ** 10))",
    "'a' in range(10 ** 10)",
    "json.loads('[' * 100000)",
    "json.dumps([['a' * 9 ** 5] * 1000] * 1000)",
]


@pytest.mark.parametrize("text", BOMBS)
def test_what_would_run_long_or_need_much_memory_is_stopped(text: str) -> None:
    expression = compile_expression(text, (), 20_000)
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError):
            expression({})
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_an_expression_on_a_whole_answer_has_more_steps() -> None:
    answer = {"servers": [{"id": str(at), "status": "ACTIVE" if at % 2 else "ERROR"} for at in range(20_000)]}
    text = ". | [each for each in value['servers'] if each['status'] == 'ACTIVE']"
    assert len(compile_attribute(text, ANSWER_STEPS)(answer)) == 10_000
    with pytest.raises(ExpressionError, match="more than 100,000 steps"):
        compile_attribute(text)(answer)


def test_a_text_is_an_expression_if_it_has_a_variable_or_quotes() -> None:
    names = {"sample", "region"}
    values = {"sample": {"project_id": "p1"}, "region": "north"}
    for text, expected in {
        "v2/servers/detail": "v2/servers/detail",
        "list": "list",
        "str(5)": "str(5)",
        "v1/a?x=1&y=[2]": "v1/a?x=1&y=[2]",
        "'/v3/projects/' + str(sample['project_id'])": "/v3/projects/p1",
        "f'{region}/servers'": "north/servers",
        "region": "north",
        "'plain'": "plain",
        "'v3/' + other['id']": "'v3/' + other['id']",
        "aws s3api list-objects": "aws s3api list-objects",
        "x" * 10_000: "x" * 10_000,
    }.items():
        assert compile_text(text, names)(values) == expected
    with pytest.raises(ExpressionError, match="no method 'system'"):
        compile_text("region.system('true')", names)
    with pytest.raises(ExpressionError, match="gives a dict"):
        compile_text("sample", names)(values)
    with pytest.raises(ExpressionError, match="there is no 'id'"):
        compile_text("'x' + sample['id']", names)(values)


# -- against Python -----------------------------------------------------------------------------------------

_AUDITED: list[str] = []
_WATCHING = False
_HARMLESS = ("compile", "builtins.id", "object.__getattr__")  # the parser's, the budget's, Hypothesis's


@cache
def _add_audit() -> None:
    """A hook cannot be removed, so it is added once."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCHING and event not in _HARMLESS:
        _AUDITED.append(event)


@contextmanager
def nothing_executed() -> Iterator[None]:
    """Nothing is opened, imported, started or connected meanwhile: Python tells its hooks of each."""
    global _WATCHING
    _add_audit()
    _AUDITED.clear()
    _WATCHING = True
    try:
        yield
    finally:
        _WATCHING = False
    assert not _AUDITED


_ATOMS = st.sampled_from(
    [
        *("value", "value['size']", "value['tags']", "value['user']", "value['flavor']", "value['links']", "0", "1"),
        *("-2", "2.5", "'$'", "'a b'", "None", "True", "[]", "[1, 2]", "{'a': 1}", "()", "(3, 'x')", "{1, 2}"),
    ]
)
_NAMED = sorted({*FUNCTIONS, "json.loads", "json.dumps", "re.sub", "re.findall", "re.split"} - {"iter", "reversed"})
_METHODS = ["strip", "split", "get", "items", "keys", "join", "replace", "count", "index", "upper", "format", "zfill"]
_OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "^", "|", "==", "!=", "<", ">=", "in", "not in"]


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    few = st.lists(inner, max_size=3).map(", ".join)
    return st.one_of(
        st.tuples(inner, st.sampled_from([*_OPERATORS, "and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(_NAMED), few).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(inner, st.sampled_from(_METHODS), few).map(lambda t: f"({t[0]}).{t[1]}({t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]})[{t[1]}]"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]})[{t[1]}:{t[2]}]"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"[({t[0]}, x) for x in {t[1]}]"),
        st.tuples(inner, inner).map(lambda t: f"sorted({t[1]}, key=lambda x: {t[0]})"),
        st.tuples(inner, inner).map(lambda t: f"list(filter(lambda x: x == {t[0]}, {t[1]}))"),
        st.tuples(inner, st.sampled_from(["", ">9", ".2f", "05d"])).map(lambda t: 'f"{' + t[0] + ":" + t[1] + '}"'),
        few.map(lambda t: f"[{t}]"),
        inner.map(lambda t: f"-{t}"),
    )


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # Python's parser warns of what cannot work
@settings(max_examples=300, deadline=None)
@given(st.recursive(_ATOMS, _larger, max_leaves=8))
def test_what_an_expression_computes_is_what_python_computes(text: str) -> None:
    before = json.dumps(ENTRY)
    with nothing_executed():
        try:
            expression = compile_expression(text, ("value",))
            ours = expression({"value": ENTRY})
        except ExpressionError:
            return
    allowed = {name: getattr(builtins, name) for name in FUNCTIONS}
    pythons = eval(text, {"__builtins__": allowed, "json": json, "re": re, "value": ENTRY})
    if not isinstance(pythons, str | int | float | list | tuple | dict | set | type(None)):
        pythons = list(pythons)  # an iterator is returned as a list
    assert ours == pythons or ours != ours
    assert type(ours) is type(pythons)
    assert json.dumps(ENTRY) == before


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(string.printable, max_size=60)))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    with nothing_executed():
        for compile_it in (compile_attribute, lambda text: compile_text(text, ("sample",))):
            try:
                made = compile_it(text)
                made(ENTRY if compile_it is compile_attribute else {"sample": ENTRY})
            except ExpressionError:
                pass


def test_expressions_are_evaluated_by_threads_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    expression: Expression = compile_expression("sum(x * k for x in range(200))", ("k",))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda k: expression({"k": k}), range(200))) == [19_900 * k for k in range(200)]
