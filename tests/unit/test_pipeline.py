"""The steps together, on every kind of site: from the spool to the roll-ups, the reports and an alarm's webhook."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from builders import (
    NOON,
    at,
    count,
    drop,
    land_points,
    notification,
    point,
    polled,
    polling,
    process,
    roll_up,
    rows,
    warehouse_rows,
)
from conftest import OpenSite
from period_rows import put_period
from sqlalchemy import select

from meterhouse import times
from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog, commits_behind, mark_for_recompute, snapshot
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert, unconverted
from meterhouse.errors import AlreadyRunning, UnknownName
from meterhouse.queries import report_exports, reports
from meterhouse.queries.meters import meter_span
from meterhouse.queries.statistics import statistics
from meterhouse.sample_quality.step import judge_hours
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import derived_meters, resources, series


def feed(site: Site, number: int = 0, messages: int = 4) -> None:
    """A spool file of events and of polled counters and gauges, one bad gauge in each batch."""
    made: list[Any] = []
    for n in range(number * messages, (number + 1) * messages):
        counter = polled(n * 60e9, at(20 * n), meter="cpu", type="cumulative", message_id=f"c{n}", counter_unit="ns")
        gauges = [polled(v, at(20 * n), message_id=f"g{n}-{v}", resource=f"r{v}") for v in (10.0, -130.0)]
        made += [polling(f"poll{n}", [counter, *gauges]), notification(f"event{n}")]
    drop(site.settings.spool, f"{number}.jsonl", made)


def test_from_the_spool_to_the_archive_on_every_kind_of_site(any_site: Site, today: date) -> None:
    for number in range(2):
        feed(any_site, number)
        process(any_site)
    assert {name: count(any_site, name) for name in ("notifications", "samples", "events", "quarantine")} == {
        "notifications": 16,
        "samples": 24,
        "events": 8,
        "quarantine": 8,
    }
    (cpu,) = statistics(any_site, EVERYTHING, "cpu")
    assert (cpu["count"], cpu["max"]) == (8, 7 * 60e9)
    assert warehouse_rows(any_site, "SELECT count(*) FROM series") == [(3,)]
    (increase,) = warehouse_rows(any_site, "SELECT sum(increase) FROM rollup_1h")[0]
    assert increase == 7 * 60e9
    usage = reports.run(any_site, "usage_by_project_and_day", NOON, at(days=1))
    assert [(row["day"], row["project_id"], row["excluded_points"]) for row in usage] == [(NOON.date(), "p1", 8)]
    assert usage[0]["cpu_hours"] == pytest.approx(7 * 60e9 / 3.6e12)
    before = rows(any_site, "samples", "* EXCLUDE (sample_id)")
    assert {sealed.table_name for sealed in archive(any_site, today).sealed} >= {"samples", "events"}
    assert rows(any_site, "samples", "* EXCLUDE (sample_id)") == before
    process(any_site)
    assert not snapshot(any_site).hours


def test_reports_are_exported_beside_the_tables(any_warehouse: Site) -> None:
    feed(any_warehouse)
    process(any_warehouse)
    for _ in range(2):
        done = report_exports.export(any_warehouse, "quality_by_day_and_rule", NOON.date())
    assert done.rows.to_pylist() == [
        {"day": NOON.date(), "meter": "cpu_util", "rule": "out_of_range", "severity": "critical", "flagged": 4}
    ]
    as_parquet, as_csv, _ = (Path(uri) for uri in done.uris)
    assert parquet.ParquetFile(as_parquet).read().equals(done.rows)
    assert as_csv.read_text() == (
        '"day","meter","rule","severity","flagged"\n2026-11-10,"cpu_util","out_of_range","critical",4\n'
    )
    empty = reports.run(any_warehouse, "usage_by_project_and_day", at(days=50), at(days=51))
    assert empty == []


def test_an_exported_report_runs_no_formula_and_its_parquet_is_exact(site: Site) -> None:
    project = "=HYPERLINK(1)\x1b[2J"
    put_period(site, "i1", project=project)
    done = report_exports.export(site, "usage_by_project_and_day", NOON.date())
    as_parquet, as_csv, _ = (Path(uri) for uri in done.uris)
    assert parquet.ParquetFile(as_parquet).read()["project_id"].to_pylist() == [project]
    assert '"\'=HYPERLINK(1)\\x1b[2J"' in as_csv.read_text()


def test_reports_are_named_for_the_question_they_answer() -> None:
    assert {"lateness", "quality_by_day_and_rule", "usage_by_project_and_day"} < set(reports.names())
    for name in reports.names():
        assert reports.question(name).endswith("?")
    assert reports.question("usage_by_project_and_day") == "What did each project use each day?"


def test_an_unknown_report_lists_similar_ones(site: Site) -> None:
    with pytest.raises(UnknownName, match=r"unknown report 'usage'.*usage_by_project_and_day"):
        reports.run(site, "usage", NOON, at(1))


# -- conversion ---------------------------------------------------------------------------------------------


def test_each_notification_is_converted_once(site: Site) -> None:
    assert convert(site).notifications == 0
    feed(site)
    collect(site)
    assert unconverted(site) == 1
    done = convert(site)
    assert (done.notifications, done.samples, done.events) == (8, 12, 4)
    assert unconverted(site) == 0
    assert convert(site).notifications == 0
    feed(site, 1)
    collect(site)
    assert convert(site).notifications == 8
    assert (count(site, "samples"), count(site, "events")) == (24, 8)


@pytest.mark.parametrize("ahead", ["samples", "events"])
def test_if_one_table_is_ahead_the_other_one_catches_up(
    site: Site, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    behind_it = {"samples": "events", "events": "samples"}[ahead]
    feed(site)
    collect(site)
    append = site.lake.append

    def only(name: str, *args: Any, **more: Any) -> int:
        return 0 if name == behind_it else append(name, *args, **more)

    with monkeypatch.context() as broken:
        broken.setattr("meterhouse.stores.lake.Lake.append", lambda self, *args, **more: only(*args, **more))
        reached = iter([{"x": 1}])
        broken.setattr("meterhouse.conversion.step._convert_some", _once(reached))
        convert(site)
    assert (count(site, ahead) > 0, count(site, behind_it)) == (True, 0)
    feed(site, 1)
    collect(site)
    assert unconverted(site) == 2
    convert(site)
    assert (count(site, "samples"), count(site, "events")) == (24, 8)


def _once(reached: Any) -> Any:
    from meterhouse.conversion import step as conversion

    real = conversion._convert_some

    def once(*args: Any) -> bool:
        return bool(next(reached, None)) and real(*args) and False

    return once


def test_redelivery_after_its_hours_gives_the_same_samples_and_is_counted_once(site: Site) -> None:
    message = polling("p", [polled(5.0, message_id="s1")])
    drop(site.settings.spool, "a.jsonl", [message])
    process(site)
    landed = site.lake.table("notifications").to_pyarrow_table()
    site.lake.append("notifications", landed)  # as if it came again after the hours of redelivery
    process(site)
    assert count(site, "samples") == 2
    assert len({row["sample_id"] for row in rows(site, "samples", "sample_id")}) == 1
    (hour,) = rows(site, "rollups", where="granularity_s = 3600")
    assert (hour["count"], hour["excluded"]) == (1, 0)


def test_two_processes_do_not_convert_at_the_same_time(site: Site) -> None:
    for step, lease in ((convert, "convert"), (catalog, "catalog")):
        with site.warehouse.lease(lease), pytest.raises(AlreadyRunning):
            step(site)


# -- catalog ------------------------------------------------------------------------------------------------


def test_series_and_resources_span_the_times_of_their_points_in_whatever_order_they_come(any_warehouse: Site) -> None:
    for minutes in (30, 10, 50):
        land_points(any_warehouse, [point(1, at(minutes)), point(1, at(minutes + 1), project="p2")])
        roll_up(any_warehouse)
    assert warehouse_rows(any_warehouse, "SELECT count(*) FROM series") == [(2,)]
    with any_warehouse.warehouse.read() as connection:
        spans = connection.execute(select(series.c.project_id, series.c.first_seen, series.c.last_seen)).all()
        (resource,) = connection.execute(select(resources)).all()
    assert sorted(map(tuple, spans)) == [("p1", at(10), at(50)), ("p2", at(11), at(51))]
    assert (resource.project_id, resource.first_sample_at, resource.last_sample_at) == ("p2", at(10), at(51))


def test_known_series_keep_the_hour_of_their_last_point_and_each_meter_its_exact_time(any_warehouse: Site) -> None:
    def known(meter: str) -> tuple[set[datetime], datetime]:
        found = select(series.c.last_point_at).where(series.c.meter == meter)
        with any_warehouse.warehouse.read() as connection:
            hours = {times.hour_of(last) for last in connection.execute(found).scalars()}
        return hours, meter_span(any_warehouse, EVERYTHING, meter)[1]

    for minutes in (10, 11, 130, 12, 131):
        points = [point(1, at(minutes + n), meter=m, resource=r) for n, (m, r) in enumerate(("ma", "mb", "na"))]
        land_points(any_warehouse, points)
        last = max(minutes, 130) if minutes > 100 or minutes == 12 else minutes
        assert known("m") == ({times.hour_of(at(last))}, at(last + 1))
        assert known("n") == ({times.hour_of(at(last))}, at(last + 2))
    assert meter_span(any_warehouse, EVERYTHING, "m")[0] == at(10)


def test_samples_of_a_series_that_was_only_computed_bring_its_resource(any_warehouse: Site) -> None:
    computed = point(1, resource="all")
    with any_warehouse.warehouse.begin() as connection:
        names = ("series_id", "source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
        of_series = {name: computed[name] for name in names}
        connection.execute(series.insert().values(**of_series, first_point_at=at(0), last_point_at=at(59)))
        made = {"meter": "m", "kind": "aggregate", "made_of": "n", "computed_at": at(0)}
        connection.execute(derived_meters.insert().values(**made))
    land_points(any_warehouse, [computed])
    assert warehouse_rows(any_warehouse, "SELECT resource_id FROM resources") == [("all",)]


def test_a_resource_keeps_the_metadata_of_its_newest_sample(site: Site) -> None:
    for name, minutes in (("new", 50), ("old", 10)):
        one = polled(1.0, at(minutes), message_id=name, resource_metadata={"host": name})
        drop(site.settings.spool, "a.jsonl", [polling(name, [one])])
        process(site)
    found = warehouse_rows(
        site, "SELECT m.metadata FROM resources AS r JOIN resource_metadata AS m ON m.metadata_id = r.metadata_id"
    )
    assert found == [('{"host":"new"}',)]
    assert warehouse_rows(site, "SELECT count(*) FROM resource_metadata") == [(2,)]


def test_a_second_catalog_run_changes_nothing(site: Site) -> None:
    site.lake.append("samples", _table([point(1)]))
    assert commits_behind(site) == 1
    assert catalog(site).samples == 1
    assert commits_behind(site) == 0
    before = warehouse_rows(site, "SELECT * FROM dirty_hours"), warehouse_rows(site, "SELECT * FROM series")
    assert catalog(site).samples == 0
    assert (warehouse_rows(site, "SELECT * FROM dirty_hours"), warehouse_rows(site, "SELECT * FROM series")) == before


def _table(points: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    from meterhouse.stores.lake_tables import SAMPLES

    return pa.Table.from_pylist(points, schema=SAMPLES)


def test_hours_that_are_over_and_rolled_up_count_their_late_points(site: Site) -> None:
    land_points(site, [point(1, at())])
    roll_up(site)
    site.lake.append(
        "samples",
        _table(
            [
                point(2, at(1), recorded_at=at(30)),
                point(3, at(2), recorded_at=at(11)),
                point(4, at(hours=1), recorded_at=at(hours=5)),
            ]
        ),
    )
    assert catalog(site).late == 1
    assert warehouse_rows(site, "SELECT late FROM dirty_hours ORDER BY hour") == [(1,), (0,)]


def test_hours_can_be_recomputed_for_quality_or_only_for_the_rollup(site: Site) -> None:
    land_points(site, [point(1, at()), point(2, at(hours=1))])
    roll_up(site)
    assert mark_for_recompute(site, "rollups", {at(), at(days=7)}, "a test") == 1
    (hour,) = snapshot(site).hours.values()
    assert (hour.hour, hour.unjudged, hour.unrolled) == (at(), False, True)
    assert judge_hours(site).hours == []
    assert roll_up(site).hours == [at()]
    assert mark_for_recompute(site, "sample_quality", {at(hours=1)}, "a test") == 1
    assert judge_hours(site).hours == [at(hours=1)]
    assert roll_up(site).hours == [at(hours=1)]
    assert mark_for_recompute(site, "rollups", set(), "a test") == 0


# -- times --------------------------------------------------------------------------------------------------


def test_hours_and_spans() -> None:
    assert times.hours_between(at(30), at(90)) == [at(), at(60)]
    assert times.hours_between(at(), at(60)) == [at()]
    assert times.hours_between(at(5), at(5)) == [at()]
    assert times.hours_between(at(), at()) == []
    assert times.spans([at(120), at(), at(60), at(240), at()]) == [(at(), at(180)), (at(240), at(300))]
    assert times.spans([]) == []


def test_times_are_utc() -> None:
    assert times.parse("2026-11-10T13:00:00+01:00") == NOON == times.parse(" 2026-11-10T12:00 ")
    assert times.text(NOON) == "2026-11-10T12:00:00Z"
    assert times.arrival_hour(NOON + timedelta(minutes=59)) == "2026-11-10T12"
    with pytest.raises(Exception, match=r"'soon' is not a time\. Write ISO 8601"):
        times.parse("soon")
    with pytest.raises(Exception, match=r"'2026' is not a day\. Write YYYY-MM-DD"):
        times.parse_day("2026")


def test_definitions_that_cannot_be_read_convert_nothing_and_lose_nothing(open_site: OpenSite, tmp_path: Path) -> None:
    (tmp_path / "event_definitions.yaml").write_text("- [")
    site = open_site(config_dir=tmp_path)
    feed(site)
    collect(site)
    with pytest.raises(Exception, match=r"event_definitions\.yaml"):
        convert(site)
    assert unconverted(site) == 1
    (tmp_path / "event_definitions.yaml").unlink()
    assert convert(site).notifications == 8
