"""Deliveries from the bytes of a connection: complete and exact, however they are cut and whatever is between them."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from struct import pack
from typing import Any

import pytest
from amqp.basic_message import Message
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.stream import HEAD_BYTES, deliveries
from meterhouse.stream.deliveries import Deliveries
from meterhouse.stream.headers import headers, properties

FRAME_MAX = 131_072
OURS, OTHER = 1, 2
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

Delivered = tuple[str, int, bool, bytes, bytes]


class Wire:
    """A connection whose socket returns pieces of bytes. It keeps the frames that are left to py-amqp."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.transport: Any = self
        self.sock: Any = self
        self._read_buffer = b""
        self.frame_max = FRAME_MAX
        self.left: list[tuple[int, int, bytes]] = []
        self.timeouts: list[float | None] = []

    def recv(self, most: int) -> bytes:
        piece, rest = self.pieces[0][:most], self.pieces[0][most:]
        self.pieces[:1] = [rest] if rest else []
        return piece

    def gettimeout(self) -> float:
        return 10.0

    def settimeout(self, timeout: float | None) -> None:
        self.timeouts.append(timeout)

    def on_inbound_frame(self, frame: tuple[int, int, bytes]) -> bool:
        self.left.append(frame)
        return True


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def wire_of(**given: Any) -> bytes:
    return bytes(Message("", **given)._serialize_properties())


def delivery(
    tag: int,
    body: bytes,
    *,
    queue: str = "q",
    redelivered: bool = False,
    wire: bytes = b"\0\0",
    channel: int = OURS,
    piece: int = FRAME_MAX - 8,
) -> list[bytes]:
    """A message's frames."""
    name = queue.encode()
    method = b"\x00\x3c\x00\x3c" + bytes([len(name)]) + name + pack(">QB", tag, redelivered) + b"\x03exc\x03key"
    header = pack(">HHQ", 60, 0, len(body)) + wire
    bodies = [body[at : at + piece] for at in range(0, len(body), piece)]
    return [
        frame(METHOD, channel, method),
        frame(HEADER, channel, header),
        *(frame(BODY, channel, part) for part in bodies),
    ]


def read(pieces: Sequence[bytes]) -> tuple[list[Delivered], Wire]:
    taken: list[Delivered] = []
    wire = Wire(pieces)
    source = Deliveries(wire, OURS, lambda *one: taken.append(one[:5]))
    while wire.pieces:
        source.read(0.1)
    return taken, wire


ASKED = frame(METHOD, OTHER, b"\x00\x32\x00\x0b" + b"answer")
BEAT = frame(HEARTBEAT, 0, b"")
TRAFFIC = b"".join(
    [
        *delivery(1, b'{"a": 1}', queue="notifications.info", wire=wire_of(content_type="application/json")),
        BEAT,
        *delivery(2, b"", redelivered=True),
        ASKED,
        *delivery(3, b"x" * 100, piece=7),
        *delivery(9, b"not ours", channel=OTHER),
        *delivery(2**63, b"\xff\xfe\0", queue="q" * 255),
        frame(METHOD, OURS, b"\x00\x3c\x00\x15" + b"consume-ok"),
    ]
)
TAKEN: list[Delivered] = [
    ("notifications.info", 1, False, wire_of(content_type="application/json"), b'{"a": 1}'),
    ("q", 2, True, b"\0\0", b""),
    ("q", 3, False, b"\0\0", b"x" * 100),
    ("q" * 255, 2**63, False, b"\0\0", b"\xff\xfe\0"),
]
LEFT = [(HEARTBEAT, 0), (METHOD, OTHER), (METHOD, OTHER), (HEADER, OTHER), (BODY, OTHER), (METHOD, OURS)]


def test_deliveries_of_the_channel_are_taken_and_everything_else_is_left_to_the_library() -> None:
    taken, wire = read([TRAFFIC])
    assert taken == TAKEN
    assert [one[:2] for one in wire.left] == LEFT
    assert wire._read_buffer == b""


def test_it_does_not_matter_where_the_bytes_are_cut() -> None:
    for at in range(1, len(TRAFFIC)):
        taken, wire = read([TRAFFIC[:at], TRAFFIC[at:]])
        assert taken == TAKEN, at
        assert [one[:2] for one in wire.left] == LEFT, at


def test_bytes_may_come_one_by_one() -> None:
    taken, wire = read([TRAFFIC[at : at + 1] for at in range(len(TRAFFIC))])
    assert taken == TAKEN
    assert [one[:2] for one in wire.left] == LEFT


