"""Schema drift: a path that used to find a value and no longer does is counted and shown."""

import pytest
from builders import drop, notification, process
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.conversion.drift import drifted, forget, has_drifted
from meterhouse.definitions.use import Use, use_of
from meterhouse.site import Site


def exists(number: int, **payload: object) -> dict[str, object]:
    given = {"instance_id": f"i-{number % 5}", "tenant_id": "p-1", "memory_mb": 512, "vcpus": 1, **payload}
    return notification(f"n-{number}", payload={key: value for key, value in given.items() if value is not None})


@given(st.lists(st.lists(st.sampled_from([None, 0, "", 1]), max_size=9), max_size=6))
def test_the_use_of_a_path_is_counted_the_same_however_messages_are_cut_into_batches(batches):
    use = Use()
    for batch in batches:
        use.add(use_of(batch, frozenset(map(type, batch))))
    whole = [value for batch in batches for value in batch]
    there = [at for at, value in enumerate(whole) if value is not None]
    assert use == Use(len(whole), len(there), len(whole) - 1 - there[-1] if there else len(whole))


@pytest.mark.parametrize(
    ("messages", "found", "missed", "expected"),
    [
        (1000, 990, 10, True),  # always found, then never
        (1000, 991, 9, False),  # too few misses
        (1000, 0, 1000, False),  # never found: a mistake in the definition, not drift
        (1000, 100, 20, False),  # found in every tenth message: twenty misses in a row can be chance
        (1000, 100, 200, True),
        (30, 1, 29, False),
    ],
)
def test_a_path_has_drifted_if_chance_does_not_explain_its_misses(messages, found, missed, expected):
    assert has_drifted(messages, found, missed) is expected


def test_a_field_that_a_service_renames_is_shown(site: Site) -> None:
    drop(site.settings.spool, "before.jsonl", [exists(number) for number in range(40)])
    process(site)
    assert drifted(site) == []
    renamed = [exists(number, memory_mb=None, memory_mib=512) for number in range(40, 60)]
    drop(site.settings.spool, "after.jsonl", renamed)
    process(site)
    found = {path.reader: path for path in drifted(site)}
    assert set(found) == {"event", "meter"}
    for path in found.values():
        assert (path.event_type, path.found, path.of, path.missed) == ("compute.instance.exists", 40, 40, 20)
        assert path.path.removeprefix("$.") == "payload.memory_mb"


def test_a_path_that_finds_a_value_again_has_not_drifted(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [exists(number) for number in range(40)])
    drop(site.settings.spool, "b.jsonl", [exists(number, memory_mb=None) for number in range(40, 60)])
    drop(site.settings.spool, "c.jsonl", [exists(60)])
    process(site)
    assert drifted(site) == []


def test_counts_start_again_after_they_are_forgotten(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [exists(number) for number in range(40)])
    drop(site.settings.spool, "b.jsonl", [exists(number, memory_mb=None) for number in range(40, 60)])
    process(site)
    assert drifted(site)
    assert forget(site, "no.such.type") == 0
    assert forget(site, "compute.instance.exists") > 0
    assert drifted(site) == []
