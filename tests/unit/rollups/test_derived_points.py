"""Derived meters and resource history in the roll-up step: the same, in whatever order points come."""

import os
import random
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders import NOON, at, land_points, point, roll_up
from conftest import OpenSite
from sqlalchemy import text

from meterhouse.definitions.derived_meters import SHIPPED
from meterhouse.queries.meters import meter_list
from meterhouse.queries.samples import samples
from meterhouse.queries.sql import sql_on_lake
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site


@pytest.fixture
def deriving(open_site: OpenSite, tmp_path: Path) -> Site:
    """A site with the shipped derived meters."""
    return open_site(config_dir=configured(tmp_path))


def configured(folder: Path, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "derived_meters.yaml").write_text(SHIPPED.read_text() + more)
    return folder


def cpu(minutes: float, seconds: float, resource: str = "r1", **more: Any) -> dict[str, Any]:
    """A point of the counter `cpu`: so many seconds of processor time."""
    return point(seconds * 1e9, at(minutes), meter="cpu", type="cumulative", unit="ns", resource=resource, **more)


def known(site: Site, **texts: str) -> None:
    """Store texts of metadata by number."""
    with site.warehouse.begin() as connection:
        for number, content in texts.items():
            connection.execute(
                text("INSERT INTO resource_metadata VALUES (:id, :content)"),
                {"id": int(number[1:]), "content": content},
            )


def derived(site: Site) -> list[tuple[Any, ...]]:
    query = "SELECT meter, unit, resource_id, timestamp, volume, type, origin FROM derived ORDER BY ALL"
    return [tuple(row.values()) for row in sql_on_lake(site, query).to_pylist()]


def test_cpu_util_is_computed_judged_rolled_up_and_queried_like_any_meter(deriving: Site) -> None:
    known(deriving, m1='{"vcpus": 1}', m2='{"vcpus": 2}')
    points = [{**cpu(minute, minute * 30), "metadata_id": 1 if minute < 62 else 2} for minute in (58, 60, 61, 62, 63)]
    land_points(deriving, points)
    assert roll_up(deriving).points == 5
    assert derived(deriving) == [
        ("cpu_util", "%", "r1", at(minute), pytest.approx(volume), "gauge", "derived")
        for minute, volume in ((60, 50.0), (61, 50.0), (62, 25.0), (63, 25.0))
    ]
    (found,) = statistics(deriving, EVERYTHING, "cpu_util")
    assert (found["count"], found["avg"], found["unit"]) == (4, pytest.approx(37.5), "%")
    assert samples(deriving, EVERYTHING, "cpu_util")["reasons"].to_pylist() == [[]] * 4
    assert {row["meter"] for row in meter_list(deriving, EVERYTHING)} == {"cpu", "cpu_util"}
    with deriving.warehouse.read() as connection:
        (made_of,) = connection.execute(text("SELECT made_of FROM derived_meters WHERE meter = 'cpu_util'")).one()
    assert made_of.startswith("increase a second of cpu × 100.0 / (10**9")
    hourly = "SELECT count, sum FROM rollups JOIN derived USING (series_id) WHERE granularity_s = 3600 LIMIT 1"
    assert sql_on_lake(deriving, hourly).to_pylist() == [{"count": 4, "sum": pytest.approx(150.0)}]


def test_a_derived_point_that_breaks_a_rule_is_in_quarantine_and_in_no_statistic(deriving: Site) -> None:
    land_points(deriving, [cpu(0, 0), cpu(1, 1e6), cpu(2, 1e6 + 30)])
    roll_up(deriving)
    query = "SELECT meter, reason_names FROM quarantine WHERE excluded"
    assert sql_on_lake(deriving, query).to_pylist() == [
        {"meter": "cpu_util", "reason_names": ["out_of_range", "over_100"]}
    ]
    assert statistics(deriving, EVERYTHING, "cpu_util")[0]["count"] == 1


def test_samples_received_under_the_name_count_for_that_resource_and_day(deriving: Site) -> None:
    land_points(
        deriving, [cpu(minute, minute * 6, resource) for minute in (0, 1, 100, 101) for resource in ("r1", "r2")]
    )
    roll_up(deriving)
    assert len(derived(deriving)) == 6
    land_points(deriving, [point(3.0, at(180), meter="cpu_util", unit="%", resource="r1")])
    roll_up(deriving)
    assert {row[2] for row in derived(deriving)} == {"r2"}
    (found,) = statistics(deriving, EVERYTHING, "cpu_util", groupby=["resource_id"], aggregate=["count"])[:1]
    assert (found["groupby"], found["count"]) == ({"resource_id": "r1"}, 1)
    land_points(deriving, [cpu(minute, minute * 6) for minute in (24 * 60, 24 * 60 + 1)])
    roll_up(deriving)
    assert [row[3] for row in derived(deriving) if row[2] == "r1"] == [at(24 * 60), at(24 * 60 + 1)]
    # Both days again, together: that the warehouse knows the received meter already changes nothing.
    land_points(deriving, [cpu(2, 12), cpu(24 * 60 + 2, (24 * 60 + 2) * 6)])
    roll_up(deriving)
    assert [row[3] for row in derived(deriving) if row[2] == "r1"] == [at(24 * 60 + n) for n in range(3)]


