"""Unwrapping: what is a notification, what is not and why."""

import contextlib
import json
from typing import Any

import pytest
from builders import enveloped, line, notification
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.stream.envelope import BadMessage, unwrap


def test_a_bare_and_an_enveloped_message_are_the_same() -> None:
    message = notification("m1")
    bare, wrapped = unwrap(line(message)), unwrap(line(enveloped(message)))
    assert bare == wrapped
    assert bare.message_id == "m1"
    assert bare.event_type == "compute.instance.exists"
    assert bare.publisher_id == "compute.host1"
    assert bare.priority == "info"
    assert bare.timestamp == 1794312000_000_000
    assert json.loads(bare.body) == message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not UTF-8: invalid start byte at byte 0"),
        (b"[]", "not a JSON object but list"),
        (b'"x"', "not a JSON object but str"),
        (b"null", "not a JSON object but NoneType"),
        (b"NaN", "not a JSON object but float"),
        (b"{}", "no event_type"),
        (b'{"event_type": ""}', "no event_type"),
        (b'{"event_type": 7}', "no event_type"),
        (b'{"oslo.version": "1.0", "oslo.message": "{}"}', "envelope version '1.0', 2.x is known"),
        (b'{"oslo.version": 3, "oslo.message": "{}"}', "envelope version '3', 2.x is known"),
        (b'{"oslo.version": "2.0", "oslo.message": {}}', "oslo.message is not text"),
        (b'{"oslo.version": "2.0", "oslo.message": "{"}', "not JSON"),
        (b'{"oslo.version": "2.0", "oslo.message": "[]"}', "not a JSON object but list"),
        (b"[" * 100_000, "not JSON"),
        (b'{"event_type": "a", "n": ' + b"9" * 10_000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_not_a_notification_is_rejected_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadMessage, match=reason):
        unwrap(body)


def test_the_literals_nan_and_infinity_are_read() -> None:
    found = unwrap(b'{"event_type": "a", "message_id": "m", "payload": [NaN, Infinity, -Infinity]}')
    assert found.message_id == "m"
    assert found.body.endswith("[NaN, Infinity, -Infinity]}")


@pytest.mark.parametrize("missing", [None, "", 7, [], {}])
def test_a_message_without_an_id_gets_one_from_its_content(missing: Any) -> None:
    message = notification("m1", message_id=missing)
    other = notification("m1", message_id=missing, priority="ERROR")
    first, again, differs = unwrap(line(message)), unwrap(line(enveloped(message))), unwrap(line(other))
    assert first.message_id.startswith("xxh3:")
    assert first.message_id == again.message_id != differs.message_id


@pytest.mark.parametrize(
    ("field", "given", "taken"),
    [
        ("publisher_id", None, None),
        ("publisher_id", 5, None),
        ("priority", "INFO", "info"),
        ("priority", None, ""),
        ("priority", ["x"], ""),
        ("timestamp", None, None),
        ("timestamp", "yesterday", None),
        ("timestamp", 12, None),
        ("timestamp", "2026-11-10T12:00:00+01:00", 1794308400_000_000),
    ],
)
def test_unusual_headers_do_not_make_a_message_bad(field: str, given: Any, taken: Any) -> None:
    assert getattr(unwrap(line(notification("m", **{field: given}))), field) == taken


def test_lone_surrogates_are_replaced_so_that_they_can_be_stored() -> None:
    body = b'{"event_type": "a\\ud800", "message_id": "\\udfffm", "publisher_id": "p\\ud800", "payload": {}}'
    found = unwrap(body)
    for text in (found.message_id, found.event_type, found.publisher_id, found.body):
        assert text is not None
        text.encode("utf-8")
    assert found.event_type == "a?"


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(BadMessage):
        assert unwrap(body).event_type


@given(st.dictionaries(st.sampled_from(["event_type", "message_id", "priority", "timestamp"]), st.text(), max_size=4))
def test_what_is_accepted_can_be_stored(message: dict[str, str]) -> None:
    try:
        found = unwrap(json.dumps(message).encode())
    except BadMessage:
        return
    for text in (found.message_id, found.event_type, found.priority, found.body):
        text.encode("utf-8")
