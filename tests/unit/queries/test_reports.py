"""Reports: a figure is of one unit, is a number, and no day to come has any."""

import math
import sys
from datetime import timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest
from builders import at, land_points, point, roll_up, rows, warehouse_rows
from conftest import OpenSite

from meterhouse.queries import report_exports, reports
from meterhouse.site import Site
from meterhouse.usage.periods import compute

ALWAYS = (at(days=-40_000), at(days=40_000))
LARGEST = sys.float_info.max


def usage(site: Site) -> list[dict[str, Any]]:
    return reports.run(site, "usage_by_project_and_day", *ALWAYS)


def quality(site: Site) -> list[tuple[Any, ...]]:
    found = reports.run(site, "quality_by_day_and_rule", *ALWAYS)
    return [(row["day"], row["meter"], row["rule"], row["flagged"]) for row in found]


def test_a_report_lists_no_day_to_come(any_warehouse: Site) -> None:
    site = any_warehouse
    ahead = {"recorded_at": at()}
    land_points(
        site,
        [
            point(2, at(), meter="vcpus", unit="vcpu"),
            point(2, at(days=3), meter="vcpus", unit="vcpu", **ahead),
            point(9, at(days=3), meter="cpu", unit="ns", type="cumulative", **ahead),
            point(2, at(days=20_000), meter="vcpus", unit="vcpu", project="p2", **ahead),
        ],
    )
    roll_up(site)
    compute(site)
    assert [(row["day"], row["project_id"], row["vcpu_hours"]) for row in usage(site)] == [(at().date(), "p1", 2.0)]
    # What was flagged stays listed, by its own day and with the rule that says why.
    assert quality(site) == [
        (at(days=3).date(), "cpu", "future", 1),
        (at(days=3).date(), "vcpus", "future", 1),
        (at(days=20_000).date(), "vcpus", "future", 1),
    ]
    assert report_exports.export(site, "usage_by_project_and_day", at(days=3).date()).rows.num_rows == 0


def test_an_instance_counts_if_good_points_say_that_it_exists(site: Site) -> None:
    land_points(
        site,
        [
            point(5, at(), meter="cpu", unit="ns", type="cumulative", resource="good"),
            point(-5, at(), meter="cpu", unit="ns", type="cumulative", resource="bad"),
        ],
    )
    roll_up(site)
    compute(site)
    assert [(row["instances"], row["excluded_points"]) for row in usage(site)] == [(1, 1)]


def test_usage_converts_units_before_it_adds(any_warehouse: Site) -> None:
    land_points(
        any_warehouse,
        [
            point(2048, meter="memory", unit="MiB", resource="a"),
            point(1024, meter="memory", unit="MB", resource="b"),
            point(1024, meter="memory", unit=None, resource="c"),
            point(8_388_608, meter="memory", unit="KiB", resource="d"),
            point(7, meter="volume.size", unit="GiB", resource="f"),
            point(7_000, meter="volume.size", unit="MiB", resource="f"),
            point(1, meter="fans", unit="rpm", resource="g"),
        ],
    )
    roll_up(any_warehouse)
    compute(any_warehouse)
    (found,) = usage(any_warehouse)
    # Sizes are converted by units.yaml: 8,388,608 KiB are 8 GiB.
    assert (found["memory_gib_hours"], found["volume_gib_hours"], found["series_not_counted"]) == (12.0, 7.0, 0)


def test_no_figure_is_infinite_or_not_a_number(any_warehouse: Site, open_site: OpenSite) -> None:
    site = any_warehouse
    given = {"meter": "cpu", "unit": "ns", "type": "cumulative"}
    sizes = {"meter": "memory", "unit": "MiB"}
    land_points(
        site,
        [
            *(point(v, at(n), **given) for n, v in enumerate([1.0, LARGEST, 5.0, math.inf, -LARGEST, math.nan, 9.0])),
            *(point(v, at(n), **sizes) for n, v in enumerate([1024.0, LARGEST, LARGEST, LARGEST, 1024.0])),
        ],
    )
    roll_up(site)
    compute(site)
    (row,) = usage(site)
    assert (row["memory_gib_hours"], row["excluded_points"]) == (1.0, 7)
    assert row["cpu_hours"] == pytest.approx(8 / 3.6e12)
    hourly = warehouse_rows(site, "SELECT sum, sum_squares, increase, p50, p99 FROM rollup_1h ORDER BY sum")
    assert [figures[:3] for figures in hourly] == [(15.0, 107.0, 8.0), (2048.0, 2 * 1024.0**2, None)]
    for figures in (*hourly, *(tuple(each.values()) for each in rows(site, "rollups"))):
        assert all(math.isfinite(value) for value in figures if isinstance(value, float))


def test_the_largest_counters_have_finite_roll_ups(site: Site) -> None:
    volumes = [1e150, -1e150, 1e150, 0.0] * 5
    land_points(site, [point(v, at(n), type="cumulative") for n, v in enumerate(volumes)])
    roll_up(site)
    assert not rows(site, "quarantine", where="excluded")
    for row in rows(site, "rollups"):
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    (increase,) = warehouse_rows(site, "SELECT sum(increase) FROM rollup_1d")[0]
    assert math.isfinite(increase)


def test_a_column_of_an_export_is_all_numbers(site: Site) -> None:
    land_points(site, [point(v, at(n), meter="memory", unit="MiB") for n, v in enumerate([1.0, LARGEST, math.nan])])
    roll_up(site)
    done = report_exports.export(site, "usage_by_project_and_day", at().date())
    for column in done.rows.columns:
        if pa.types.is_floating(column.type):
            assert column.null_count == 0
            assert all(map(math.isfinite, column.to_pylist()))


def test_json_has_no_word_for_what_is_not_a_number(run: Any, tmp_path: Any) -> None:
    path = tmp_path / "points.csv"
    path.write_text(
        "timestamp,meter,resource_id,volume\n"
        + "".join(f"{(at() + timedelta(minutes=n)).isoformat()},m,r,{v}\n" for n, v in enumerate(["1", "nan", "1e308"]))
    )
    run("load", str(path))
    run("rollup")
    for words in (
        ["statistics", "m", "--include-excluded", "--aggregate", "stddev", "--aggregate", "max"],
        ["samples", "m"],
        ["meters"],
        ["resources"],
        ["sql", "SELECT * FROM quarantine"],
        ["sql", "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b"],
        ["sql", "--on", "warehouse", "SELECT * FROM rollup_1h"],
    ):
        said = run(*words, "--json")
        assert said.exit_code == 0, said.output
        for line in said.stdout.splitlines():
            orjson.loads(line)  # which refuses NaN and Infinity
