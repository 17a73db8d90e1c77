"""A restored lake or warehouse: the periods catch up, or say that one command is needed, which recovers them."""

from typing import Any

import pytest
from builders import at, rows, warehouse_rows
from restores import copy_lake, copy_warehouse, put_lake, put_warehouse
from usage_messages import audit, created, deleted, land

from meterhouse.doctor import findings_of
from meterhouse.errors import WentBack
from meterhouse.mending.mend import mend
from meterhouse.site import Site
from meterhouse.usage.periods import compute


def one(site: Site) -> None:
    land(site, created("i1", at(days=-30)), created("i2", at()))
    compute(site)


def two(site: Site) -> None:
    land(site, audit("i1"), deleted("i2", at(days=2)), created("i3", at(days=-12)))
    compute(site)


def state(site: Site) -> Any:
    columns = "resource_id, effect, said_at, message_id, project_id, vcpus"
    return (
        rows(site, "evidence", columns),
        warehouse_rows(site, "SELECT * FROM resource_periods ORDER BY 1, 2, 3"),
        rows(site, "resource_states", "event_day, resource_id, state"),
    )


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "deleted"])
def test_periods_of_an_older_warehouse_catch_up_by_themselves(any_warehouse: Site, restored: bool) -> None:
    one(any_warehouse)
    before = copy_warehouse(any_warehouse)
    two(any_warehouse)
    wanted = state(any_warehouse)
    site = put_warehouse(any_warehouse, before if restored else {})
    compute(site)
    assert state(site) == wanted


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "deleted"])
@pytest.mark.parametrize("table", ["evidence", "notifications"])
def test_a_table_that_went_back_is_told_of_and_one_command_recovers(site: Site, table: str, restored: bool) -> None:
    one(site)
    before = copy_lake(site, f"tables/{table}")
    two(site)
    wanted = state(site)
    site = put_lake(site, before if restored else {}, f"tables/{table}")
    with pytest.raises(WentBack, match=f"{table} went back.*meterhouse doctor --mend"):
        compute(site)
    assert [each.state for each in findings_of(site, "history")] == ["failed"]
    found = mend(site)
    assert not [row for row in found if row["state"] == "failed"], found
    assert [each.state for each in findings_of(site, "history")] == ["ok"]
    assert state(site) == wanted  # also what lost notifications have said
    assert {row["state"] for row in mend(site)} == {"ok"}


def test_notifications_that_went_back_and_were_written_since_are_each_read_once(site: Site) -> None:
    one(site)
    before = copy_lake(site, "tables/notifications")
    two(site)
    site = put_lake(site, before, "tables/notifications")
    for number in range(3):
        land(site, created(f"n{number}", at(days=3)))
    with pytest.raises(WentBack, match="notifications went back, and was written since"):
        compute(site)
    mend(site)
    found = [row["message_id"] for row in rows(site, "evidence", "message_id")]
    assert sorted(found) == sorted(set(found))
    assert {"create-n0", "create-n1", "create-n2", "create-i1", "delete-i2"} <= set(found)


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "deleted"])
def test_a_lake_that_went_back_has_the_periods_of_what_it_has(site: Site, restored: bool) -> None:
    one(site)
    wanted, before = state(site), copy_lake(site)
    two(site)
    site = put_lake(site, before if restored else {})
    with pytest.raises(WentBack):
        compute(site)
    mend(site)
    assert state(site)[:2] == (wanted[:2] if restored else ([], []))
    two(site)
    assert compute(site).changed == 0


def test_states_that_went_back_change_nothing(site: Site) -> None:
    one(site)
    before = copy_lake(site, "tables/resource_states")
    two(site)
    wanted = state(site)
    site = put_lake(site, before, "tables/resource_states")
    assert compute(site).changed == 0
    land(site, audit("i3", at(days=-11)))
    compute(site)
    assert [row[1] for row in state(site)[1]] == [row[1] for row in wanted[1]]
