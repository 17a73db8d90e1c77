"""The syntax of expressions, and how they treat values of unexpected types: each line was tested with Ceilometer 27."""

import pytest

from meterhouse.definitions.expressions import compile_expression
from meterhouse.definitions.jsonpath import JsonPathError, parse
from meterhouse.definitions.values import compile_value

MESSAGE = {
    "message_id": "m",
    "event_type": "x",
    "timestamp": "2026-01-01 00:00:00",
    "_context_user_id": "u",
    "_context_reply_q": "q",
    "payload": {
        "n": 5,
        "x": 1.5,
        "text": "a.b",
        "none": None,
        "yes": True,
        "list": [3, 1, 2],
        "mixed": [1, "a"],
        "items": [{"k": "a", "v": 1}, {"k": "b", "v": "2"}, {"k": None, "v": 2.9}],
        "deep": {"deeper": {"k": 1}, "k": [2]},
        "*": "star",
    },
}


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        ("a.b|c", "a.(b|c)"),
        ("a|b.c", "(a|b).c"),
        ("a..b.c", "a..(b.c)"),
        ("a|b[0]", "(a|b)[0]"),
        ("a.b[0]", "(a.b)[0]"),
        ("a * $.b + $.c", "a * ($.b + $.c)"),
        ("2 * 3 - $.a", "2 * (3 - $.a)"),
        ("$.a + $.b[0]", "$.a + ($.b[0])"),
        ("a.2 + $.b", "a.(2 + $.b)"),
        ("$.a + 1.b", "($.a + 1).b"),
        ("a where b|c", "(a where b)|c"),
        ("a.b,c", "a['b',\"c\"]"),
        ("[?]", "[?]"),
    ],
)
def test_operators_bind_in_the_documented_order(expression, same):
    if "?" in expression:
        with pytest.raises(JsonPathError):
            parse(expression)
    else:
        assert parse(expression) == parse(same)


@pytest.mark.parametrize(
    "text",
    [
        "a / b",
        "$.a / 2",
        "true",
        "a.true_one",
        "a.false",
        "a -1",
        "2",
        "2 * 3.5",
        "[?a]",
        "a[1:2:3]",
        "a[0,1]",
        "a[?b && c]",
        "a[?b || c]",
        "a[?!b]",
        "a[?b =~ c]",
        "a.`keys`",
        "a.`str()`",
        "a.`split(ab, 0, 1)`",
        "a.`split(.,0,1)`",
        "a.`sub(/x/,y)`",
        "a.`sub(/(/, y)`",
        "a.é",
        "a wherenot b",
        "'a",
        "a\rb",
        "(" * 5000 + "a" + ")" * 5000,
    ],
)
def test_invalid_expressions_are_rejected(text):
    with pytest.raises(JsonPathError):
        parse(text)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("payload.n + _", []),  # a single name beside an operator is a text
        ("$.payload.text + _", ["a.b_"]),
        ("a + b", ["ab"]),
        ("2 * 3 + 1", [8]),  # from the right
        ("$.payload.n - 1 - 1", [5]),
        ("$.payload.n * true", None),
        ("$.payload.yes + 1", [2]),
        ("$.payload.list + $.payload.mixed", [[3, 1, 2, 1, "a"]]),
        ("$.payload.list * 3", []),  # Ceilometer repeats it; see docs/ceilometer-differences.md
        ("$.payload.text * 3", []),
        ("$.payload.list[*] + $.payload.list[*]", [6, 2, 4]),
        ("$.payload.list[*] + $.payload.mixed[*]", []),
        ("payload.list.`sorted`", [[1, 2, 3]]),
        ("payload.deep.`sorted`", [["deeper", "k"]]),
        ("payload.list.`sorted`[0]", [1]),
        ("payload.items[\\k].v", None),
        ("payload.items[/v]", None),
        ("payload.items[?v].k", ["a", "b", None]),
        ("payload.items[?v = 2].k", ["b", None]),  # compared with an integer, all values are converted to integers
        ("payload.items[?v > 1 & k = b].v", ["2"]),
        ("payload.items[?k = true].v", []),  # as with 1: a text that is not a number is skipped
        ("payload.items[?k ~ 'a'].v", [1]),
        ("payload.items[?$.k = a].v", [1]),  # an item is the root of its condition
        ("payload.text[0]", ["a"]),
        ("payload.text[*]", ["a.b"]),
        ("payload.n[*]", [5]),
        ("payload.deep[0:1].k", [[2]]),
        ("payload.list[1:]", [1, 2]),
        ("payload.'*'.`len`", [3, 3, 2, 3, 2, 4]),  # quoted or not, a star is all members
        ("payload.deep..k", [[2], 1]),
        ("payload.deep.* where deeper", []),
        ("payload.* where deeper", [MESSAGE["payload"]["deep"]]),
        ("payload.n.`parent`.`parent`.`parent`", None),
        ("$.*.user_id", ["u"]),
        ("ctxt.reply_q", []),
        ("publisher_id", [None]),
        ("metadata.*", ["m", "2026-01-01 00:00:00"]),
        ("payload.none[*]", None),
        ("payload.none[0]", None),
        ("payload.deep[0]", None),
        ("payload.list[-4]", None),
        ("payload.n.`sub(/a/, b)`", None),
        ("payload.n.`sorted`", None),
        ("payload.mixed.`sorted`", None),
        ("payload.items[?v > a]", None),
        ("payload.mixed[?@ > 1.5]", None),
        ("payload & payload", None),
        ("`sorted`", None),
        ("(payload.n)|(payload.none[0])", None),  # the later branch fails, and so the whole expression
    ],
)
def test_an_expression_finds_values_or_fails(expression, expected):
    if expected is None:
        with pytest.raises(Exception, match=r".+"):
            compile_expression(expression).first(MESSAGE)
        return
    compiled = compile_expression(expression)
    assert compiled.all(MESSAGE) == expected
    assert compiled.first(MESSAGE) == next((value for value in expected if value is not None), None)


