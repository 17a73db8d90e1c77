import json
from datetime import UTC, datetime

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse import identity
from meterhouse.conversion.convert import Converter
from meterhouse.conversion.sample_columns import canonical_json
from meterhouse.definitions.loading import load
from meterhouse.stores.lake_tables import EVENTS, NOTIFICATIONS, SAMPLES
from meterhouse.stream.envelope import clean

RECEIVED = datetime(2026, 1, 1, 5, 30, tzinfo=UTC)


def notification(**keys):
    message = {
        "message_id": "n-1",
        "event_type": "image.upload",
        "publisher_id": "image.host",
        "priority": "INFO",
        "timestamp": "2026-01-01 00:00:01.5",
        "payload": {"id": "i-1", "owner": "p-1", "size": 19},
    }
    message.update(keys)
    return message


def polled(**keys):
    sample = {
        "source": "openstack",
        "counter_name": "cpu",
        "counter_type": "cumulative",
        "counter_unit": "ns",
        "counter_volume": 12,
        "user_id": "u",
        "project_id": None,
        "resource_id": "r",
        "timestamp": "2026-01-01T00:00:00",
        "resource_metadata": {"b": 1, "a": [None]},
        "message_id": "s-1",
    }
    sample.update(keys)
    return {key: value for key, value in sample.items() if value is not ...}


def batch(*samples, priority="SAMPLE"):
    return notification(event_type="telemetry.polling", priority=priority, payload={"samples": list(samples)})


def table(*messages):
    bodies = [message if isinstance(message, str) else json.dumps(message) for message in messages]
    count = len(bodies)
    nothing = [None] * count
    return pa.table(
        {
            "arrival_hour": [f"2026-01-01T{hour % 24:02}" for hour in range(count)],
            "message_id": [_landed_under(body) for body in bodies],
            "event_type": nothing,
            "publisher_id": nothing,
            "priority": nothing,
            "timestamp": nothing,
            "received_at": [RECEIVED] * count,
            "source": ["test"] * count,
            "body": bodies,
        },
        schema=NOTIFICATIONS,
    )


def _landed_under(body):
    """The id that landing gives a message: its own, or one made from its content."""
    try:
        found = json.loads(body).get("message_id")
    except (TypeError, ValueError, AttributeError, RecursionError):
        found = None
    return clean(found) if isinstance(found, str) and found else "made-from-content"


@pytest.fixture(scope="module")
def converter():
    return Converter(load(None))


def test_a_notification_becomes_samples_and_an_event(converter):
    made = converter.convert(table(notification()))
    assert made.errors == []
    assert (made.messages, made.polled) == (1, 0)
    assert made.samples.schema == SAMPLES
    [sample] = made.samples.to_pylist()
    assert sample == {
        "arrival_hour": "2026-01-01T00",
        "series_id": identity.series_id("openstack", "image.size", "gauge", "B", "i-1", "p-1", None),
        "timestamp": datetime(2026, 1, 1, 0, 0, 1, 500000, tzinfo=UTC),
        "volume": 19.0,
        "sample_id": identity.sample_id("n-1", "image.size", 0),
        "recorded_at": RECEIVED,
        "source": "openstack",
        "meter": "image.size",
        "type": "gauge",
        "unit": "B",
        "resource_id": "i-1",
        "project_id": "p-1",
        "user_id": None,
        "metadata_id": sample["metadata_id"],
        "origin": "notification",
    }
    assert json.loads(made.metadata[sample["metadata_id"]]) == {
        "id": "i-1",
        "owner": "p-1",
        "size": 19,
        "event_type": "image.upload",
        "host": "image.host",
    }
    assert made.events.schema == EVENTS
    [event] = made.events.to_pylist()
    assert event["generated"] == sample["timestamp"]
    assert {"name": "size", "dtype": "integer", "value": "19"} in event["traits"]
    assert event["raw"] is None


def test_no_notifications_yield_empty_tables(converter):
    made = converter.convert(table())
    assert made.samples.schema == SAMPLES
    assert made.events.schema == EVENTS
    assert made.samples.num_rows == made.events.num_rows == 0


