"""What things were called, and what they were, in SQL alone: the same on SQLite and PostgreSQL."""

import json
from datetime import timedelta
from typing import Any

import pytest
from builders import NOON, drop, notification, polled, polling, process, roll_up
from sqlalchemy import text

from meterhouse.queries.sql import sql_on_warehouse
from meterhouse.site import Site
from meterhouse.usage.names_sync import sync


def answer(site: Site, query: str) -> list[tuple[Any, ...]]:
    with site.warehouse.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def land(site: Site, *messages: dict[str, Any]) -> None:
    drop(site.settings.spool, f"{messages[0]['message_id']}.jsonl", messages)
    process(site)
    sync(site)


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
