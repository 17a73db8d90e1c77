"""What things were called, and what they were, in SQL alone: the same on SQLite and PostgreSQL."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import NOON, at, drop, notification, polled, polling, process, roll_up
from sqlalchemy import insert, text

from meterhouse.queries.sql import sql_on_warehouse
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import UtcTime, resource_periods
from meterhouse.times import EPOCH
from meterhouse.usage.names_sync import sync


def answer(site: Site, query: str) -> list[tuple[Any, ...]]:
    with site.warehouse.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def add_period(site: Site, resource: str, start: datetime, end: datetime | None, **more: Any) -> None:
    known = {
        "resource_type": "instance",
        "resource_id": resource,
        "started_at": start,
        "ended_at": end,
        "source": "openstack",
        "start_witness": "event",
        "start_earliest": start,
        "start_latest": start,
        "confirmed_until": end or start,
        "confirmed_by": "events",
        "unconfirmed": end is None,
    }
    with site.warehouse.begin() as connection:
        connection.execute(insert(resource_periods).values({**known, **more}))


def land(site: Site, *messages: dict[str, Any]) -> None:
    drop(site.settings.spool, f"{messages[0]['message_id']}.jsonl", messages)
    process(site)
    sync(site)


BY_FLAVOR_AND_NAME = """
SELECT coalesce(n.name, p.project_id) AS project, p.flavor,
    sum(p.vcpus * (epoch_us(p.ended_at) - epoch_us(p.started_at))) / 3600000000 AS hours
FROM resource_periods AS p
LEFT JOIN name_history AS n ON n.kind = 'project' AND n.id = p.project_id
    AND p.started_at >= n.valid_from AND (n.valid_to IS NULL OR p.started_at < n.valid_to)
GROUP BY n.name, p.project_id, p.flavor ORDER BY p.flavor, project
"""


def test_usage_by_flavor_and_name_of_the_time(any_warehouse: Site) -> None:
    site = any_warehouse
    add_period(site, "i1", at(), at(hours=2), project_id="p1", flavor="m1.small", vcpus=1.0)
    add_period(site, "i1", at(hours=2), at(hours=5), project_id="p1", flavor="m1.large", vcpus=4.0)
    add_period(site, "i2", at(hours=1), at(hours=1.5), project_id="p2", flavor="m1.small", vcpus=1.0)
    for message_id, hours, name in (("1", -1, "Old"), ("2", 2, "New")):
        context = {"_context_project_id": "p1", "_context_project_name": name}
        land(site, notification(message_id, timestamp=at(hours=hours).isoformat(), **context))
    assert answer(site, BY_FLAVOR_AND_NAME) == [
        ("New", "m1.large", 12.0),
        ("Old", "m1.small", 2.0),
        ("p2", "m1.small", 0.5),
    ]


BY_KEY = """
SELECT m.value, sum(
    epoch_us(CASE WHEN m.valid_to < p.ended_at THEN m.valid_to ELSE p.ended_at END)
    - epoch_us(CASE WHEN m.valid_from > p.started_at THEN m.valid_from ELSE p.started_at END)
) / 1000000 AS seconds
FROM resource_periods AS p
JOIN resource_metadata_history AS m ON m.source = p.source AND m.resource_id = p.resource_id
    AND m.valid_from < p.ended_at AND (m.valid_to IS NULL OR m.valid_to > p.started_at)