def test_frames_of_other_channels_may_be_within_a_message() -> None:
    ours, others = delivery(1, b"abcdef", piece=2), delivery(7, b"123456", channel=OTHER, piece=2)
    mixed = [one for pair in zip(ours, others, strict=True) for one in (*pair, BEAT)]
    stream = b"".join([*mixed, *delivery(2, b"after")])
    for at in range(1, len(stream)):
        taken, wire = read([stream[:at], stream[at:]])
        assert [(one[1], one[4]) for one in taken] == [(1, b"abcdef"), (2, b"after")], at
        assert [one[2] for one in wire.left if one[0] == BODY] == [b"12", b"34", b"56"], at


@pytest.mark.parametrize("size", [FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, deliveries.LONG_BODY + 1, 5_000_000])
def test_a_body_of_many_frames_is_complete(size: int) -> None:
    body = bytes(at % 251 for at in range(size))
    stream = b"".join([*delivery(1, b"before"), *delivery(2, body), *delivery(3, b"after")])
    for piece in (1 << 14, 100_003, 1 << 18):
        taken, _ = read([stream[at : at + piece] for at in range(0, len(stream), piece)])
        assert [(one[1], one[4]) for one in taken] == [(1, b"before"), (2, body), (3, b"after")]


@pytest.mark.parametrize("size", [100_001, 5_000_000])
def test_of_a_body_that_is_too_long_only_the_head_is_kept(size: int) -> None:
    body = bytes(at % 251 for at in range(size))
    stream = b"".join([*delivery(1, b"before"), *delivery(2, body), *delivery(3, body[:100_000])])
    for piece in (1 << 14, 1 << 18, len(stream)):
        taken: list[tuple[int, bytes, int]] = []
        wire = Wire([stream[at : at + piece] for at in range(0, len(stream), piece)])
        source = Deliveries(wire, OURS, lambda *one, into=taken: into.append((one[1], *one[4:])), longest=100_000)
        held = 0
        while wire.pieces:
            source.read(0.1)
            held = max(held, sum(map(len, source._parts)))
        assert [(tag, size) for tag, _, size in taken] == [(1, 6), (2, size), (3, 100_000)]
        assert [one[1] for one in taken] == [b"before", body[:HEAD_BYTES], body[:100_000]]
        assert held < 300_000


def test_what_the_library_reads_while_it_waits_for_an_answer_is_taken_too() -> None:
    """py-amqp then reads frames itself, and passes each to the connection's handler."""
    taken: list[Delivered] = []
    wire = Wire([b"".join([*delivery(1, b"one"), ASKED])])
    source = Deliveries(wire, OURS, lambda *one: taken.append(one[:5]))
    plain = wire.on_inbound_frame
    held = delivery(2, b"two", piece=2)

    def others(given: tuple[int, int, bytes]) -> bool:
        for one in held:
            plain((one[0], int.from_bytes(one[1:3], "big"), one[7:-1]))
        return True

    source._others = others
    source.read(0.1)
    assert [(one[1], one[4]) for one in taken] == [(1, b"one"), (2, b"two")]


def test_the_library_may_continue_to_read_from_the_buffer() -> None:
    """py-amqp reopens a channel that the broker has closed: the bytes after that are read once, by either side."""
    taken: list[Delivered] = []
    behind = b"".join(delivery(2, b"two"))
    wire = Wire([b"".join([*delivery(1, b"one"), ASKED, ASKED]) + behind[:20]])
    source = Deliveries(wire, OURS, lambda *one: taken.append(one[:5]))
    answers = []

    def others(given: tuple[int, int, bytes]) -> bool:
        answers.append(given)
        if len(answers) == 1:
            assert wire._read_buffer == ASKED + behind[:20]
            wire._read_buffer = wire._read_buffer[len(ASKED) :]
        return True

    source._others = others
    source.read(0.1)
    wire.pieces = [behind[20:]]
    source.read(0.1)
    assert len(answers) == 1
    assert [one[1] for one in taken] == [1, 2]


@pytest.mark.parametrize("place", range(4))
def test_a_damaged_end_mark_is_an_error(place: int) -> None:
    frames = delivery(1, b"abcd", piece=2)
    frames[place] = frames[place][:-1] + b"\0"
    with pytest.raises(ConnectionResetError, match="not AMQP"):
        read([b"".join(frames)])


def test_a_damaged_size_is_an_error_and_not_waited_for() -> None:
    with pytest.raises(ConnectionResetError, match="not AMQP"):
        read([pack(">BHI", BODY, OURS, 2_000_000_000) + b"x" * 100])


def test_a_body_longer_than_its_header_says_is_an_error() -> None:
    frames = delivery(1, b"abcd")
    frames[2] = frame(BODY, OURS, b"abcde")
    with pytest.raises(ConnectionResetError, match="not AMQP"):
        read([b"".join(frames)])
    with pytest.raises(ConnectionResetError, match="not AMQP"):
        read([b"".join([frames[0], BEAT, *frames[1:]])])


