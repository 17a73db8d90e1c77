"""Which events meet the conditions of which alarms: set-wise as one by one."""

import operator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.alarms.definitions.rules.event import Trait
from meterhouse.alarms.evaluation.event_matching import Interest, Matcher, described
from meterhouse.stores.lake_tables import EVENTS

EPOCH = datetime(2026, 11, 22, tzinfo=UTC)
COMPARE = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


def event(number: int = 0, event_type: str = "compute.instance.create.end", **traits: Any) -> dict[str, Any]:
    """An event; a trait is (type, value), or a text."""
    pairs = {name: given if isinstance(given, tuple) else ("text", given) for name, given in traits.items()}
    return {
        "arrival_hour": "2026-11-22T00",
        "message_id": f"message-{number}",
        "event_type": event_type,
        "generated": EPOCH + timedelta(seconds=number),
        "traits": [{"name": name, "dtype": dtype, "value": value} for name, (dtype, value) in pairs.items()],
        "raw": None,
    }


def table(*events: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(events), EVENTS)


def matches(interest: Interest, *events: dict[str, Any]) -> list[int]:
    return Matcher([interest]).pairs(table(*events))[0].tolist()


def on(field: str, op: str, value: str, kind: str = "string") -> Interest:
    return Interest("*", (Trait(field, op, value, kind),))


def test_a_glob_chooses_types_of_events() -> None:
    events = event(0), event(1, "compute.instance.delete.end"), event(2, "volume.create.end")
    assert matches(Interest("*"), *events) == [0, 1, 2]
    assert matches(Interest("compute.instance.*"), *events) == [0, 1]
    assert matches(Interest("volume.create.end"), *events) == [2]
    assert matches(Interest("*.[cd]*.end"), *events) == [0, 1, 2]
    assert matches(Interest("VOLUME.*"), *events) == []


def test_conditions_compare_in_their_type() -> None:
    events = event(0, memory=("integer", "1024"), name="b"), event(1, memory=("integer", "512"), name="a")
    assert matches(on("traits.memory", "gt", "512", "integer"), *events) == [0]
    assert matches(on("traits.memory", "le", "1024.0", "float"), *events) == [0, 1]
    assert matches(on("traits.name", "lt", "b"), *events) == [1]
    assert matches(on("message_id", "eq", "message-1"), *events) == [1]
    assert matches(on("generated", "ge", (EPOCH + timedelta(seconds=1)).isoformat(), "datetime"), *events) == [1]


def test_a_text_is_read_as_the_type_that_it_is_compared_with() -> None:
    events = event(0, size=("integer", "9")), event(1, size=("text", "10")), event(2, size=("text", "big"))
    assert matches(on("traits.size", "lt", "10", "integer"), *events) == [0]
    assert matches(on("traits.size", "ge", "10", "integer"), *events) == [1]
    assert matches(on("traits.size", "eq", "9"), *events) == [0]
    assert matches(on("traits.size", "lt", "10"), *events) == [0]  # as a number for the number, as a text for texts
    ended = event(0, at=("datetime", "2026-11-22T10:00:00+00:00"))
    assert matches(on("traits.at", "lt", "2026-11-22T12:00:00+01:00"), ended) == [0]
    assert matches(on("traits.on", "eq", "true", "boolean"), event(0, on="True"), event(1, on="False")) == [0]


def test_what_cannot_be_compared_is_different_and_nothing_else() -> None:
    events = event(0, size="big"), event(1), event(2, size=("datetime", "2026-11-22T10:00:00"))
    for op in COMPARE:
        assert matches(on("traits.size", op, "5", "integer"), *events) == ([0, 1, 2] if op == "ne" else [])
    huge = event(0, size=("float", "nan"))
    for op in COMPARE:
        assert matches(on("traits.size", op, "5", "float"), huge) == ([0] if op == "ne" else [])


def test_numbers_that_a_float_cannot_tell_apart_are_told_apart() -> None:
    events = event(0, size=("integer", str(2**53))), event(1, size=("integer", str(2**53 + 1)))
    assert matches(on("traits.size", "eq", str(2**53 + 1), "integer"), *events) == [1]


def test_all_conditions_have_to_hold() -> None:
    events = event(0, a="1", b="2"), event(1, a="1"), event(2, b="2")
    both = Interest("*", (Trait("traits.a", "eq", "1"), Trait("traits.b", "ne", "3")))
    assert matches(both, *events) == [0, 1]


def test_a_tenant_sees_the_events_of_its_project() -> None:
    events = event(0, project_id="p"), event(1, tenant_id="p"), event(2, project_id="q", tenant_id="p"), event(3)
    assert matches(Interest("*", project_id="p"), *events) == [0, 1]
    assert matches(Interest("*"), *events) == [0, 1, 2, 3]