def test_a_batch_of_polled_samples_becomes_samples_and_no_event(converter):
    made = converter.convert(table(notification(), batch(polled(), polled(message_id="s-2", counter_volume=1.5))))
    assert made.errors == []
    assert made.polled == 1
    assert made.events.num_rows == 1
    first, second = made.samples.slice(1).to_pylist()
    assert first["arrival_hour"] == "2026-01-01T01"
    assert (first["meter"], first["volume"], first["project_id"]) == ("cpu", 12.0, None)
    assert first["sample_id"] == identity.sample_id("s-1")
    assert first["series_id"] == second["series_id"]
    assert first["series_id"] == identity.series_id("openstack", "cpu", "cumulative", "ns", "r", None, "u")
    assert made.metadata[first["metadata_id"]] == b'{"a":[null],"b":1}'


def test_replaying_yields_the_same_ids(converter):
    messages = table(notification(), batch(polled(), polled(message_id=...)))
    assert converter.convert(messages).samples.equals(converter.convert(messages).samples)


@pytest.mark.parametrize(
    "message",
    [
        batch(polled(), priority="info"),
        notification(event_type="telemetry.api", priority="sample", payload={"samples": [polled()]}),
        notification(event_type="telemetry.polling", priority="sample", payload=[polled()]),
        notification(event_type="metering", priority="sample", payload=[polled()]),
    ],
    ids=["info", "api", "list", "publisher"],
)
def test_polled_samples_are_recognised_in_all_forms(converter, message):
    made = converter.convert(table(message))
    assert (made.samples.num_rows, made.events.num_rows, made.errors) == (1, 0, [])


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"counter_volume": None}, "has no volume"),
        ({"counter_volume": "many"}, "not a number"),
        ({"counter_volume": [1]}, "not a number"),
        ({"counter_volume": 10**400}, "too large for a float"),
        ({"timestamp": "yesterday"}, "Unable to parse date string 'yesterday'"),
        ({"timestamp": 5}, "Expecting a string 5"),
        ({"timestamp": "1969-12-31T23:59:59"}, "outside the years 1970 to 2262"),
        ({"timestamp": "2300-01-01"}, "outside the years 1970 to 2262"),
        ({"timestamp": ...}, "Expecting a string None"),
        ({"counter_name": ...}, "has no meter"),
        ({"counter_type": None}, "has no type"),
    ],
)
def test_an_unusable_polled_sample_does_not_affect_others(converter, keys, reason):
    made = converter.convert(table(batch(polled(message_id="a"), polled(**keys), polled(message_id="b"))))
    assert made.samples.num_rows == 2
    [error] = made.errors
    assert (error.message_id, error.endpoint) == ("n-1", "polling")
    assert reason in error.detail


@pytest.mark.parametrize(
    ("keys", "column", "value"),
    [
        ({"counter_volume": "2.5"}, "volume", 2.5),
        ({"counter_volume": True}, "volume", 1.0),
        ({"resource_id": 56}, "resource_id", "56"),
        ({"source": ...}, "source", "openstack"),
        ({"user_id": ...}, "user_id", None),
        ({"resource_metadata": None}, "metadata_id", None),
        ({"resource_metadata": ...}, "metadata_id", None),
        ({"message_id": ...}, "sample_id", identity.sample_id("n-1", "cpu", 0)),
        ({"message_id": ""}, "sample_id", identity.sample_id("n-1", "cpu", 0)),
        ({"timestamp": "2262-01-01T00:00:00+01:00"}, "timestamp", datetime(2261, 12, 31, 23, tzinfo=UTC)),
    ],
)
def test_an_unusual_polled_sample_is_kept(converter, keys, column, value):
    made = converter.convert(table(batch(polled(**keys))))
    assert made.errors == []
    assert made.samples.to_pylist()[0][column] == value


def test_dimensions_of_other_types_give_the_series_of_their_text(converter):
    made = converter.convert(
        table(batch(polled(resource_id=1), polled(resource_id=True), polled(resource_id="1"), polled(resource_id=1.0)))
    )
    assert made.samples.column("resource_id").to_pylist() == ["1", "True", "1", "1.0"]
    assert len(set(made.samples.column("series_id").to_pylist())) == 3