def test_a_closed_connection_is_an_error() -> None:
    wire = Wire([])
    wire.recv = lambda most: b""
    with pytest.raises(ConnectionResetError, match="closed the connection"):
        Deliveries(wire, OURS, lambda *one: None).read(0.1)


def test_the_socket_has_its_usual_timeout_after_a_read_that_timed_out() -> None:
    def late(most: int) -> bytes:
        raise TimeoutError

    wire = Wire([])
    wire.recv = late
    assert Deliveries(wire, OURS, lambda *one: None).read(0.05) == 0
    assert wire.timeouts == [0.05, 10.0]


def test_an_error_of_the_callback_leaves_the_rest_in_the_buffer() -> None:
    def taker(queue: str, tag: int, *more: Any) -> None:
        if tag == 2:
            raise ValueError("too much")

    last = b"".join(delivery(2, b"two"))
    wire = Wire([b"".join(delivery(1, b"one")) + last])
    with pytest.raises(ValueError, match="too much"):
        Deliveries(wire, OURS, taker).read(0.1)
    assert wire._read_buffer == last


bodies = st.binary(max_size=60)
between = st.sampled_from([b"", BEAT, ASKED, frame(HEADER, OTHER, b"odd"), b"".join(delivery(5, b"x", channel=OTHER))])


@given(
    sent=st.lists(st.tuples(bodies, st.booleans(), st.integers(1, 30), between, between), max_size=8),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
)
def test_any_messages_cut_anywhere_come_as_they_were_sent(
    sent: list[tuple[bytes, bool, int, bytes, bytes]], cuts: list[int]
) -> None:
    stream = b""
    for tag, (body, redelivered, piece, within, behind) in enumerate(sent, 1):
        first, *rest = delivery(tag, body, redelivered=redelivered, piece=piece)
        stream += first + within + b"".join(rest) + behind
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    taken, wire = read([stream[at:to] for at, to in pairwise(places)])
    assert taken == [("q", tag, one[1], b"\0\0", one[0]) for tag, one in enumerate(sent, 1)]
    assert wire._read_buffer == b""


# --- properties and headers ---------------------------------------------------------------------------


def test_properties_come_through_the_wire() -> None:
    given = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": 1_794_312_000,
        "type": "t",
        "user_id": "guest",
        "app_id": "nova",
        "application_headers": {"x-death": [{"count": 2, "queue": "q"}], "ratio": 0.5, "none": None},
    }
    assert properties(wire_of(**given)) == given
    assert json.loads(headers(wire_of(**given)) or "") == given


def test_header_values_without_a_json_type_become_text() -> None:
    odd = {
        "bytes": b"\xff\xfe",
        "nan": float("nan"),
        "inner": [{"inf": float("inf")}],
        "price": Decimal("1.5"),
        "since": datetime(2026, 11, 10, 12),
        "big": 2**60,
        "ümlaut": "日本",
    }
    found = headers(wire_of(application_headers=odd))
    assert json.loads(found or "", parse_constant=pytest.fail)["application_headers"] == {
        "bytes": "\ufffd\ufffd",
        "nan": "nan",
        "inner": [{"inf": "inf"}],
        "price": "1.5",
        "since": "2026-11-10 12:00:00",
        "big": 2**60,
        "ümlaut": "日本",
    }


def test_a_header_whose_name_is_not_text_is_kept() -> None:
    table = b"\x02\xff\xfet\x01" + b"\x01at\x01"
    wire = pack(">H", 1 << 13) + pack(">I", len(table)) + table
    assert json.loads(headers(wire) or "") == {"application_headers": {"\ufffd\ufffd": True, "a": True}}


def test_missing_properties_are_none() -> None:
    assert headers(b"\0\0") is None


@pytest.mark.parametrize(
    "table",
    [b"\x01a?x", b"\x01aT" + b"\xff" * 8, b"\x01aI\0", b"\x01aF\0\0\0\x05" * 5000],
    ids=["unknown type", "no such time", "too short", "deep"],
)
def test_headers_that_cannot_be_read_hold_up_nothing(table: bytes) -> None:
    wire = pack(">H", 1 << 13) + pack(">I", len(table)) + table
    assert headers(wire) is None
    taken, _ = read([b"".join(delivery(1, b"body", wire=wire))])
    assert taken == [("q", 1, False, wire, b"body")]


@given(st.binary(max_size=80))
def test_no_bytes_of_properties_raise(wire: bytes) -> None:
    found = headers(wire)
    assert found is None or isinstance(json.loads(found, parse_constant=pytest.fail), dict)
