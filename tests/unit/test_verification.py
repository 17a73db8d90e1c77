"""What `meterhouse verify` sent is in no list and no report, unless a query names it."""

from collections.abc import Sequence
from typing import Any

from builders import at, drop, notification, polled, polling, process, rows
from hypothesis import given
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.conversion.convert import Converter
from meterhouse.definitions.loading import load
from meterhouse.filters import EVENTS, RESOURCES, SERIES, Condition, Filter, Not, OneOf, all_of
from meterhouse.filters import SAMPLES as SAMPLE_FIELDS
from meterhouse.queries import reports
from meterhouse.queries.events import events
from meterhouse.queries.meters import meter_list, meter_span
from meterhouse.queries.resources import resource, resource_list
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import statistics
from meterhouse.recompute import backfill
from meterhouse.scopes import ALL_EVENTS, EVERYTHING, EventScope, Scope
from meterhouse.site import Site
from meterhouse.verification import VERIFY, VERIFY_EVENT, VERIFY_METER

CLOUD = [
    polled(2.0, at(1)),
    polled(3.0, at(2)),
    polled(9e9, at(3)),  # excluded
    polled(64.0, at(4), meter="capacity.vcpus", resource="nova"),
]
MARKED = [
    polled(50.0, at(1), source=VERIFY, resource="v1"),
    polled(9e9, at(2), source=VERIFY, resource="v1"),
    polled(7.0, at(3), source=VERIFY, meter="meterhouse.verify.polled", resource="v1"),
    polled(1.0, at(50), source=VERIFY, meter="capacity.vcpus", resource="nova"),
]


def sent(**payload: Any) -> dict[str, Any]:
    """The notification of `meterhouse verify`."""
    return notification(
        "mine",
        VERIFY_EVENT,
        publisher_id=f"{VERIFY}.host1",
        payload={"volume": 1.0, "resource_id": "v1", "run": "r", "tenant_id": "p1", "user_id": "u1", **payload},
    )


def fill(site: Site, *messages: dict[str, Any]) -> Site:
    drop(site.settings.spool, "cloud.jsonl", [notification("theirs"), polling("polls", CLOUD), *messages])
    process(site)
    return site


def asked(fields: Any) -> list[Condition]:
    return [Filter("source", "eq", VERIFY, fields)]


def sources(table: Sequence[dict[str, Any]]) -> set[str]:
    return {row["source"] for row in table}


def test_lists_leave_out_what_verify_sent_unless_it_is_named(site: Site) -> None:
    fill(site, sent(), polling("marked", MARKED))
    assert {row["meter"] for row in meter_list(site, EVERYTHING)} == {"cpu_util", "capacity.vcpus"}
    assert {row["resource_id"] for row in resource_list(site, EVERYTHING)} == {"r1", "nova"}
    mine = resource_list(site, EVERYTHING, query=asked(RESOURCES))
    assert {(row["source"], row["resource_id"]) for row in mine} == {(VERIFY, "v1"), (VERIFY, "nova")}
    assert resource(site, EVERYTHING, "v1")["source"] == VERIFY
    assert sources(samples(site, EVERYTHING, "cpu_util").to_pylist()) == {"openstack"}
    assert samples(site, EVERYTHING, "cpu_util", query=asked(SAMPLE_FIELDS)).num_rows == 2
    both: list[Condition] = [OneOf("source", ("openstack", VERIFY), SAMPLE_FIELDS)]
    assert sources(samples(site, EVERYTHING, "cpu_util", query=both).to_pylist()) == {"openstack", VERIFY}
    assert meter_span(site, EVERYTHING, "meterhouse.verify.polled") == (at(3), at(3))
    assert samples(site, EVERYTHING, "meterhouse.verify.polled").num_rows == 0
    (row,) = statistics(site, EVERYTHING, "cpu_util")
    assert (row["count"], row["max"]) == (2, 3.0)
    (row,) = statistics(site, EVERYTHING, "cpu_util", query=asked(SERIES))
    assert (row["count"], row["max"]) == (1, 50.0)
    (row,) = statistics(site, EVERYTHING, VERIFY_METER, query=asked(SERIES))
    assert row["count"] == 1
    for scope in (ALL_EVENTS, EventScope("p1", "u1")):
        assert set(events(site, scope)["event_type"].to_pylist()) == {"compute.instance.exists"}
        for query in ([Filter("event_type", "eq", VERIFY_EVENT, EVENTS)], [Filter("message_id", "eq", "mine", EVENTS)]):
            assert events(site, scope, query=query)["message_id"].to_pylist() == ["mine"]
        assert events(site, scope, event_type=f"{VERIFY_EVENT}*").num_rows == 1