def test_what_is_derived_does_not_depend_on_the_order_of_arrival(open_site: OpenSite, tmp_path: Path) -> None:
    config = configured(
        tmp_path / "c",
        "  - {name: sum, kind: aggregate, from: [cpu_util], by: [project_id]}\n"
        "  - {name: free, kind: arithmetic, expression: 100 - $(cpu_util)}\n",
    )
    for seed in range(3):
        source = random.Random(seed)
        points = [
            {**cpu(minute, source.randint(0, 9) * minute, resource), "metadata_id": source.choice([None, 1, 2])}
            for minute in sorted(source.sample(range(300), 12))
            for resource in ("r1", "r2")
        ]
        points.append(point(4.0, at(source.randrange(300)), meter="cpu_util", unit="%", resource="r2"))
        at_once, in_pieces = (open_site(config_dir=config) for _ in range(2))
        land_points(at_once, points)
        shuffled = source.sample(points, len(points))
        for site in (at_once, in_pieces):
            known(site, m1='{"vcpus": 1}', m2='{"vcpus": 2}')
        roll_up(at_once)
        for piece in range(0, len(points), 7):
            land_points(in_pieces, shuffled[piece : piece + 7])
            roll_up(in_pieces)
        assert derived(at_once) == derived(in_pieces)
        assert {row[0] for row in derived(at_once)} >= {"cpu_util", "sum", "free"}
        assert rollups(at_once) == rollups(in_pieces)
        assert history(at_once) == history(in_pieces)


def vcpus(minute: float, metadata: int | None, volume: float = 1.0, resource: str = "r1") -> dict[str, Any]:
    return {**point(volume, at(minute), meter="vcpus", resource=resource), "metadata_id": metadata}


CORES = {"m1": '{"vcpus": 1}', "m2": '{"vcpus": 2}', "m3": '{"host": "h"}', "m4": '{"cpu_number": 4}'}


def loads(site: Site) -> list[tuple[float, float]]:
    """Minutes after NOON, and `cpu_util` to one decimal."""
    return [(round((row[3] - NOON) / timedelta(minutes=1), 1), round(row[4], 1)) for row in derived(site)]


def test_cpu_util_divides_by_the_cores_that_other_series_name_at_that_time(deriving: Site) -> None:
    known(deriving, **CORES)
    resized = [vcpus(0, 4), vcpus(11, 3), vcpus(12.5, 2), vcpus(13, None)]
    others = [vcpus(5, 1, resource="r2"), vcpus(11, 1, volume=-1.0)]
    land_points(deriving, [*(cpu(minute, minute * 30) for minute in range(9, 15)), *resized, *others])
    roll_up(deriving)
    assert loads(deriving) == [(10, 12.5), (11, 12.5), (12, 12.5), (13, 25.0), (14, 25.0)]


def test_the_samples_own_metadata_comes_first_and_without_any_there_is_one_core(deriving: Site) -> None:
    known(deriving, **CORES)
    points = [cpu(minute, minute * 30) for minute in range(5)]
    land_points(
        deriving, [*points[:3], vcpus(2.5, 4), {**points[3], "metadata_id": 2}, {**points[4], "metadata_id": 3}]
    )
    roll_up(deriving)
    assert loads(deriving) == [(1, 50.0), (2, 50.0), (3, 25.0), (4, 25.0)]  # the last is that of minute 3


def test_a_late_change_of_metadata_counts_up_to_the_next_one(deriving: Site) -> None:
    known(deriving, **CORES)
    land_points(deriving, [cpu(minute, minute * 30) for minute in range(0, 300, 50)])
    land_points(deriving, [vcpus(200, 2), vcpus(100, 3)])
    roll_up(deriving)
    before = [(50, 50.0), (100, 50.0), (150, 50.0), (200, 25.0), (250, 25.0)]
    assert loads(deriving) == before
    land_points(deriving, [vcpus(70, 4)])
    seen = roll_up(deriving)
    assert loads(deriving) == [(50, 50.0), (100, 12.5), (150, 12.5), (200, 25.0), (250, 25.0)]
    assert set(seen.hours) == {at(60), at(120), at(180)}  # nothing after the change of minute 200
    land_points(deriving, [vcpus(70, 4, volume=-5.0)])  # of two volumes the last counts, and this one is excluded
    land_points(deriving, [vcpus(75, 3)])
    assert set(roll_up(deriving).hours) == {at(60)}  # this metadata has no cores


