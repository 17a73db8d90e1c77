"""Reports answer in the same order on SQLite and on a PostgreSQL of any locale, whatever things are called."""

import math
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from builders import land_points, point, roll_up
from conftest import OpenSite
from period_rows import put_period
from sqlalchemy import insert

from meterhouse import times
from meterhouse.queries import report_files, reports
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import lateness, poll_tasks, quality_daily, reconciliation_daily, resource_names

START = datetime(2026, 10, 1, tzinfo=UTC)
END = START + 2 * times.DAY
NAMES = ("a", "B", "b", "é", "e", "_x", "-x", "z z", "Z", "ß", "日本", "🙂", "10", "9", "")
"""Texts that languages order in other ways than bytes do."""


def fill(site: Site) -> None:
    flavors = [*NAMES[:6], None]
    for number, (project, flavor) in enumerate(product([*NAMES, None], flavors)):
        kind = ("instance", "volume", "floating_ip")[number % 3]
        put_period(
            site,
            f"{project} {flavor} {number}",
            START,
            None if number % 2 else END + times.DAY,
            type=kind,
            project=project,
            flavor=flavor,
            zone=flavor,
            name=project,
            state={"instance": "active", "volume": "available", "floating_ip": "DOWN"}[kind],
            confirmed_by="events" if number % 5 else "audits",
            **({"vcpus": 2.0, "memory_mib": 1024.0} if kind == "instance" else {}),
            **({"size_gib": 8.0 if number % 4 else None} if kind == "volume" else {}),
        )
    points = []
    for name in NAMES[:-1]:
        put_period(site, name, START, vcpus=1.0, project="p")
        for hour in range(30):
            of = {"resource": name, "project": "p", "recorded_at": START + 3 * times.DAY}
            when = START + timedelta(hours=hour)
            points.append(point(1e9 * hour, when, meter="cpu", unit="ns", type="cumulative", **of))
            points.append(point(5.0, when, meter=f"m {name}", unit="x", **of))
    land_points(site, points)
    roll_up(site)
    known = {"witness": "file", "seen_until": END, "valid_from": START}
    flagged = {"day": START.date(), "hour": START, "severity": "warning", "flagged": 1}
    late = {"hour": START, "octave": 3, "points": 2, "late": 1, "seconds": 9.0, "max_seconds": 8.0, "counted_at": END}
    slot = {"pollster": "p", "host": "", "slot_at": START, "end_at": END, "until": END, "due_at": START, "shard": "1/1"}
    missed = {**slot, "slots": 1, "state": "missed", "late": False, "uncertain": False, "error": "Connection refused"}
    agreed = {"resources": 1, "hours": 24.0, "compared_hours": 24, "agreed_hours": 23, "differing_resources": 1}
    with site.warehouse.begin() as connection:
        for name in NAMES:
            named = {"kind": "project", "id": name, "name": name or "none", **known}
            connection.execute(insert(resource_names), [named])
            connection.execute(insert(quality_daily), [{**flagged, "meter": f"q {name}", "rule": n} for n in NAMES])
            connection.execute(insert(lateness), [{**late, "meter": f"l {name}"}])
            connection.execute(insert(poll_tasks), [{**missed, "source": name, "message_id": f"poll {name}"}])
        connection.execute(insert(reconciliation_daily), [{"day": START.date(), "resource_type": "instance", **agreed}])


def equal(found: Any, expected: Any) -> bool:
    """Whether two values are the same: numbers but for what another order of adding makes."""
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == expected)


@pytest.mark.slow
@pytest.mark.service
def test_every_report_has_the_same_rows_in_the_same_order_on_both_databases(
    open_site: OpenSite, english_postgres: str
) -> None:
    sites = [open_site(), open_site(warehouse_url=english_postgres)]
    for site in sites:
        fill(site)
    for name in report_files.ours():
        of_sqlite, of_postgres = (reports.run(site, name, START, END) for site in sites)
        assert len(of_sqlite) >= 10, name
        assert len(of_sqlite) == len(of_postgres), name
        for row, other in zip(of_sqlite, of_postgres, strict=True):
            assert row.keys() == other.keys()
            different = {key: (row[key], other[key]) for key in row if not equal(row[key], other[key])}
            assert not different, (name, row, different)
