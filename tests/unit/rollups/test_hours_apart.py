"""Event hours that lie apart: they cost what as many hours in a row cost, and today's hours do not wait for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from reference import assert_right, in_lake
from sqlalchemy import select

from meterhouse import times
from meterhouse.catalog import mark_for_recompute, snapshot
from meterhouse.recompute import backfill
from meterhouse.rollups import following
from meterhouse.sample_quality import groups
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site
from meterhouse.stores.duck import Connection
from meterhouse.stores.lake import Lake
from meterhouse.stores.warehouse_tables import dirty_hours, rollup_1h


def lonely(number: int, apart: timedelta = times.DAY, first: datetime | None = None) -> list[dict[str, Any]]:
    """A point of a gauge and one of a counter at each moment, some of them bad."""
    made = []
    for n in range(number):
        when = (first or at(days=-number)) + n * apart
        volume = -1.0 if n % 7 == 3 else float(n % 50)
        made.append(point(volume, when, meter="cpu_util", recorded_at=at(days=1)))
        made.append(point(float(n % 20), when, meter="cpu", type="cumulative", recorded_at=at(days=1)))
    return made


class Recording:
    """A DuckDB connection that notes the longest query, apart from lists of files."""

    def __init__(self, connection: Connection, lengths: list[int]) -> None:
        self._connection = connection
        self._lengths = lengths

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, query: str, *more: Any) -> Any:
        if "read_parquet" not in query:
            self._lengths.append(len(query))
        return self._connection.execute(query, *more)

    def sql(self, query: str, **more: Any) -> Any:
        self._lengths.append(len(query))
        return self._connection.sql(query, **more)


def test_no_query_grows_with_the_number_of_hours_apart(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = []
    connect = Lake.connect
    for number in (3, 40):
        site, lengths = open_site(), list[int]()

        @contextmanager
        def recorded(lake: Lake, kept: list[int] = lengths) -> Iterator[Any]:
            with connect(lake) as duck:
                yield Recording(duck, kept)

        monkeypatch.setattr(Lake, "connect", recorded)
        land_points(site, lonely(number))
        judge_hours(site)
        roll_up(site)
        longest.append(max(lengths))
    assert longest[1] <= longest[0] + 10  # the numbers themselves may have one more digit


@pytest.mark.parametrize("apart", [timedelta(hours=30), timedelta(days=3)])
def test_hours_apart_are_right_in_however_many_groups(
    site: Site, monkeypatch: pytest.MonkeyPatch, apart: timedelta
) -> None:
    monkeypatch.setattr(groups, "DAYS_AT_ONCE", 4)
    points = lonely(11, apart)
    land_points(site, points)
    assert len(roll_up(site).hours) == 11
    assert_right(site, points)
    late = point(9.5, points[9]["timestamp"] + timedelta(minutes=20), meter="cpu", type="cumulative")
    land_points(site, [late])
    roll_up(site)
    assert_right(site, [*points, late])


def test_points_of_different_centuries_are_right(site: Site) -> None:
    points = lonely(3, timedelta(days=23_000), datetime(1970, 1, 1, tzinfo=times.EPOCH.tzinfo))
    land_points(site, points)
    roll_up(site)
    assert_right(site, points)


def test_a_thousand_hours_apart_are_judged_rolled_up_and_recomputed(any_warehouse: Site) -> None:
    site = any_warehouse
    hours = [at(hours=2 * n) for n in range(1_100)]
    land_points(site, [point(float(n), hour, recorded_at=at(days=99)) for n, hour in enumerate(hours)])
    assert len(judge_hours(site).hours) == 1_100
    assert len(roll_up(site).hours) == 1_100
    assert [row["sum"] for row in in_lake(site, 3600)] == [float(n) for n in range(1_100)]
    assert mark_for_recompute(site, "sample_quality", set(hours), "a test") == 1_100
    assert backfill(site, "rollups", hours[0], hours[-1] + times.HOUR)["hours"] == 1_100
    assert not snapshot(site).hours


def test_groups_hold_about_as_many_points_and_days_as_are_allowed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point(1.0, at(days=day, minutes=n), recorded_at=at(days=30)) for day in range(12) for n in range(10)]
    land_points(site, points)
    hours = [at(days=day) for day in range(12)]

    def sizes() -> list[int]:
        return [len(group) for group in groups.group_hours(site, site.lake.version("samples"), hours)]

    assert sizes() == [12]
    monkeypatch.setattr(groups, "DAYS_AT_ONCE", 5)
    assert sizes() == [5, 5, 2]
    monkeypatch.setattr(groups, "POINTS_AT_ONCE", 30)
    assert sizes() == [3, 3, 3, 3]


def test_hours_of_today_do_not_wait_for_a_backlog(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "DAYS_AT_ONCE", 2)
    monkeypatch.setattr(following, "SECONDS", 0.0)
    present = times.now() - timedelta(minutes=1)
    hour = times.hour_of(present)
    land_points(site, [*lonely(6, first=present - timedelta(days=40)), point(1.0, present)])
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        with site.warehouse.read() as connection:
            count = connection.execute(select(rollup_1h.c.count).where(rollup_1h.c.bucket == hour)).scalar()
        waiting = len([one for one in snapshot(site).hours.values() if one.unrolled and one.hour != hour])
        seen.append((count or 0, waiting))
        land_points(site, [point(1.0, present + timedelta(seconds=len(seen)))])

    roll_up(site, progress=progress)
    assert seen == [(1, 6), (2, 4), (3, 2), (4, 0)]


def test_late_points_of_any_day_do_not_wait_for_a_backfill(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "DAYS_AT_ONCE", 1)
    land_points(site, [point(1.0, at(days=day)) for day in range(3)])
    roll_up(site)
    mark_for_recompute(site, "sample_quality", {at(days=day) for day in range(3)}, "a backfill")
    late = at(days=-700)
    waiting: list[set[datetime]] = []

    def progress(done: int, total: int) -> None:
        if not waiting:
            land_points(site, [point(1.0, late, recorded_at=at()), point(2.0, at(1))])  # at() was just rolled up again
        waiting.append(set(snapshot(site).hours))

    done = roll_up(site, {at(days=day) for day in range(3)}, progress=progress)
    assert waiting == [{late, at(), at(days=1), at(days=2)}, {at(days=2)}, set()]
    assert set(done.hours) == {late, at(), at(days=1), at(days=2)}


def test_late_points_of_days_that_a_backfill_will_reach_do_not_wait_for_it_either(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "DAYS_AT_ONCE", 1)
    points = [point(1.0, at(days=day, hours=hour)) for day in range(4) for hour in range(2)]
    land_points(site, points)
    roll_up(site)
    chosen = {at(days=day) for day in range(4)}
    mark_for_recompute(site, "sample_quality", chosen, "a backfill")
    late = [point(2.0, at(20, days=3)), point(3.0, at(30, days=3, hours=1))]  # of an hour that is chosen, and not
    waiting: list[set[datetime]] = []

    def progress(done: int, total: int) -> None:
        if not waiting:
            land_points(site, late)
        waiting.append(set(snapshot(site).hours))

    roll_up(site, chosen, progress=progress)
    assert waiting[:2] == [{at(days=1), at(days=2), at(days=3), at(days=3, hours=1)}, {at(days=2)}]
    assert not snapshot(site).hours
    assert_right(site, [*points, *late])


def test_rolling_up_a_few_hours_of_other_times_reads_no_file_in_between(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(5):
        land_points(site, [point(float(day), at(days=day))])
    roll_up(site)
    read: list[str] = []
    parquet = Lake.parquet

    def counting(lake: Lake, name: str, path: str, **more: Any) -> Any:
        if name == "samples":
            read.append(path)
        return parquet(lake, name, path, **more)

    monkeypatch.setattr(Lake, "parquet", counting)
    land_points(site, [point(1.0, at(days=-9000), recorded_at=at(days=6))])
    land_points(site, [point(1.0, at(days=9000), recorded_at=at(days=6))])
    roll_up(site)
    newest = site.lake.version("samples")
    assert len(set(read)) == 2, newest


def test_late_points_of_many_hours_apart_are_counted(site: Site) -> None:
    points = lonely(3, times.DAY)
    land_points(site, points)
    roll_up(site)
    again = [point(2.0, one["timestamp"] + timedelta(minutes=1), recorded_at=at(days=2)) for one in points]
    land_points(site, again)
    with site.warehouse.read() as connection:
        late = connection.execute(select(dirty_hours.c.late).order_by(dirty_hours.c.hour)).scalars().all()
    assert late == [2, 2, 2]


def test_a_day_that_is_rolled_up_hour_by_hour_has_one_small_file_a_tier(site: Site) -> None:
    points = []
    for n in range(6):
        points.append(point(-1.0 if n % 2 else 1.0, at(hours=n), meter="cpu_util"))
        land_points(site, points[-1:])
        roll_up(site)
    assert site.lake.actions("rollups").num_rows == 2
    assert site.lake.actions("quarantine").num_rows == 1
    assert_right(site, points)