def test_volumes_that_are_not_finite_are_kept_for_the_quality_rules(converter):
    body = json.dumps(batch(polled(counter_volume=float("nan")), polled(counter_volume=float("-inf"))))
    assert "NaN" in body
    volumes = converter.convert(table(body)).samples.column("volume").to_pylist()
    assert volumes[0] != volumes[0]
    assert volumes[1] == float("-inf")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"id": "i", "size": None}, "metering data image.size for i @ 2026-01-01T00:00:01.500000+00:00 has no volume"),
        ({"id": "i", "size": {}}, "has volume which is not a number (volume: {})"),
        ({"id": "i", "size": 10**400}, "too large for a float"),
        ("text", "has no volume"),
        ([], "has no volume"),
    ],
)
def test_a_sample_with_no_number_is_not_published(converter, payload, reason):
    made = converter.convert(table(notification(payload=payload)))
    assert made.samples.num_rows == 0
    assert reason in made.errors[0].detail
    line = converter.samples_line(notification(payload=payload))
    assert [sample["published"] for sample in line["samples"]] == [False]
    assert reason in line["errors"][0]["warnings"][0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "JSONDecodeError"),
        ("{", "JSONDecodeError"),
        ("[]", "not a JSON object but a list"),
        ("null", "not a JSON object"),
        ("[" * 100_000, "RecursionError"),
        ('{"a":' * 100_000, "RecursionError"),
        (json.dumps(notification(event_type=None)), "no event_type"),
        (json.dumps(notification(event_type=["x"])), "no event_type"),
        (json.dumps(batch() | {"payload": None}), "no list of samples"),
    ],
)
def test_a_body_that_is_not_a_notification_does_not_affect_others(converter, body, reason):
    made = converter.convert(table(notification(), body, notification()))
    assert made.samples.num_rows == made.events.num_rows == 2
    [error] = made.errors
    assert error.endpoint == "body"
    assert reason in error.detail


def test_a_malformed_timestamp_makes_neither_samples_nor_an_event(converter):
    made = converter.convert(table(notification(timestamp="2015-06-1909:19:35")))
    assert made.samples.num_rows == made.events.num_rows == 0
    assert [error.endpoint for error in made.errors] == ["meter", "event"]
    assert converter.samples_line(notification(timestamp="x"))["errors"] == [
        {"endpoint": "meter", "error": "ValueError", "detail": "Unable to parse date string 'x'"}
    ]


@pytest.mark.parametrize("moment", ["1969-12-31", "2262-12-31"])
def test_timestamps_out_of_range_are_rejected(converter, moment):
    made = converter.convert(table(notification(timestamp=moment)))
    assert made.samples.num_rows == made.events.num_rows == 0
    assert len(made.errors) == 2


def test_a_lone_surrogate_is_replaced(converter):
    body = json.dumps(notification()).replace("i-1", "i-\\ud800")
    made = converter.convert(table(body, json.dumps(batch(polled())).replace('"r"', '"\\udc00"')))
    assert made.errors == []
    assert made.samples.column("resource_id").to_pylist() == ["i-\ufffd", "\ufffd"]


@pytest.mark.parametrize(
    ("priority", "samples", "events"),
    [("info", 1, 1), ("sample", 1, 0), ("error", 0, 1), ("warn", 0, 0), (None, 0, 0)],
)
def test_the_priority_says_what_a_notification_is_for(converter, priority, samples, events):
    made = converter.convert(table(notification(priority=priority)))
    assert (made.samples.num_rows, made.events.num_rows) == (samples, events)


def test_the_source_of_notifications_is_chosen():
    made = Converter(load(None), source="region-2").convert(table(notification(), batch(polled())))
    assert made.samples.column("source").to_pylist() == ["region-2", "openstack"]


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": {"d": 1, "c": 2}, "a": "é"}) == canonical_json({"a": "é", "b": {"c": 2, "d": 1}})
    assert canonical_json({"b": 10**30, "a": "é"}) == f'{{"a":"é","b":{10**30}}}'.encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["2026-01-01 00:00:00", "1e400", "NaN", "\ud800", "info", "compute.instance.exists"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "size", "samples", "metrics", "name", "value", "metadata", "x"])
            | st.sampled_from(list(polled())),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
