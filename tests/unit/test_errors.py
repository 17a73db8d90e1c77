"""Errors: what they say is near."""

import pytest

from meterhouse.errors import MeterhouseError, UnknownKeyword, UnknownName, UsageError, near_misses

METERS = ["cpu", "cpu_util", "cpu.delta", "disk.cpu_wait", "memory", "memory.usage", "network.incoming.bytes", "vcpus"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cpu_", ["cpu_util", "cpu", "vcpus", "disk.cpu_wait"]),
        ("mem", ["memory", "memory.usage"]),
        ("MEM", ["memory", "memory.usage"]),
        ("memroy", ["memory", "memory.usage"]),
        ("bytes", ["network.incoming.bytes"]),
        ("qqqq", []),
        ("", []),
    ],
)
def test_what_starts_with_it_comes_first_then_what_is_similar_then_what_contains_it(
    name: str, wanted: list[str]
) -> None:
    assert near_misses(name, METERS)[: len(wanted)] == wanted if wanted else near_misses(name, METERS) == []


def test_at_most_five_are_named() -> None:
    known = [f"meter.{n}" for n in range(100)]
    assert near_misses("meter", known) == sorted(known)[:5]
    assert str(UnknownName("meter", "m", known)).count("meter.") == 5


def test_a_name_of_the_code_is_a_usage_error_and_a_name_of_the_data_is_not() -> None:
    field = UnknownKeyword("field", "volum", ["volume", "unit"])
    assert isinstance(field, UsageError)
    assert isinstance(field, UnknownName)
    assert str(field) == "unknown field 'volum'. Did you mean volume?"
    assert str(UnknownKeyword("field", "zzz", ["volume", "unit"])) == "unknown field 'zzz'. Known: volume, unit"
    meter = UnknownName("meter", "cpu", [])
    assert isinstance(meter, MeterhouseError)
    assert not isinstance(meter, UsageError)
    assert str(meter) == "unknown meter 'cpu'. There is no meter yet"
