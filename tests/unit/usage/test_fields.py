"""Evidence is the same whether a message is read of its fields or as a mapping."""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from meterhouse.conversion.bodies import Bodies
from meterhouse.definitions.resources import load as load_resources
from meterhouse.definitions.units import load as load_units
from meterhouse.definitions.values import compile_value
from meterhouse.stores.lake_tables import NOTIFICATIONS
from meterhouse.usage import evidence
from meterhouse.usage.evidence import Extractor, Read
from meterhouse.usage.fields import Fields, Whole, layout

CAME = datetime(2026, 11, 1, 12, tzinfo=UTC)

PAYLOAD: dict[str, Any] = {
    "instance_id": "a",
    "tenant_id": "p",
    "instance_type": "m1.small",
    "state": "active",
    "vcpus": 2,
    "launched_at": "2026-11-01T11:59:58.000000",
    "image_meta": {"base_image_ref": "cirros"},
}

ODD: tuple[Any, ...] = (None, "", 0, 1.5, True, [], ["x"], {}, {"base_image_ref": 3}, "a/b/", "None", "NaN", 10**30)


def bodies(*messages: Any) -> list[str]:
    return [message if isinstance(message, str) else json.dumps(message) for message in messages]


def message(**changed: Any) -> dict[str, Any]:
    payload = {name: value for name, value in (PAYLOAD | changed).items() if value is not ...}
    return {"event_type": "compute.instance.create.end", "payload": payload}


def rows_of(texts: list[str]) -> tuple[list[dict[str, Any]], int]:
    count = len(texts)
    table = pa.table(
        {
            "arrival_hour": pa.repeat("2026-11-01T12", count),
            "message_id": [f"m{number:04}" for number in range(count)],
            "event_type": ["compute.instance.create.end"] * count,
            "publisher_id": ["compute.h1"] * count,
            "priority": ["info"] * count,
            "timestamp": pa.array([CAME] * count, NOTIFICATIONS.field("timestamp").type),
            "received_at": pa.array([CAME] * count, NOTIFICATIONS.field("received_at").type),
            "source": ["test"] * count,
            "body": texts,
        }
    ).cast(NOTIFICATIONS)
    done = Read()
    extract = Extractor(load_resources(None), load_units(None), "openstack")
    return sorted(extract.rows(table, done).to_pylist(), key=lambda row: row["message_id"]), done.errors


def test_unusual_values_are_read_of_fields_as_they_are_of_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = bodies(
        *(message(**{name: odd}) for name in (*PAYLOAD, "source", "deleted_at") for odd in (*ODD, ...)),
        *({"event_type": odd, "payload": PAYLOAD} for odd in ODD),
        *({"event_type": "compute.instance.create.end", "payload": odd} for odd in ODD),
        {"event_type": "compute.instance.create.end"},
        '{"payload": {"instance_id": "twice"}, "payload": ' + json.dumps(PAYLOAD) + "}",
        json.dumps(message())[:-1],
        json.dumps(message(vcpus=float("nan"))),
        json.dumps(message(state="nul\x00")),
        json.dumps(message(state="\ud800")),
        "[1]",
    )
    fast = rows_of(texts)
    monkeypatch.setattr(evidence, "layout", lambda values, reads: None)
    assert fast == rows_of(texts)
    assert fast[1] > 0
    assert len(fast[0]) > 100


@pytest.mark.parametrize(
    "expression",
    [
        *("$.payload.a", "$.payload.a.b", "$.payload.a.b.c.d", ["$.payload.a", "$.payload.b"], "$.publisher_id", 3),
        *("$.payload.a.`len`", "$.payload.n + 1", "$.payload['a b']", "($.payload.a)|($.timestamp)"),
        *("$.ctxt.user", {"fields": "$.payload.s", "plugin": {"name": "split", "parameters": {"separator": "-"}}}),
    ],
)
def test_a_value_is_the_same_in_fields_and_in_mappings(expression: Any) -> None:
    value = compile_value(expression)
    messages: list[Any] = [
        {"payload": {"a": {"b": {"c": {"d": 1}}}, "n": 1, "s": "x-y", "a b": 2}, "publisher_id": "p", "timestamp": "t"},
        {"payload": {"a": None, "b": 0, "n": 2, "s": "x"}, "_context_user": "u"},
        {"payload": {"b": "", "n": 0, "s": ""}},
        {"payload": {"a": [1, 2], "n": 1.5, "s": "-"}, "timestamp": None},
        {"payload": {"a": "text", "n": 3, "s": "a-b-c"}},
    ]
    assert value.reads is not None
    fields = layout([value], value.reads | {("payload", "source")})
    assert fields is not None
    table = pa.table({"body": bodies(*messages)})
    read = Bodies(table).read(list(range(len(messages))), fields.read)
    assert Fields(fields, read).column(value) == Whole(messages).column(value)
