"""Files of prices and of hashmap rules with any mistake: an error that says where, never a traceback."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any, TypeVar

import pytest
import yaml
from examples import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from months import Binary, Month

from meterhouse.billing.counting import unit_of
from meterhouse.billing.rating import rate
from meterhouse.definitions import prices
from meterhouse.definitions.hashmap import imported
from meterhouse.errors import DefinitionError

GOOD = yaml.safe_load((ROOT / "docs/examples/prices.yaml").read_text("utf-8"))
RULES = {
    "services": [{"service_id": "s", "name": "instance"}, {"service_id": "v", "name": "volume.size"}],
    "fields": [{"field_id": "f", "service_id": "s", "name": "flavor"}],
    "groups": [{"group_id": "g", "name": "uptime"}],
    "mappings": [
        {
            "mapping_id": "1",
            "field_id": "f",
            "value": "a",
            "type": "flat",
            "cost": "0.5",
            "group_id": "g",
            "tenant_id": None,
        },
        {
            "mapping_id": "2",
            "service_id": "v",
            "value": None,
            "type": "rate",
            "cost": 2,
            "tenant_id": "q",
            "start": None,
        },
    ],
    "thresholds": [{"threshold_id": "3", "service_id": "v", "level": "10", "type": "flat", "cost": "1"}],
    "metrics": {
        "cpu": {"unit": "instance", "alt_name": "instance", "mutate": "NUMBOOL", "factor": 1, "offset": 0},
        "volume.size": [{"unit": "GiB", "factor": "1/1"}],
    },
}
Made = TypeVar("Made")
ODD = st.one_of(
    st.sampled_from(
        [
            *(None, True, 0, -1, 10**400, 0.1 + 0.2, float("nan"), float("inf"), 1e300, 5e-324, "", " ", "x" * 300),
            *("\x00", "\ud800", "!", "[", "*" * 50, "1/0", "nan", "2026-02-30", "24:00", "{}", [], {}, [[]], [None]),
            *(
                date(1, 1, 1),
                date(9999, 12, 31),
                datetime(2026, 11, 1),
                {"a": {"b": []}},
                {1: 2},
                {"from": 1, "below": 2},
            ),
        ]
    ),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in it."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def damaged(content: Any, changes: list[tuple[int, Any]]) -> Any:
    made = copy.deepcopy(content)
    for number, odd in changes:
        paths = list(places(made))
        if not paths:
            continue
        *outer, last = paths[number % len(paths)]
        inner = made
        for key in outer:
            inner = inner[key]
        inner[last] = copy.deepcopy(odd)
    return made


def attempt(make: Callable[[], Made]) -> tuple[Made | None, str]:
    """What is made, or why it is not."""
    try:
        return make(), ""
    except DefinitionError as error:
        return None, str(error)


CHANGES = st.lists(st.tuples(st.integers(0, 10_000), ODD), min_size=1, max_size=3)
MONTH = Month().has("i", "1", "3", vcpus=2, memory_mib=512, flavor="a", metadata={"os": "windows"})
MONTH.has("v", "1", "3", "volume", size_gib=5, flavor="ssd").counted("n", "1", 5, meter="network.outgoing.bytes")


@settings(max_examples=60)
@given(CHANGES)
def test_a_damaged_file_of_prices_has_faults_with_lines_and_rates_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, Any]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "prices.yaml"
    path.write_bytes(yaml.safe_dump(damaged(GOOD, changes), allow_unicode=False).encode("utf-8", "backslashreplace"))
    made, refused = attempt(lambda: prices.read(path))
    if made is None:
        assert refused.startswith(str(path))
        return
    assert all(each.where.startswith(f"{path}:") for each in made.faults)
    assert all(each.costs and unit_of(each) for each in made.prices)
    assert prices.gaps(made.prices) is not None
    done = rate(MONTH, made, "2026-11", Binary())
    assert done.lines.num_rows >= 0
    assert all(each.is_for for each in made.prices)


@settings(max_examples=60)
@given(CHANGES)
def test_damaged_hashmap_rules_are_named_and_the_rest_becomes_prices(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, Any]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "rules.json"
    path.write_text(json.dumps(damaged(RULES, changes), default=str))
    found, refused = attempt(lambda: imported([path]))
    if found is None:
        assert str(path) in refused
        return
    content = yaml.safe_dump({"currency": "EUR", "prices": found.entries})
    (path.parent / "prices.yaml").write_bytes(content.encode("utf-8", "backslashreplace"))
    assert not [each for each in prices.read(path.parent / "prices.yaml").faults if "on line" not in str(each)]