def test_paths_of_matches():
    for expression, paths in (
        ("$.payload.list[-1]", ["payload.list.[-1]"]),
        ("payload.n[*]", ["payload.n.[0]"]),
        ("(payload.n)|(payload.deep..k)", ["payload.n", "payload.deep.k", "payload.deep.deeper.k"]),
        ("payload.text.`split(., 0, 1)`", [""]),
        ("payload.list.`sorted`[0]", ["[0]"]),
        ("payload.items[?k=b].v.`parent`", ["payload.items.[1]"]),
    ):
        assert [path for path, _ in compile_expression(expression).matches(MESSAGE)] == paths


def plugin(name, fields="payload.n", **parameters):
    warn = []
    definition = {"fields": fields, "plugin": {"name": name, "parameters": parameters}}
    return compile_value(definition).first(MESSAGE, warn)


def test_parameters_of_plugins_are_used_as_they_are():
    assert plugin("split", "payload.text", segment=-1, unknown=1) == "b"
    assert plugin("split", "payload.text", separator=None) == "a.b"
    assert plugin("split", "payload.text", segment=7) is None
    for bad in ({"segment": "1"}, {"separator": ""}, {"max_split": "1"}, {"separator": 5}):
        with pytest.raises((TypeError, ValueError)):
            plugin("split", "payload.text", **bad)
    assert plugin("bitfield", flags=[{"path": "$.payload.n", "bit": 1}]) == 0
    assert plugin("bitfield", flags=[{"path": "payload.n", "bit": "2"}], unknown=1) == 4
    assert plugin("bitfield", initial_bitfield="as it is") == "as it is"
    assert plugin("map", "payload.text", values={"A.B": "ß", "x": 1}, case_sensitive=False) == "ß"
    assert plugin("map", "payload.yes", values={1: "one"}) == "one"
    with pytest.raises(TypeError):
        plugin("map", "payload.list", values={1: "one"})


def test_a_bit_that_is_too_large_is_rejected():
    with pytest.raises(ValueError, match="flags"):
        plugin("bitfield", flags=[{"path": "payload.n", "bit": 10**9}])


def test_fields_that_are_written_as_one_expression():
    for fields in (["payload.n"], ["payload.none", "payload.n"], [None, "payload.n"], "(payload.none)|(payload.n)"):
        assert compile_value(fields).first(MESSAGE, []) == 5
    assert compile_value([7]).first(MESSAGE, []) == 7
    assert compile_value({"fields": True}).first(MESSAGE, []) is True
