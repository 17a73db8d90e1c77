"""Derived meters and resource history in the roll-up step: the same, in whatever order points come."""

import random
from collections.abc import Sequence
from datetime import timedelta
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
    (found,) = statistics(deriving, "cpu_util")
    assert (found["count"], found["avg"], found["unit"]) == (4, pytest.approx(37.5), "%")
    assert samples(deriving, "cpu_util")["reasons"].to_pylist() == [[]] * 4
    assert {row["meter"] for row in meter_list(deriving)} == {"cpu", "cpu_util"}
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
    assert statistics(deriving, "cpu_util")[0]["count"] == 1


def test_samples_received_under_the_name_count_for_that_resource_and_day(deriving: Site) -> None:
    land_points(
        deriving, [cpu(minute, minute * 6, resource) for minute in (0, 1, 100, 101) for resource in ("r1", "r2")]
    )
    roll_up(deriving)
    assert len(derived(deriving)) == 6
    land_points(deriving, [point(3.0, at(180), meter="cpu_util", unit="%", resource="r1")])
    roll_up(deriving)
    assert {row[2] for row in derived(deriving)} == {"r2"}
    (found,) = statistics(deriving, "cpu_util", groupby=["resource_id"], aggregate=["count"])[:1]
    assert (found["groupby"], found["count"]) == ({"resource_id": "r1"}, 1)
    land_points(deriving, [cpu(minute, minute * 6) for minute in (24 * 60, 24 * 60 + 1)])
    roll_up(deriving)
    assert [row[3] for row in derived(deriving) if row[2] == "r1"] == [at(24 * 60), at(24 * 60 + 1)]


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


def described(minute: float, metadata: int | None, volume: float = 1.0, resource: str = "r1") -> dict[str, Any]:
    return {**point(volume, at(minute), meter="vcpus", resource=resource), "metadata_id": metadata}


def test_resource_history_has_the_exact_times_of_change_by_good_points(site: Site) -> None:
    land_points(site, [described(minute, 1) for minute in (0, 10, 70)])
    land_points(site, [described(80, 2), described(90, None), described(100, 2), described(110, 9, volume=-1.0)])
    roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 80), ("r1", 2, 80, None)]


def test_late_points_correct_the_history(site: Site) -> None:
    for points in ([described(0, 1)], [described(120, 1)], [described(250, 3)]):
        land_points(site, points)
        roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 250), ("r1", 3, 250, None)]
    land_points(site, [described(30, 2)])
    roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 30), ("r1", 2, 30, 120), ("r1", 1, 120, 250), ("r1", 3, 250, None)]


def test_two_series_with_metadata_of_their_own_do_not_make_a_change_at_each_point(site: Site) -> None:
    for minute in range(0, 120, 10):
        land_points(site, [described(minute, 1), {**point(1.0, at(minute + 1), meter="cpu"), "metadata_id": 2}])
    roll_up(site)
    assert minutes(history(site)) == [("r1", 1, 0, 1), ("r1", 2, 1, None)]
