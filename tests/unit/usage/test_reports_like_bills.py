"""Reports answer as bills do: the same hours of each project, day and flavor, whatever told of the resources."""

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import at, drop, polled, polling, process
from period_rows import put_period
from usage_messages import audit, created, deleted

from meterhouse import times
from meterhouse.queries import reports
from meterhouse.site import Site
from meterhouse.usage.amounts import usage
from meterhouse.usage.periods import compute

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
SPANS = {
    "a month": OCTOBER,
    "a month that is not over": (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    "days cut at both ends": (datetime(2026, 10, 9, 7, 30, 1, 5, tzinfo=UTC), datetime(2026, 10, 12, 3, tzinfo=UTC)),
    "a minute": (datetime(2026, 10, 20, 5, 59, 30, tzinfo=UTC), datetime(2026, 10, 20, 6, 0, 30, tzinfo=UTC)),
}
NOW = datetime(2026, 11, 12, 13, 14, 15, 161718, tzinfo=UTC)

KNOWN_BY = ("events", "audits", "polls", "events,audits", "events,polls", "audits,polls", "events,audits,polls")

Totals = Mapping[tuple[Any, ...], float]


@pytest.fixture(params=SPANS)
def span(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[datetime, datetime]:
    monkeypatch.setattr(times, "now", lambda: NOW)
    return SPANS[request.param]


def counted(site: Site, span: tuple[datetime, datetime], measure: str, *by: str, **how: Any) -> Totals:
    """What bills are made of: the hours of each group that has any."""
    found = usage(site, *span, by=by, **how).to_pylist()
    names = ("bucket_start", *by) if "bucket" in how else by
    return {tuple(row[name] for name in names): row[measure] for row in found if row[measure]}


def reported(rows: list[dict[str, Any]], measure: str, *names: str) -> Totals:
    """The sums of a report's column, by the values of others."""
    sums: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        sums[tuple(row[name] for name in names)] += row[measure] or 0.0
    return {key: amount for key, amount in sums.items() if amount}


def same(found: Totals, expected: Totals) -> None:
    assert set(found) == set(expected)
    for key, amount in expected.items():
        assert found[key] == pytest.approx(amount, abs=1e-9, rel=1e-9), key


def check(site: Site, span: tuple[datetime, datetime]) -> None:
    """Hold each report against the usage of the span."""
    daily = reports.run(site, "usage_by_project_and_day", *span)
    for row in daily:
        row["bucket_start"] = times.day_start(row["day"])
    for column, measure, kind in (
        ("vcpu_hours", "vcpu_hours", "instance"),
        ("memory_gib_hours", "memory_gib_hours", "instance"),
        ("volume_gib_hours", "size_gib_hours", "volume"),
    ):
        each = counted(site, span, measure, "project_id", "resource_type", bucket="day")
        expected = {(day, project): n for (day, project, of), n in each.items() if of == kind and project}
        same(reported(daily, column, "bucket_start", "project_id"), expected)
    instances = counted(site, span, "resources", "project_id", "resource_type", bucket="day")
    expected = {(day, project): n for (day, project, of), n in instances.items() if of == "instance" and project}
    same(reported(daily, "instances", "bucket_start", "project_id"), expected)
    by = "project_id", "resource_type", "flavor"
    flavors = reports.run(site, "usage_by_project_and_flavor", *span)
    for measure in ("resources", "hours", "vcpu_hours", "memory_gib_hours", "size_gib_hours"):
        column = "gib_hours" if measure == "size_gib_hours" else measure
        same(reported(flavors, column, *by), counted(site, span, measure, *by))
    quality = reports.run(site, "data_quality_of_a_bill", *span)
    same(reported(quality, "hours", *by[:2]), counted(site, span, "hours", *by[:2]))
    top = reports.run(site, "top_consumers", *span)
    for unit, measure, kind in (("vCPU h", "vcpu_hours", "instance"), ("GiB h", "size_gib_hours", "volume")):
        used = reported([row for row in top if row["unit"] == unit], "used", "project_id", "resource_type")
        all_of = counted(site, span, measure, "project_id", "resource_type")
        same(used, {(project, of): n for (project, of), n in all_of.items() if of == kind and project})
    change = {(row["project_id"], row["resource_type"]): row["change"] for row in top if row["unit"] == "vCPU h"}
    until = min(span[1], NOW)
    before = counted(site, (span[0] - (until - span[0]), span[0]), "vcpu_hours", "project_id", "resource_type")
    for row in top:
        if row["unit"] == "vCPU h":
            key = row["project_id"], row["resource_type"]
            assert change[key] == (pytest.approx(row["used"] / before[key] - 1, abs=1e-9) if key in before else None)

    last = max(span[0], times.day_start((until - timedelta(microseconds=1)).date())), until
    hours = (last[1] - last[0]) / times.HOUR
    capacity = {row["what"]: row["used"] for row in reports.run(site, "capacity_and_trend", *span)}
    for what, measure, kind in (("vCPU", "vcpu_hours", "instance"), ("volume GiB", "size_gib_hours", "volume")):
        of_day = counted(site, last, measure, "resource_type").get((kind,), 0.0)
        if of_day:
            assert capacity[what] * hours == pytest.approx(of_day, abs=1e-9, rel=1e-9)


def generate(site: Site, seed: int, resources: int) -> None:
    """Resources known in all ways, from September to December, in pieces that follow each other."""
    chance = random.Random(seed)
    for number in range(resources):
        kind = chance.choice(["instance", "instance", "volume", "floating_ip"])
        moment = OCTOBER[0] + timedelta(seconds=chance.uniform(-40, 45) * 86_400)
        pieces = chance.choice([1, 1, 2, 3])
        source = "meterhouse-verify" if number % 9 == 0 else "openstack"
        for piece in range(pieces):
            length = timedelta(microseconds=chance.choice([1, 10**6, 10**9, 10**12]) * chance.randint(1, 3))
            end = moment + length
            goes_on = piece == pieces - 1 and chance.random() < 0.6
            seen = moment + chance.choice([0, 0.5, 1]) * length
            size = {"vcpus": float(chance.randint(1, 64)), "memory_mib": chance.choice([512.0, 1536.0, 2.0**20])}
            put_period(
                site,
                f"{kind}-{number}",
                moment,
                None if goes_on else end,
                type=kind,
                project=chance.choice(["p1", "p2", "P2", "é", None]),
                flavor=chance.choice(["m1.small", "M1.large", None]),
                source=source,
                confirmed_until=seen if goes_on else end,
                confirmed_by=chance.choice([*KNOWN_BY, "polls", "polls"]),
                **(size if kind == "instance" else {"size_gib": 0.5 * number} if kind == "volume" else {}),
            )
            moment = end


def test_reports_count_what_bills_count(any_warehouse: Site, span: tuple[datetime, datetime]) -> None:
    generate(any_warehouse, 13, 150)
    check(any_warehouse, span)


@pytest.mark.slow
def test_reports_count_what_bills_count_of_messages(any_warehouse: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "now", lambda: at(days=9, hours=1.3))

    def cpu(resource: str, *hours: float, **more: Any) -> list[dict[str, Any]]:
        given = {"meter": "cpu", "type": "cumulative", "counter_unit": "ns", "resource": resource, **more}
        return [polled(1e9 * hour, at(hours=hour), **given) for hour in hours]

    size = {"meter": "vcpus", "resource": "polls", "counter_unit": "vcpu"}
    samples = [
        *cpu("polls", 1, 1.5, 2, 2.5),
        *[polled(2, at(hours=hour), **size) for hour in (1, 1.5, 2, 2.5)],
        *cpu("mixed", 3, 3.5, 4),
        *cpu("verify", 1, 2, source="meterhouse-verify"),
        *[polled(7, at(hours=hour), meter="volume.size", counter_unit="GB", resource="v1") for hour in (0, 5)],
    ]
    messages = [
        polling("samples", samples),
        created("events", at(5)),
        audit("audits", at(hours=4)),
        audit("audits", at(hours=5)),
        created("mixed", at(30)),
        audit("mixed", at(hours=3)),
        created("deleted", at()),
        deleted("deleted", at(days=1, hours=7.77)),
        created("resized", at(1)),
        audit("resized", at(days=1), instance_type="m1.xlarge", vcpus=8),
        created("moved", at(2)),
        audit("moved", at(days=2), tenant_id="p2"),
    ]
    drop(any_warehouse.settings.spool, "a.jsonl", messages)
    process(any_warehouse)
    compute(any_warehouse)
    for start, end in ((at(days=-1), at(days=20)), (at(hours=2), at(hours=30)), (at(hours=2), at(hours=2.9))):
        check(any_warehouse, (start, end))
    found = reports.run(any_warehouse, "usage_by_project_and_day", at(hours=-12), at(hours=12))
    vcpu_hours = {row["project_id"]: row["vcpu_hours"] for row in found}
    # Of audits alone until the end of the span; of samples alone until the end of the hour of the last one.
    assert vcpu_hours["p1"] > 4 * (12 - 4)


def test_what_samples_alone_told_counts_on_once_an_audit_has_told_of_it(any_warehouse: Site) -> None:
    day = at(hours=-12), at(hours=12)
    put_period(any_warehouse, "i1", at(), vcpus=1.0, confirmed_until=at(90), confirmed_by="polls")
    assert [row["vcpu_hours"] for row in reports.run(any_warehouse, "usage_by_project_and_day", *day)] == [2.0]
    put_period(any_warehouse, "i1", at(-60), at(-30), vcpus=1.0, confirmed_by="audits")
    assert [row["vcpu_hours"] for row in reports.run(any_warehouse, "usage_by_project_and_day", *day)] == [12.5]
    check(any_warehouse, day)
