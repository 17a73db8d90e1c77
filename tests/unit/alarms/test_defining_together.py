"""Many define alarms at once: each entry of the history has its number, nothing is lost, quotas hold."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from builders import warehouse_rows

from meterhouse.alarms.keeping import managed, quotas
from meterhouse.alarms.keeping.callers import OPERATOR, Caller
from meterhouse.alarms.keeping.finding import AlarmId
from meterhouse.alarms.keeping.states import alarm_list, history
from meterhouse.errors import MeterhouseError, OverQuota, UnknownName
from meterhouse.site import Site

ANN = Caller("ann", "p1")
RULE = {"meter_name": "m", "threshold": 50, "comparison_operator": "gt", "period": 300}

T = TypeVar("T")


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "threshold", "threshold_rule": RULE, **more}


def together(work: Callable[[int], T], count: int) -> tuple[list[T], list[MeterhouseError]]:
    """The results of work that several threads do at once, and what it raised."""
    done: list[T] = []
    faults: list[MeterhouseError] = []

    def one(number: int) -> None:
        try:
            done.append(work(number))
        except MeterhouseError as error:
            faults.append(error)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))
    return done, faults


def numbers(site: Site) -> Sequence[int]:
    return [row[0] for row in warehouse_rows(site, "SELECT sequence FROM alarm_history ORDER BY sequence")]


def test_each_entry_has_the_next_number_and_no_change_is_lost(any_warehouse: Site) -> None:
    site = any_warehouse
    shared = AlarmId(managed.create(site, entry("shared"), ANN)["alarm_id"])

    def work(number: int) -> None:
        own = AlarmId(managed.create(site, entry(f"own-{number}"), ANN)["alarm_id"])
        managed.change(site, shared, {"description": f"by {number}"}, ANN)
        managed.set_state(site, own, "alarm", ANN)
        managed.remove(site, own, ANN)

    _, faults = together(work, 16)
    assert faults == []
    assert numbers(site) == list(range(1, 1 + 16 * 4 + 1))
    kinds = [each["type"] for each in history(site, shared.value, 100, OPERATOR)]
    assert kinds == ["rule change"] * 16 + ["creation"]
    (left,) = alarm_list(site, OPERATOR)
    newest = history(site, shared.value, 1, OPERATOR)[0]["detail"]
    assert f'"{left["definition"]["description"]}"' in newest


def test_an_alarm_is_deleted_once(any_warehouse: Site) -> None:
    shared = AlarmId(managed.create(any_warehouse, entry("shared"), ANN)["alarm_id"])
    done, faults = together(lambda _: managed.remove(any_warehouse, shared, ANN), 8)
    assert done == [shared.value]
    assert {type(fault) for fault in faults} == {UnknownName}
    kinds = [each["type"] for each in history(any_warehouse, shared.value, 100, OPERATOR)]
    assert kinds == ["deletion", "creation"]


def test_a_quota_holds(any_warehouse: Site) -> None:
    quotas.set_quota(any_warehouse, "p1", 5, OPERATOR)
    done, faults = together(lambda number: managed.create(any_warehouse, entry(str(number)), ANN), 16)
    assert len(done) == len(alarm_list(any_warehouse, OPERATOR)) == 5
    assert {type(fault) for fault in faults} == {OverQuota}


@pytest.mark.parametrize("role", [ANN, OPERATOR])
def test_no_circle_is_closed_from_both_sides(any_warehouse: Site, role: Caller) -> None:
    one, two, other = (managed.create(any_warehouse, entry(name), role)["alarm_id"] for name in "abc")

    def combine(number: int) -> None:
        made, part = ((one, two), (two, one))[number]
        rule = {"alarm_ids": [part, other]}
        given = {"name": "c", "type": "combination", "combination_rule": rule}
        managed.change(any_warehouse, AlarmId(made), given, role, whole=True)

    _, faults = together(combine, 2)
    assert ["combines itself" in str(fault) for fault in faults] == [True]
