import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.definitions import expressions
from meterhouse.definitions.expressions import ExpressionError, compile_expression
from meterhouse.definitions.values import compile_value

MESSAGE = {
    "message_id": "m-1",
    "event_type": "compute.metrics.update",
    "publisher_id": "compute.host-1.example",
    "priority": "INFO",
    "timestamp": "2026-01-01 00:00:00",
    "_context_user_id": "u",
    "_context_tenant": "t",
    "payload": {
        "host": "h",
        "nodename": "n",
        "empty": None,
        "outcome": "success",
        "created_at": "2026-01-01 00:00:00",
        "launched_at": "2026-01-01T00:00:52Z",
        "size": 3,
        "image_meta": {"org.openstack__1__os_distro": "debian"},
        "metrics": [
            {"name": "cpu.percent", "value": 0.25, "size": 1},
            {"name": "cpu.frequency", "value": 1600, "size": "7"},
            {"name": "none", "value": None},
        ],
        "measurements": [
            {"metric": {"name": "in", "unit": "B"}, "result": 28},
            {"metric": {"name": "out", "unit": "B"}, "result": 1},
        ],
    },
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("payload.host", ["h"]),
        ("$.payload.host", ["h"]),
        ("$.payload.host.deeper", []),
        ("payload.empty", [None]),
        ("payload.'image_meta'.'org.openstack__1__os_distro'", ["debian"]),
        ("ctxt.user_id", ["u"]),
        ("$.ctxt.tenant", ["t"]),
        ("metadata.message_id", ["m-1"]),
        ("publisher_id", ["compute.host-1.example"]),
        ("message_id", []),  # not a name that Ceilometer shows
        ("volume.size", []),  # the name of a meter is an expression too, which finds nothing
        ("payload.metrics[0].name", ["cpu.percent"]),
        ("payload.metrics[-1].name", ["none"]),
        ("payload.metrics[9].name", []),
        ("payload.host[0]", ["h"]),
        ("payload.host[1]", []),
        ("payload.metrics[1:].name", ["cpu.frequency", "none"]),
        ("payload.metrics[*].value", [0.25, 1600, None]),
        ("payload.metrics.[*].value", [0.25, 1600, None]),
        ("payload.measurements.[*].metric.[*].name", ["in", "out"]),  # `[*]` of a value that is not a list is the value
        ("payload.image_meta.*", ["debian"]),
        ("payload.metrics.*", []),
        ("payload.metrics[?(@.name='cpu.percent')].value * 100", [25.0]),
        ("payload.metrics[?name=none].name", ["none"]),
        ("payload.metrics[?size > 5].name", ["cpu.frequency"]),
        ("payload.metrics[?value].name", ["cpu.percent", "cpu.frequency", "none"]),
        ("payload.host[?x=1]", []),
        ("payload['host','nodename']", ["h", "n"]),
        ('$.payload.host + "_" + $.payload.nodename', ["h_n"]),
        ('"node-" + $.payload.host', ["node-h"]),
        ("$.payload.host + $.payload.size", []),
        ("$.payload.size + 1", [4]),
        ("$.payload.size - $.payload.size", [0]),
        ("$.payload.host * 1000000000", []),  # never a text of a gigabyte
        ("$.payload.metrics[*].value * 2", []),  # one null spoils it
        ("payload.(nope|host)", ["h"]),
        ("(payload.nope)|(payload.host)", ["h"]),
        ("publisher_id.`split(., 1, 1)`", ["host-1.example"]),
        ("publisher_id.`split(., 0, -1)`", ["compute"]),
        ("publisher_id.`split(., 9, -1)`", []),
        ("payload.size.`split(., 0, -1)`", []),
        ("payload.host.`sub(/h/, host)`", ["host"]),
        ("payload.host.`sub(/x/, host)`", []),  # a text that is not changed has no value
        ("$.payload.outcome.`sub(/.*/, )` + 'auth.' + $.payload.outcome", ["auth.success"]),
        ("payload.metrics.`len`", [3]),
        ("payload.size.`len`", []),
        ("payload.metrics[0].name.`parent`.value", [0.25]),
        ("payload.image_meta.`sorted`", [["org.openstack__1__os_distro"]]),
        ("payload..unit", ["B", "B"]),
        ("$..user_id", ["u"]),
        ("ctxt", [{"user_id": "u", "tenant": "t", "client_timeout": None}]),
        ("ctxt.client_timeout", [None]),
        ("priority", []),
    ],
)
def test_an_expression_finds_its_values(expression, expected):
    compiled = compile_expression(expression)
    assert compiled.all(MESSAGE) == expected
    assert compiled.first(MESSAGE) == next((value for value in expected if value is not None), None)


@pytest.mark.parametrize("expression", ["", "%", "packet/s", "payload.[", "a b", "payload.`nothing`", "'"])
def test_an_invalid_expression_is_rejected(expression):
    with pytest.raises(ExpressionError):
        compile_expression(expression)