def test_a_scope_holds_whoever_names_verify(site: Site) -> None:
    fill(site, sent(), polling("marked", MARKED))
    other = Scope("p2")
    assert resource_list(site, other, query=asked(RESOURCES)) == []
    assert events(site, EventScope("p2", "u1"), event_type=VERIFY_EVENT).num_rows == 0
    assert samples(site, Scope("p1"), "cpu_util", query=[Not(asked(SAMPLE_FIELDS)[0])]).num_rows == 3


def test_a_scope_takes_nothing_from_the_size_of_a_query() -> None:
    many: list[Condition] = [OneOf("resource", tuple(f"r{n}" for n in range(1000)), SERIES)]
    deep: Condition = Filter("resource", "eq", "r1", SERIES)
    while deep.size.depth < 32:
        deep = Not(deep)
    for query in (many, [deep]):
        assert all_of(Scope("p1").within(query, SERIES)).size == all_of(query).size


@given(st.lists(st.sampled_from(["shop", "", "x"]), min_size=1))
def test_only_a_comparison_with_its_source_names_verify(values: list[str]) -> None:
    query: list[Condition] = [Filter("source", "eq", value, SERIES) for value in values]
    assert len(EVERYTHING.within(query, SERIES)) == len(query) + 1
    assert EVERYTHING.within([*query, *asked(SERIES)], SERIES) == [*query, *asked(SERIES)]


def test_reports_are_the_same_whether_verify_has_run(open_site: Any) -> None:
    before, after = fill(open_site()), fill(open_site(), sent(), polling("marked", MARKED))
    found = {name: reports.run(before, name, at(hours=-12), at(hours=12)) for name in reports.names()}
    assert found["quality_by_day_and_rule"]
    assert found["lateness"]
    for name, expected in found.items():
        without = [{key: value for key, value in row.items() if "seconds" not in key} for row in expected]
        again = reports.run(after, name, at(hours=-12), at(hours=12))
        assert [{key: value for key, value in row.items() if "seconds" not in key} for row in again] == without


def test_whatever_a_publisher_of_its_name_sends_is_marked(site: Site) -> None:
    payload = {"instance_id": "i1", "tenant_id": "p1", "user_id": "u1", "vcpus": 2, "state": "active"}
    message = notification("n", "compute.instance.create.end", publisher_id="meterhouse-verify.h", payload=payload)
    fill(site, message, {**message, "message_id": "m", "publisher_id": "compute.h"}, sent())
    found = {(row["meter"], row["source"]) for row in rows(site, "samples", "DISTINCT meter, source")}
    assert {source for meter, source in found if meter == "vcpus"} == {"openstack", VERIFY}
    assert (VERIFY_METER, VERIFY) in found
    (shown,) = Converter(load(None)).samples_line(sent())["samples"]
    assert (shown["source"], shown["volume"], shown["metadata"]) == (VERIFY, 1.0, {"run": "r"})


def test_posted_samples_say_so_and_are_converted_again(site: Site) -> None:
    posted = notification("posted", "telemetry.api", priority="SAMPLE", payload={"samples": [polled(5.0, at(9))]})
    fill(site, posted, polling("more", [polled(6.0, at(10))]))
    found = [(row["volume"], row["origin"]) for row in rows(site, "samples", "volume, origin", order="timestamp")]
    assert (5.0, "posted") in found
    assert [origin for volume, origin in found if volume != 5.0] == ["notification"] * (len(found) - 1)
    arrived = {row["arrival_hour"] for row in rows(site, "samples", "arrival_hour")}
    hours = sorted(times.parse(f"{each}:00") for each in arrived)
    backfill(site, "samples", hours[0], hours[-1] + times.HOUR)
    again = [(row["volume"], row["origin"]) for row in rows(site, "samples", "volume, origin", order="timestamp")]
    assert again == found


def test_an_administrator_of_a_project_sees_its_events_and_those_of_no_project(site: Site) -> None:
    nobodys = notification("nobodys", payload={"instance_id": "i1"})
    others = notification("others", payload={"instance_id": "i2", "tenant_id": "p2"})
    fill(site, nobodys, others)
    seen = events(site, EventScope("p1", without_project=True))["message_id"].to_pylist()
    assert sorted(seen) == ["nobodys", "theirs"]