WHERE m.key = 'metadata.cost_center'
GROUP BY m.value ORDER BY m.value
"""


def test_usage_by_a_metadata_key_of_the_time(any_warehouse: Site) -> None:
    site = any_warehouse
    add_period(site, "i1", at(-0.5), at(60), project_id="p1")
    samples = [
        polled(1.0, at(minutes), resource="i1", resource_metadata={"metadata": {"cost_center": center}})
        for minutes, center in ((0, "4711"), (10, "4711"), (20, "0815"), (30, "0815"))
    ]
    land(site, polling("1", samples))
    roll_up(site)
    # Until 20 minutes the first, which also stands for the half minute before it was known.
    assert answer(site, BY_KEY) == [("0815", 40 * 60), ("4711", 20.5 * 60)]


def test_a_key_that_only_some_series_have_holds_until_one_of_them_lacks_it(any_warehouse: Site) -> None:
    site = any_warehouse
    samples = [
        polled(1.0, at(minutes), resource="i1", meter=meter, resource_metadata=given)
        for minutes, meter, given in (
            (0, "memory.usage", {"center": "4711", "host": "h1"}),
            (10, "vcpus", {"flavor": "m1.small"}),  # from a notification: says nothing of the center
            (15, "memory.usage", {"center": "4711", "host": "h2"}),
            (20, "cpu", {"center": "0815", "host": "h2"}),
            (25, "memory.usage", {"center": "0815", "host": "h2"}),
            (30, "vcpus", {"flavor": "m1.large"}),
            (40, "memory.usage", {"host": "h2"}),  # it was taken away
            (50, "memory.usage", {"center": "9", "host": "h2"}),
        )
    ]
    land(site, polling("1", samples))
    roll_up(site)
    query = "SELECT key, value, valid_from, valid_to FROM resource_metadata_history WHERE resource_id = 'i1'"
    with site.warehouse.read() as connection:
        statement = text(query).columns(valid_from=UtcTime, valid_to=UtcTime)
        found = sorted(tuple(row) for row in connection.execute(statement))
    assert [row for row in found if row[0] == "center"] == [
        ("center", "0815", at(20), at(40)),
        ("center", "4711", EPOCH, at(20)),
        ("center", "9", at(50), None),
    ]
    assert [row for row in found if row[0] == "flavor"] == [
        ("flavor", "m1.large", at(30), None),
        ("flavor", "m1.small", EPOCH, at(30)),
    ]
    assert [row for row in found if row[0] == "host"] == [("host", "h1", EPOCH, at(15)), ("host", "h2", at(15), None)]


def test_metadata_is_one_row_a_key_however_it_is_nested(any_warehouse: Site) -> None:
    site = any_warehouse
    given = {
        "flavor": {"name": "m1.small", "vcpus": 1, "extra specs": {"hw:cpu": "shared"}},
        "networks": ["net1", {"name": "net2"}],
        "on": True,
        "off": False,
        "share": 0.5,
        "nothing": None,
        "empty": {},
        "text": 'a "quoted" text',
    }
    land(site, polling("1", [polled(1.0, resource="i1", resource_metadata=given)]))
    roll_up(site)
    found = dict(answer(site, "SELECT key, value FROM resource_metadata_history WHERE resource_id = 'i1'"))
    assert found == {
        "flavor.name": "m1.small",
        "flavor.vcpus": "1",
        "flavor.extra specs.hw:cpu": "shared",
        "networks.0": "net1",
        "networks.1.name": "net2",
        "on": "true",
        "off": "false",
        "share": "0.5",
        "text": 'a "quoted" text',
    }


@pytest.mark.parametrize("body", ["[]", '"text"', "3", "{}", "null"])
def test_metadata_that_is_no_object_has_no_keys(any_warehouse: Site, body: str) -> None:
    site = any_warehouse
    with site.warehouse.begin() as connection:
        connection.execute(text("INSERT INTO resource_metadata VALUES (1, :body)"), {"body": body})
        connection.execute(text("INSERT INTO resource_metadata VALUES (2, :body)"), {"body": json.dumps({"a": body})})
    assert answer(site, "SELECT metadata_id, key FROM resource_metadata_keys") == [(2, "a")]


def test_the_command_runs_them_too(any_warehouse: Site) -> None:
    site = any_warehouse
    context = {"_context_project_id": "p1", "_context_project_name": "Shop"}
    land(site, notification("1", timestamp=(NOON - timedelta(days=1)).isoformat(), **context))
    assert sql_on_warehouse(site, "SELECT name FROM names_now WHERE id = 'p1'") == (["name"], [("Shop",)])
    keys = "SELECT count(*) AS keys FROM resource_metadata_history"
    assert sql_on_warehouse(site, keys) == (["keys"], [(0,)])