def test_pairs_come_in_the_order_of_events() -> None:
    interests = [Interest("*"), Interest("b"), Interest("*")]
    events, of = Matcher(interests).pairs(table(event(0, "a"), event(1, "b")))
    assert list(zip(events.tolist(), of.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    active = np.array([False, True, True])
    events, of = Matcher(interests).pairs(table(event(0, "a"), event(1, "b")), active)
    assert list(zip(events.tolist(), of.tolist(), strict=True)) == [(0, 2), (1, 1), (1, 2)]


def test_no_events_and_no_interests_are_no_pairs() -> None:
    assert [each.tolist() for each in Matcher([Interest("*")]).pairs(EVENTS.empty_table())] == [[], []]
    assert [each.tolist() for each in Matcher([]).pairs(table(event()))] == [[], []]
    without_traits = {**event(), "traits": None, "generated": None}
    assert matches(on("traits.a", "ne", "1"), without_traits) == [0]
    assert matches(on("generated", "gt", "2026-01-01", "datetime"), without_traits) == []


def test_an_event_is_described_as_it_is_told() -> None:
    told = described(table(event(3, size=("integer", "9"))), 0)
    assert told == {
        "message_id": "message-3",
        "event_type": "compute.instance.create.end",
        "generated": "2026-11-22T00:00:03+00:00",
        "traits": [["size", "integer", "9"]],
    }


# -- as one by one ------------------------------------------------------------------------------------------


def number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return None if found != found else found


def moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC)


def flag(text: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())


READ: dict[str, Any] = {"number": number, "datetime": moment, "boolean": flag, "text": str}
KIND = {"string": "text", "text": "text", "integer": "number", "float": "number"}


def met(row: dict[str, Any], interest: Interest) -> bool:
    """Whether one event meets one interest."""
    held = {}
    for each in reversed(row["traits"]):
        held[each["name"]] = each["dtype"], each["value"]
    if not fnmatchcase(row["event_type"], interest.event_type):
        return False
    if interest.project_id is not None:
        own = held.get("project_id") or held.get("tenant_id")
        if own is None or own[1] != interest.project_id:
            return False
    for condition in interest.query:
        if condition.field == "message_id":
            trait = "text", row["message_id"]
        else:
            trait = held.get(condition.field.removeprefix("traits."), ("none", ""))
        wanted, there = KIND.get(condition.type, condition.type), KIND.get(trait[0], trait[0])
        kind = wanted if there == "text" else there if wanted == "text" or wanted == there else None
        if wanted == "boolean" and trait[0] == "integer":
            kind = "boolean"
        read = READ.get(kind or "", lambda text: None)
        one, other = read(trait[1]), read(condition.value)
        holds = condition.op == "ne" if one is None or other is None else COMPARE[condition.op](one, other)
        if not holds:
            return False
    return True


VALUES = {
    "text": st.sampled_from(["a", "b", "", "7", "8.5", "true", "2026-11-22T10:00:00+00:00"]),
    "integer": st.integers(-3, 9).map(str),
    "float": st.sampled_from(["-1.5", "7.0", "8.5", "inf", "nan"]),
    "datetime": st.sampled_from(["2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00.000001+00:00"]),
}
TRAITS = st.sampled_from(sorted(VALUES)).flatmap(lambda dtype: st.tuples(st.just(dtype), VALUES[dtype]))
NAMES = ("x", "y", "project_id", "tenant_id")
ROWS = st.lists(
    st.tuples(st.sampled_from(["a.b", "a.c", "b", "[a]"]), st.dictionaries(st.sampled_from(NAMES), TRAITS)), max_size=12
)
OF_TYPE = {
    "string": st.one_of(*(VALUES[name] for name in ("text", "integer", "datetime"))),
    "integer": VALUES["integer"],
    "float": VALUES["float"],
    "boolean": st.sampled_from(["true", "False", "0", "1"]),
    "datetime": VALUES["datetime"],
}
CONDITIONS = st.sampled_from(sorted(OF_TYPE)).flatmap(
    lambda kind: st.builds(
        Trait,
        st.sampled_from(["traits.x", "traits.y", "message_id", "traits.project_id"]),
        st.sampled_from(sorted(COMPARE)),
        OF_TYPE[kind],
        st.just(kind),
    )
)
INTERESTS = st.lists(
    st.builds(
        Interest,
        st.sampled_from(["*", "a.*", "b", "a.?", "[[]a]", "[!a]*"]),
        st.lists(CONDITIONS, max_size=3).map(tuple),
        st.sampled_from([None, None, "a", "7"]),
    ),
    max_size=8,
)


@given(ROWS, INTERESTS)
@settings(max_examples=150, deadline=None)
def test_set_wise_matching_is_matching_one_by_one(
    rows: list[tuple[str, dict[str, tuple[str, str]]]], interests: list[Interest]
) -> None:
    events = [event(number, kind, **traits) for number, (kind, traits) in enumerate(rows)]
    expected = [(n, of) for n, row in enumerate(events) for of, interest in enumerate(interests) if met(row, interest)]
    found = Matcher(interests).pairs(table(*events))
    assert list(zip(*(each.tolist() for each in found), strict=True)) == expected


@pytest.mark.parametrize("cells", [1, 40])
def test_bounded_pieces_find_the_same(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    events = table(*(event(n, "ab"[n % 2], x=("integer", str(n % 7))) for n in range(100)))
    interests = [Interest("a", (Trait("traits.x", "ge", str(n), "integer"),)) for n in range(7)]
    whole = Matcher(interests).pairs(events)
    for name in ("PAIRS_AT_ONCE", "CELLS"):
        monkeypatch.setattr(f"meterhouse.alarms.evaluation.event_matching.{name}", cells)
    pieces = Matcher(interests).pairs(events)
    assert [each.tolist() for each in pieces] == [each.tolist() for each in whole]