def test_the_first_rate_of_an_hour_starts_from_the_last_point_before(open_site: OpenSite, tmp_path: Path) -> None:
    site = open_site(config_dir=configured(tmp_path, "  - {name: change, kind: delta, from: [m]}\n"))
    gauge = [point(volume, at(minute)) for minute, volume in ((10, 1.0), (70, 3.0), (190, 7.0), (191, 8.0))]
    for piece in ([gauge[1]], [gauge[0], gauge[3]], [gauge[2]]):
        land_points(site, piece)
        roll_up(site)
    assert loads(site) == [(70, 2.0), (190, 4.0), (191, 1.0)]
    land_points(site, [point(2.5, at(100)), point(9.0, at(200), meter="unrelated")])
    assert set(roll_up(site).hours) == {at(60), at(180)}
    assert loads(site) == [(70, 2.0), (100, -0.5), (190, 4.5), (191, 1.0)]
    land_points(site, [point(float("nan"), at(130)), point(5.0, at(191 + 49 * 60))])
    roll_up(site)
    assert loads(site) == [(70, 2.0), (100, -0.5), (190, 4.5), (191, 1.0)]  # too far apart


def test_points_of_a_meter_that_is_of_no_rate_make_no_other_hour_dirty(deriving: Site) -> None:
    land_points(deriving, [point(1.0, at(minute)) for minute in (10, 70, 130)])
    roll_up(deriving)
    land_points(deriving, [point(1.0, at(59))])
    assert roll_up(deriving).hours == [at(0)]


def redefine(folder: Path, more: str) -> None:
    """Write the file anew, with another time of change."""
    path = configured(folder, more) / "derived_meters.yaml"
    changed = path.stat().st_mtime_ns // 10**9 + len(more)
    os.utime(path, (changed, changed))


def test_a_change_of_a_definition_recomputes_the_hours_of_its_sources_and_no_others(
    open_site: OpenSite, tmp_path: Path
) -> None:
    site = open_site(config_dir=configured(tmp_path / "c"))
    land_points(site, [*(point(minute, at(minute)) for minute in (0, 70)), *(cpu(minute, 0) for minute in (150, 151))])
    roll_up(site)
    assert {row[0] for row in derived(site)} == {"cpu_util"}
    redefine(tmp_path / "c", "  - {name: double, kind: convert, from: [m], scale: 2}\n")
    assert set(roll_up(site).hours) == {at(0), at(60)}
    assert [row[4] for row in derived(site) if row[0] == "double"] == [0.0, 140.0]
    redefine(tmp_path / "c", "  - {name: double, kind: convert, from: [m], scale: 2, description: both}\n# Note\n")
    assert roll_up(site).hours == []
    redefine(tmp_path / "c", "  - {name: double, kind: convert, from: [m], scale: 3, description: thrice}\n")
    assert set(roll_up(site).hours) == {at(0), at(60)}
    assert [row[4] for row in derived(site) if row[0] == "double"] == [0.0, 210.0]
    redefine(tmp_path / "c", "  - {name: double, kind: convert}\n")  # cannot work
    assert roll_up(site).hours == []
    redefine(tmp_path / "c", "")
    assert set(roll_up(site).hours) == {at(0), at(60)}
    assert {row[0] for row in derived(site)} == {"cpu_util"}
    query = "SELECT count(DISTINCT series_id) AS series FROM rollups"
    assert sql_on_lake(site, query).to_pylist() == [{"series": 3}]
    assert roll_up(site).hours == []


def test_a_new_definition_looks_for_samples_of_its_name_in_the_past(open_site: OpenSite, tmp_path: Path) -> None:
    site = open_site(config_dir=configured(tmp_path / "c"))
    land_points(site, [point(1.0, at(0), meter="double"), point(1.0, at(120)), point(1.0, at(120), resource="r2")])
    roll_up(site)
    redefine(tmp_path / "c", "  - {name: double, kind: convert, from: [m], scale: 2}\n")
    roll_up(site)
    assert [row[2] for row in derived(site)] == ["r2"]