def test_an_expression_is_never_run_as_python():
    for text in ("__import__('os').system('true')", "payload.`str(__import__('os'))`"):
        with pytest.raises(ExpressionError):
            compile_expression(text)


def test_matches_have_paths():
    assert compile_expression("$.payload.metrics[?name=none].name").matches(MESSAGE) == [
        ("payload.metrics.[2].name", "none")
    ]


def test_repeated_wildcards_and_parents_are_bounded():
    message = {"payload": {"list": list(range(100))}}
    expression = "payload.list" + "[*].`parent`" * 2
    assert len(compile_expression(expression).all(message)) == 10_000
    with pytest.raises(ValueError, match="more than"):
        compile_expression("payload.list" + "[*].`parent`" * 20).all(message)


def test_a_recursive_descent_is_bounded(monkeypatch):
    monkeypatch.setattr(expressions, "DESCENT_LIMIT", 10)
    with pytest.raises(ValueError, match="more than 10 values"):
        compile_expression("$..nope").all({"payload": [[] for _ in range(20)]})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["host", "metrics", "name", "value", "x"]), inner, max_size=3)
        ),
    )
)
def test_an_unusual_payload_has_values_or_none(payload):
    message = {"payload": payload}
    for text in (
        "payload.host.name",
        "payload.metrics[?(@.name='x')].value * 100",
        "$.payload.host + '_' + $.payload.name",
        "payload.metrics.[*].value.[*].x",
        "payload.host.`split(., 0, 1)`",
        "$..name.`len`",
        "payload.metrics[?value > 5][0:2].*",
    ):
        compiled = compile_expression(text)
        try:
            values = [value for value in compiled.all(message) if value is not None]
        except (TypeError, LookupError):
            with pytest.raises((TypeError, LookupError)):
                compiled.first(message)
        else:
            assert compiled.first(message) == (values[0] if values else None)


def first(definition, message=MESSAGE):
    warn: list[str] = []
    return compile_value(definition).first(message, warn), warn


def test_a_list_of_fields_returns_the_first_that_is_not_null():
    assert first(["payload.empty", "payload.nope", "payload.host", "payload.nodename"]) == ("h", [])


def test_a_number_is_a_constant():
    assert first(1) == (1, [])


def test_timedelta_is_the_difference_of_two_times():
    fields = ["payload.launched_at", "payload.created_at"]
    assert first({"fields": fields, "plugin": "timedelta"}) == (52.0, [])
    assert first({"fields": fields[:1], "plugin": "timedelta"})[0] is None
    value, warn = first({"fields": ["payload.host", "payload.created_at"], "plugin": "timedelta"})
    assert value is None
    assert warn == [
        "Failed to parse date from set fields, both fields payload.host and payload.created_at must be datetime: "
        "Unable to parse date string 'h'"
    ]


def test_split_takes_a_segment():
    plugin = {"name": "split", "parameters": {"segment": 1, "max_split": 1}}
    assert first({"fields": "publisher_id", "plugin": plugin}) == ("host-1.example", [])
    assert first({"fields": "publisher_id", "plugin": "split"}) == ("compute", [])
    assert first({"fields": "payload.host", "plugin": plugin}) == (None, [])


def test_bitfield_sets_a_bit_for_each_flag_that_matches():
    plugin = {
        "name": "bitfield",
        "parameters": {
            "initial_bitfield": 1,
            "flags": [
                {"path": "payload.host", "bit": 1, "value": "h"},
                {"path": "payload.nodename", "bit": 2, "value": "other"},
                {"path": "payload.size", "bit": 3},
            ],
        },
    }
    fields = ["payload.host", "payload.nodename", "payload.size"]
    assert first({"fields": fields, "plugin": plugin}) == (1 | 2 | 8, [])
    assert first({"fields": ["payload.nope"], "plugin": plugin}) == (1, [])


def test_map_translates_values():
    plugin = {
        "name": "map",
        "parameters": {"values": {"SUCCESS": 0, 3: "three"}, "default": -1, "case_sensitive": False},
    }
    assert first({"fields": "payload.outcome", "plugin": plugin}) == (0, [])
    assert first({"fields": "payload.size", "plugin": plugin}) == ("three", [])
    value, warn = first({"fields": "payload.host", "plugin": plugin})
    assert value == -1
    assert "'h'" in warn[0]


@pytest.mark.parametrize(
    "definition",
    [
        {"plugin": "split"},
        {"fields": "payload.x", "plugin": "nothing"},
        {"fields": "payload.x", "plugin": {"parameters": {}}},
        {"fields": "payload.x", "plugin": {"name": "map", "parameters": {"values": {}}}},
        {"fields": "payload.x", "plugin": {"name": "bitfield", "parameters": {"flags": [{"bit": 1}]}}},
        {"fields": []},
        [],
        [1, 2],
        [["payload.x"]],
        None,
        1.5,
    ],
)
def test_an_invalid_definition_is_rejected(definition):
    with pytest.raises(ValueError, match=r".+"):
        compile_value(definition)