EVENT_TYPES = [
    "image.upload",
    "image.send",
    "compute.instance.exists",
    "compute.metrics.update",
    "volume.create.end",
    "telemetry.polling",
    "telemetry.api",
    "objectstore.http.request",
    "identity.authenticate",
    "trove.instance.exists",
    "magnum.bay.metrics.update",
]
ODD = st.fixed_dictionaries(
    {},
    optional={
        "message_id": JSON,
        "event_type": st.sampled_from(EVENT_TYPES) | JSON,
        "publisher_id": JSON,
        "priority": st.sampled_from(["info", "SAMPLE", "error"]) | JSON,
        "timestamp": st.sampled_from(["2026-01-01 00:00:00", "0001-01-01"]) | JSON,
        "payload": JSON | st.fixed_dictionaries({"samples": st.lists(JSON, max_size=3)}) | st.lists(JSON, max_size=3),
        "_context_user": JSON,
    },
)


@settings(deadline=None)
@given(st.lists(ODD | JSON, max_size=4))
def test_arbitrary_json_never_raises_and_every_message_is_accounted_for(messages):
    converter = Converter(load(None))
    bodies = [json.dumps(message) for message in messages]
    made = converter.convert(table(*bodies, json.dumps(notification())))
    assert made.messages == len(bodies) + 1
    assert made.samples.column("meter").to_pylist()[-1] == "image.size"
    assert set(made.samples.column("metadata_id").drop_null().to_pylist()) <= set(made.metadata)
    for message, body in zip(messages, bodies, strict=True):
        alone = converter.convert(table(body))
        if not isinstance(message, dict) or not isinstance(message.get("event_type"), str):
            assert alone.samples.num_rows + len(alone.errors) > 0
        if isinstance(message, dict):
            shown = converter.samples_line(message)
            orjson.dumps(len(shown["samples"]))
            converter.event_line(message)