def test_rates_over_hours_and_cores_of_the_time_are_those_of_a_walk_in_any_order_of_arrival(
    open_site: OpenSite, tmp_path: Path
) -> None:
    config = configured(
        tmp_path / "c",
        "  - {name: r, kind: rate, from: [g, d]}\n"
        "  - {name: change, kind: delta, from: [r]}\n"
        "  - {name: cores, kind: arithmetic, expression: $(g).resource_metadata.vcpus}\n"
        "  - {name: by, kind: aggregate, from: [g], function: count, by: [resource_metadata.vcpus]}\n",
    )
    for seed in range(2):
        source = random.Random(seed)
        times = [sorted(source.sample(range(240), 9)) for _ in range(4)]
        volumes = {minute: float(source.randint(0, 9)) for minute in range(240)}
        changes = {minute: source.randint(1, 4) for minute in times[3]}
        points = [cpu(minute, volumes[minute] * 60) for minute in times[0]]
        points += [point(volumes[minute], at(minute), meter="g") for minute in times[1]]
        points += [point(volumes[minute], at(minute), meter="d", type="delta", sample_id=minute) for minute in times[2]]
        points += [vcpus(minute, number) for minute, number in changes.items()]
        site = open_site(config_dir=config)
        known(site, **CORES)
        source.shuffle(points)
        for piece in range(0, len(points), 12):
            land_points(site, points[piece : piece + 12])
            roll_up(site)
        cores = {1: 1, 2: 2, 4: 4}

        def cores_at(minute: int, found: dict[int, int] = changes, cores: dict[int, int] = cores) -> int:
            return next((cores[found[m]] for m in sorted(found, reverse=True) if m <= minute and found[m] != 3), 1)

        pairs = [list(pairwise(each)) for each in times[:3]]
        expected = []
        for before, minute in pairs[0]:
            grown = volumes[minute] - volumes[before] if volumes[minute] >= volumes[before] else volumes[minute]
            load = 100 * grown / (minute - before) / cores_at(minute)
            expected += [("cpu_util", minute, load)]
        expected += [("r", b, (volumes[b] - volumes[a]) / (b - a) / 60) for a, b in pairs[1]]
        expected += [("r", b, volumes[b] / (b - a) / 60) for a, b in pairs[2]]
        found = sorted(
            (row[0], round((row[3] - NOON) / timedelta(minutes=1)), row[4])
            for row in derived(site)
            if row[0] in ("cpu_util", "r")
        )
        assert found == [(name, minute, pytest.approx(volume)) for name, minute, volume in sorted(expected)]
        at_once = open_site(config_dir=config)
        known(at_once, **CORES)
        land_points(at_once, points)
        roll_up(at_once)
        assert derived(site) == derived(at_once)
        assert {row[0] for row in derived(site)} == {"cpu_util", "r", "change", "cores", "by"}
        assert rollups(site) == rollups(at_once)
        assert history(site) == history(at_once)


def rollups(site: Site) -> list[dict[str, Any]]:
    return sql_on_lake(site, "SELECT * EXCLUDE (metadata_id) FROM rollups ORDER BY ALL").to_pylist()


def history(site: Site) -> list[tuple[Any, ...]]:
    with site.warehouse.read() as connection:
        found = connection.execute(
            text("SELECT resource_id, metadata_id, valid_from, valid_to FROM resource_history ORDER BY 1, 3")
        )
        return [tuple(row) for row in found]


def minutes(found: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Histories with their times in minutes after NOON."""

    def since(value: Any) -> int | None:
        return None if value is None else round((_time(value) - NOON) / timedelta(minutes=1))

    return [(resource, metadata, since(start), since(end)) for resource, metadata, start, end in found]


def _time(value: Any) -> Any:
    from datetime import UTC, datetime

    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


def test_resource_history_has_the_exact_times_of_change_by_good_points(site: Site) -> None:
    land_points(site, [vcpus(minute, 1) for minute in (0, 10, 70)])
    land_points(site, [vcpus(80, 2), vcpus(90, None), vcpus(100, 2), vcpus(110, 9, volume=-1.0)])
    roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 80), ("r1", 2, 80, None)]


def test_of_deltas_of_one_time_the_last_one_counts_in_the_history(site: Site) -> None:
    deltas = [point(1.0, at(n // 2), type="delta", sample_id=5 - n) | {"metadata_id": n} for n in range(4)]
    for order in (deltas, deltas[::-1]):
        land_points(site, order)
        roll_up(site)
        assert minutes(history(site)) == [("r1", 0, 0, 1), ("r1", 2, 1, None)]


def test_late_points_correct_the_history(site: Site) -> None:
    for points in ([vcpus(0, 1)], [vcpus(120, 1)], [vcpus(250, 3)]):
        land_points(site, points)
        roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 250), ("r1", 3, 250, None)]
    land_points(site, [vcpus(30, 2)])
    roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 30), ("r1", 2, 30, 120), ("r1", 1, 120, 250), ("r1", 3, 250, None)]


def test_two_series_with_metadata_of_their_own_do_not_make_a_change_at_each_point(site: Site) -> None:
    for minute in range(0, 120, 10):
        land_points(site, [vcpus(minute, 1), {**point(1.0, at(minute + 1), meter="cpu"), "metadata_id": 2}])
    roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 1), ("r1", 2, 1, None)]
