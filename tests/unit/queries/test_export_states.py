"""Exports are stale when what they are made of was recomputed, say so, and are made again; empty ones have no files."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from builders import NOON, at, land_points, point, roll_up
from conftest import OpenSite
from period_rows import put_period
from sqlalchemy import delete, insert, update

from meterhouse import times
from meterhouse.queries import export_states, report_exports
from meterhouse.recompute import backfill, backfill_stale
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import report_exports as exports
from meterhouse.stores.warehouse_tables import resource_names, resource_periods

USAGE = "usage_by_project_and_day"
DAY = NOON.date()


def stale(site: Site) -> list[tuple[str, str, str]]:
    return [(each.report, each.partition, each.why) for each in export_states.stale_exports(site)]


def cpu(volume: float, minutes: float) -> dict[str, Any]:
    return point(volume, at(minutes), meter="cpu", unit="ns", type="cumulative")


def about(site: Site, key: str, name: str = USAGE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{site.lake.url}/exports/{name}/{key}.json").read_bytes())
    return found


def test_an_export_is_stale_when_late_points_change_its_hours(any_warehouse: Site) -> None:
    site = any_warehouse
    land_points(site, [cpu(0, 0), cpu(3.6e12, 90)])
    roll_up(site)
    report_exports.export(site, USAGE, DAY)
    report_exports.export(site, "lateness", DAY)
    assert stale(site) == []
    land_points(site, [cpu(1.8e12, 30)])
    assert stale(site) == []  # not yet: the hour was not recomputed
    roll_up(site)
    assert stale(site) == [
        ("lateness", str(DAY), "2 hours were recomputed"),
        (USAGE, str(DAY), "2 hours were recomputed"),
    ]
    assert report_exports.export_stale(site, USAGE)[0].partition == str(DAY)
    assert stale(site) == [("lateness", str(DAY), "2 hours were recomputed")]


def test_the_json_of_a_stale_export_says_so_until_it_is_exported_again(site: Site) -> None:
    put_period(site, "i1", vcpus=2.0)
    report_exports.export(site, USAGE, DAY)
    fresh = about(site, str(DAY))
    put_period(site, "i2", vcpus=2.0)
    for _ in range(2):
        export_states.note_stale(site)
        assert about(site, str(DAY)) == fresh | {"stale": "periods of resources were recomputed"}
    report_exports.export_stale(site)
    assert about(site, str(DAY)) == fresh
    assert parquet.read_table(f"{site.lake.url}/exports/{USAGE}/{DAY}.parquet")["instances"].to_pylist() == [2]


def test_only_the_days_that_a_changed_period_reaches_are_stale(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=2.0)
    days = [(NOON + n * times.DAY).date() for n in range(4)]
    for day in days:
        report_exports.export(any_warehouse, USAGE, day)
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(ended_at=at(days=2), unconfirmed=False))
    assert [partition for _, partition, _ in stale(any_warehouse)] == [str(days[2]), str(days[3])]


def test_a_poll_that_confirms_a_period_makes_no_past_day_stale(any_warehouse: Site) -> None:
    polls = {"confirmed_by": "polls", "unconfirmed": False, "vcpus": 2.0}
    put_period(any_warehouse, "i1", confirmed_until=at(days=3), **polls)
    put_period(any_warehouse, "i2", confirmed_until=at(60), **polls)
    for day in (DAY, (NOON + times.DAY).date()):
        report_exports.export(any_warehouse, USAGE, day)
    with any_warehouse.warehouse.begin() as connection:
        confirm = update(resource_periods).values(confirmed_by="audits,polls")
        connection.execute(confirm.where(resource_periods.c.resource_id == "i1").values(confirmed_until=at(days=5)))
    assert stale(any_warehouse) == []
    with any_warehouse.warehouse.begin() as connection:
        more = update(resource_periods).where(resource_periods.c.resource_id == "i2")
        connection.execute(more.values(confirmed_until=at(hours=5)))
    assert [partition for _, partition, _ in stale(any_warehouse)] == [str(DAY)]


def test_an_export_of_a_day_that_was_not_over_is_stale_once_it_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put_period(site, "i1", vcpus=2.0)
    monkeypatch.setattr(times, "now", lambda: at(60))
    assert report_exports.export(site, USAGE, DAY).rows["vcpu_hours"].to_pylist() == [2.0]
    assert stale(site) == []
    monkeypatch.setattr(times, "now", lambda: at(days=1))
    assert stale(site) == [(USAGE, str(DAY), "its time was not over")]
    report_exports.export_stale(site)
    assert stale(site) == []


def test_a_changed_query_makes_its_exports_stale_and_a_broken_one_leaves_them(
    open_site: OpenSite, tmp_path: Path
) -> None:
    (tmp_path / "reports").mkdir()
    file = tmp_path / "reports" / "own.sql"
    file.write_text("-- Q?\nSELECT 1 AS one")
    site = open_site(config_dir=tmp_path)
    report_exports.export(site, "own", DAY)
    file.write_text("-- Q?\nSELECT 2 AS one")
    assert stale(site) == [("own", str(DAY), "the report's query was changed")]
    file.write_text("-- Q?\nSELECT")
    assert [why for _, _, why in stale(site)] == ["the report's query was changed"]
    file.write_text("DROP")
    assert stale(site) == []


@pytest.mark.parametrize("day", [DAY, (times.now() + 40 * times.DAY).date()], ids=["empty", "to come"])
def test_an_empty_day_and_a_day_to_come_have_no_rows_and_no_files(any_warehouse: Site, day: date) -> None:
    put_period(any_warehouse, "i1", NOON + times.DAY, vcpus=1.0)
    done = report_exports.export(any_warehouse, USAGE, day)
    assert (done.rows.num_rows, done.uris) == (0, []) if day == DAY else done.uris == []
    assert any_warehouse.lake.listed(f"exports/{USAGE}") == []


def test_the_files_of_a_day_that_has_become_empty_are_removed(any_site: Site) -> None:
    put_period(any_site, "i1", end=at(60), vcpus=1.0)
    assert len(report_exports.export(any_site, USAGE, DAY).uris) == 3
    report_exports.export(any_site, USAGE, DAY)
    with any_site.warehouse.begin() as connection:
        connection.execute(delete(resource_periods))
    assert [partition for _, partition, _ in stale(any_site)] == [str(DAY)]
    report_exports.export_stale(any_site)
    assert any_site.lake.listed(f"exports/{USAGE}") == []
    put_period(any_site, "i1", end=at(60), vcpus=1.0)
    assert [each.partition for each in report_exports.export_stale(any_site)] == [str(DAY)]
    assert len(any_site.lake.listed(f"exports/{USAGE}")) == 3


def test_an_export_that_was_killed_before_its_files_were_written_is_stale(
    any_warehouse: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0)
    with monkeypatch.context() as patched:

        def dies(*_: object) -> str:
            raise KeyboardInterrupt

        patched.setattr(type(any_warehouse.lake), "put", dies)
        with pytest.raises(KeyboardInterrupt):
            report_exports.export(any_warehouse, USAGE, DAY)
    assert [partition for _, partition, _ in stale(any_warehouse)] == [str(DAY)]
    report_exports.export_stale(any_warehouse)
    assert stale(any_warehouse) == []


def test_a_second_export_changes_nothing(site: Site) -> None:
    put_period(site, "i1", vcpus=1.0, name="ä", flavor="x")
    uris = report_exports.export(site, USAGE, DAY).uris
    before = [Path(uri).read_bytes() for uri in uris]
    report_exports.export(site, USAGE, DAY)
    assert [Path(uri).read_bytes() for uri in uris] == before


def test_a_renamed_project_makes_the_exports_stale_in_which_it_had_that_name(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0)
    seen = {"kind": "project", "witness": "file", "seen_until": at(days=9)}

    def name(text: str, valid_from: datetime, project: str = "p1") -> None:
        with any_warehouse.warehouse.begin() as connection:
            connection.execute(insert(resource_names).values(id=project, name=text, valid_from=valid_from, **seen))

    name("shop", at(days=-9))
    for day in range(3):
        report_exports.export(any_warehouse, USAGE, (NOON + day * times.DAY).date())
    name("new", at(days=1), "p2")  # one that none of them shows
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(update(resource_names).values(seen_until=at(days=20)))
    report_exports.export_stale(any_warehouse)
    name("store", at(days=2))
    assert [(partition, why) for _, partition, why in stale(any_warehouse)] == [
        (str((NOON + 2 * times.DAY).date()), "names were changed")
    ]


def test_a_report_by_month_is_exported_by_month(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", flavor="m1.small", vcpus=1.0, end=at(days=30))
    done = report_exports.export(any_warehouse, "usage_by_project_and_flavor", DAY)
    assert [uri.rpartition("/")[2] for uri in done.uris] == [f"2026-11.{end}" for end in ("parquet", "csv", "json")]
    assert about(any_warehouse, "2026-11", "usage_by_project_and_flavor")["month"] == "2026-11"
    assert done.rows["flavor"].to_pylist() == ["m1.small"]
    figures = backfill(any_warehouse, "usage_by_project_and_flavor", at(days=-20), at(days=5))
    assert figures == {"months": 1, "rows": 1}


def test_a_backfill_exports_days_that_events_alone_tell_of(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0, end=at(days=2))
    assert backfill(any_warehouse, USAGE, at(days=-5), at(days=2)) == {"days": 3, "rows": 3}


def test_backfill_of_what_is_stale_makes_stale_exports_again(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0)
    report_exports.export(any_warehouse, USAGE, DAY)
    report_exports.export(any_warehouse, "top_consumers", DAY)
    put_period(any_warehouse, "i2", vcpus=1.0)
    assert backfill_stale(any_warehouse, USAGE) == {USAGE: {"days": 1}}
    assert backfill_stale(any_warehouse) == {"top_consumers": {"months": 1}}
    assert stale(any_warehouse) == []


def test_an_export_that_compares_with_the_span_before_is_stale_when_that_changes(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", at(days=-60), vcpus=1.0)
    for name in ("top_consumers", "usage_by_project_and_flavor"):
        report_exports.export(any_warehouse, name, DAY)
    put_period(any_warehouse, "i2", at(days=-60), at(days=-30), vcpus=1.0)
    assert stale(any_warehouse) == [("top_consumers", "2026-11", "periods of resources were recomputed")]


def test_what_samples_alone_tell_of_makes_exports_stale_once_an_audit_tells_of_it(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", confirmed_until=at(60), confirmed_by="polls", unconfirmed=False, vcpus=1.0)
    for day in (DAY, (NOON + times.DAY).date()):
        report_exports.export(any_warehouse, USAGE, day)
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(confirmed_by="audits,polls"))
    assert [partition for _, partition, _ in stale(any_warehouse)] == [str(DAY), str((NOON + times.DAY).date())]


def test_many_exports_are_looked_up_in_one_pass(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0)
    made = at(days=10)
    with any_warehouse.warehouse.begin() as connection:
        for n in range(300):
            start = times.day_start(DAY) - n * times.DAY
            span = {"start_at": start, "end_at": start + times.DAY, "made_at": made, "holds_until": made}
            row = {"report": USAGE, "partition": str(start.date()), "rows": 1, "made_of": "{}", **span}
            connection.execute(exports.insert().values(**row))
    clock = times.now()
    assert len(stale(any_warehouse)) == 300
    assert (times.now() - clock).total_seconds() < 2


def test_the_commands_list_stale_exports(run: Any) -> None:
    from meterhouse.settings import settings

    site = Site.open(settings())
    put_period(site, "i1", vcpus=1.0)
    assert run("report", USAGE, "--day", str(DAY), "--export").exit_code == 0
    listed = json.loads(run("report", USAGE, "--list", "--json").stdout)
    assert (listed["partition"], listed["rows"], listed["stale"]) == (str(DAY), 1, None)
    put_period(site, "i2", vcpus=1.0)
    why = "periods of resources were recomputed"
    assert json.loads(run("report", USAGE, "--list", "--json").stdout)["stale"] == why
    said = json.loads(run("stale", "--json").stdout)
    assert (said["asset"], said["hours"], said["why"]) == (USAGE, 24, [why])
    assert run("stale", "rollups", "--json").stdout == ""
    assert json.loads(run("backfill", "--stale", "--json").stdout) == {"asset": USAGE, "days": 1}
    assert run("stale", USAGE, "--json").stdout == ""
    site.warehouse.engine.dispose()