@settings(deadline=None)
@given(st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_arbitrary_text_never_raises(text):
    assert Converter(load(None)).convert(table(text)).messages == 1


def test_a_message_without_an_id_is_known_by_the_one_it_was_landed_under(converter):
    made = converter.convert(table(notification(message_id=None)))
    assert [event["message_id"] for event in made.events.to_pylist()] == ["made-from-content"]
    [sample] = made.samples.to_pylist()
    assert sample["sample_id"] == identity.sample_id("made-from-content", "image.size", 0)


def test_nul_characters_are_left_out_and_escaped_backslashes_kept(converter):
    body = json.dumps(notification(payload={"id": "a\0b\\u0000", "owner": "p\0", "size": 1}))
    [sample] = converter.convert(table(body)).samples.to_pylist()
    assert (sample["resource_id"], sample["project_id"]) == ("ab\\u0000", "p")


def rows_of(made):
    """The result of a conversion, row by row, whatever the order of landing."""
    samples = [{**row, "arrival_hour": None} for row in made.samples.to_pylist()]
    events = [{**row, "arrival_hour": None} for row in made.events.to_pylist()]
    return samples, events, [(error.endpoint, error.detail) for error in made.errors]


MANY = st.lists(
    st.fixed_dictionaries(
        {
            "message_id": st.uuids().map(str),
            "event_type": st.sampled_from(EVENT_TYPES),
            "priority": st.sampled_from(["info", "INFO", "error", "sample", "warn"]),
            "timestamp": st.sampled_from(["2026-01-01 00:00:00", "2026-01-01T00:00:00Z", "2600-01-01", "never"]),
            "publisher_id": st.sampled_from(["host.a", None]),
            "payload": st.fixed_dictionaries(
                {},
                optional={
                    "id": st.sampled_from(["i", "j", 1, True, None, ["x"]]),
                    "size": st.sampled_from([1, 1.0, True, None, "7", "seven", 10**400]),
                    "owner": st.sampled_from(["p", "", None]),
                    "tenant_id": st.sampled_from(["t", 5, None, "x" * 300]),
                    "created_at": st.sampled_from(["2026-01-01T00:00:00", "", "junk", None, 3]),
                    "metadata": st.sampled_from([{"metering.a": 1}, {}, None, []]),
                    "metrics": st.lists(
                        st.fixed_dictionaries(
                            {"name": st.sampled_from(["cpu.frequency", "cpu.percent", "x"]), "value": st.floats(0, 1)}
                        ),
                        max_size=3,
                    ),
                },
            ),
            "_context_request_id": st.sampled_from(["req-1", None]),
        }
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(MANY)
def test_notifications_read_together_yield_what_each_yields_alone(messages):
    converter = Converter(load(None))
    together = table(*messages)
    typed = together.set_column(2, "event_type", pa.array([message["event_type"] for message in messages]))
    alone = [rows_of(converter.convert(table(message))) for message in messages]
    expected = tuple([row for one in alone for row in one[part]] for part in range(3))
    assert rows_of(converter.convert(typed)) == expected
    assert rows_of(converter.convert(together)) == expected


def test_one_unusual_notification_of_many_does_not_affect_others(converter):
    messages = [notification(message_id=f"n-{number}") for number in range(600)]
    messages[300]["timestamp"] = "never"
    messages[301]["payload"]["size"] = None
    made = converter.convert(table(*messages))
    assert made.events.column("message_id").to_pylist() == [f"n-{n}" for n in range(600) if n != 300]
    assert made.samples.num_rows == 598
    assert {(error.message_id, error.endpoint) for error in made.errors} == {
        ("n-300", "meter"),
        ("n-300", "event"),
        ("n-301", "meter"),
    }


def test_the_whole_notification_is_kept_with_its_event_if_configured():
    messages = [notification(), notification(message_id="n-2", priority="error")]
    made = Converter(load(None), store_raw=["error"]).convert(table(*messages))
    assert made.events.column("raw").to_pylist() == [None, json.dumps(messages[1])]
    line = Converter(load(None), store_raw=["error"]).event_line(messages[1])
    assert line["event"]["raw"] == messages[1]


def test_an_unmatched_notification_makes_no_event_if_configured():
    messages = [notification(), notification(message_id="n-2", event_type="nobody.knows")]
    made = Converter(load(None), drop_unmatched=True).convert(table(*messages))
    assert made.events.column("message_id").to_pylist() == ["n-1"]
    assert Converter(load(None), drop_unmatched=True).event_line(messages[1])["event"] is None
    assert Converter(load(None)).convert(table(*messages)).events.num_rows == 2


def test_integers_of_any_size_are_read_exactly(converter):
    made = converter.convert(table(notification(payload={"id": 2**64 + 1, "owner": "p", "size": 1})))
    assert made.samples.column("resource_id").to_pylist() == [str(2**64 + 1)]


def deep(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("levels", range(960, 1010, 3))
def test_a_skipped_field_that_is_nested_too_deeply_only_affects_its_message(converter, levels):
    """Whole messages are read if metadata is empty. One that cannot be read must not stop the others."""
    created = "compute.instance.create.end"
    start = json.dumps(notification(event_type=created, message_id="empty", payload={"memory_mb": 1}))
    body = json.dumps(notification(event_type=created, message_id="deep", payload={"memory_mb": 1, "x": 0})).replace(
        '"x": 0', f'"x": {deep(levels)}'
    )
    together = table(start, body)
    made = converter.convert(together.set_column(2, "event_type", pa.array([created] * 2)))
    assert "empty" in made.events.column("message_id").to_pylist()
    assert "memory" in made.samples.column("meter").to_pylist()
    deep_id = together.column("message_id")[1].as_py()
    seen = made.events.column("message_id").to_pylist().count(deep_id)
    assert seen + sum(error.message_id == deep_id for error in made.errors) > 0


def test_a_nul_character_is_left_out_whatever_else_is_in_the_table(converter):
    message = notification(payload={"id": "i", "owner": "p", "size": "5\0"})
    beside = notification(message_id="n-2", payload={"id": "j\0", "owner": "p", "size": 1})
    alone = converter.convert(table(message)).samples.to_pylist()
    assert [sample["volume"] for sample in alone] == [5.0]
    assert converter.convert(table(message, beside)).samples.to_pylist()[0]["volume"] == 5.0
    one = converter.convert(table(batch(polled(message_id="a\0b")))).samples.to_pylist()
    other = converter.convert(table(batch(polled(message_id="a\0b")), beside)).samples.to_pylist()
    assert one[0]["sample_id"] == other[0]["sample_id"] == identity.sample_id("ab")


@given(st.text("\\u0", max_size=30).map(str.encode), st.integers(0, 12), st.integers(0, 9))
def test_a_nul_is_found_wherever_it_is(noise, before, after):
    from meterhouse.conversion.bodies import _has_nul

    text = b"x" * before + b"\\u0000" + b"y" * after
    assert _has_nul(memoryview(text))
    assert _has_nul(memoryview(noise)) == (b"\\u0000" in noise)
