"""The roll-up step follows the archive policies, and recomputes what a change of them concerns."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, land_points, point, roll_up, rows, warehouse_rows
from conftest import OpenSite

from meterhouse.catalog import snapshot
from meterhouse.doctor import findings_of
from meterhouse.rollups import policy_changes
from meterhouse.rollups.policy_changes import WHY, outdated
from meterhouse.site import Site


def configure(folder: Path, **content: Any) -> None:
    path = folder / "archive_policies.yaml"
    before = path.stat().st_size if path.exists() else 0
    text = yaml.safe_dump(content)
    path.write_text(text + "#" * (before + 1))
    os.utime(path, ns=(0, (path.stat().st_mtime_ns + before) // 1000 * 1000 + len(text)))


def hour_of_points(meter: str, step: float, *, hours: float = 0) -> list[dict[str, Any]]:
    count = int(60 / step)
    return [point(n % 7, at(n * step, hours=hours), meter=meter) for n in range(count)]


def tiers_of(site: Site, **conditions: str) -> list[int]:
    where = " AND ".join(f"{name} {condition}" for name, condition in conditions.items()) or "true"
    return sorted({row["granularity_s"] for row in rows(site, "rollups", "granularity_s", where)})


@pytest.fixture
def site(open_site: OpenSite, tmp_path: Path) -> Site:
    (tmp_path / "config").mkdir()
    return open_site(config_dir=tmp_path / "config")


def test_each_series_gets_the_tiers_that_its_cadence_and_policy_allow(site: Site, tmp_path: Path) -> None:
    configure(
        tmp_path / "config",
        rules=[{"meters": "fast", "policy": "own"}, {"meters": "bill*", "policy": "billing"}],
        policies=[{"name": "own", "tiers": [{"granularity": 60}, {"granularity": 300}], "percentiles": [50, 90]}],
    )
    land_points(
        site,
        [
            *hour_of_points("fast", 0.25),
            *hour_of_points("minute", 1),
            *hour_of_points("slow", 2),
            *hour_of_points("bill", 1),
        ],
    )
    roll_up(site)
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    meters = dict(warehouse_rows(site, "SELECT series_id, meter FROM series"))
    for row in rows(site, "rollups"):
        found.setdefault(meters[row["series_id"]], {}).setdefault(row["granularity_s"], []).append(row)
    lengths = {meter: {seconds: len(some) for seconds, some in sorted(of.items())} for meter, of in found.items()}
    assert lengths == {
        "fast": {60: 60, 300: 12, 3600: 1, 86400: 1},
        "minute": {300: 12, 3600: 1, 86400: 1},
        "slow": {3600: 1, 86400: 1},
        "bill": {3600: 1, 86400: 1},
    }
    (day,) = found["fast"][86400]
    assert (day["p50"], day["p95"], day["p99"]) == (3.0, None, None)
    assert day["percentiles"] == {"p90": pytest.approx(6.0)}
    assert {meter: of[86400][0]["cadence_s"] for meter, of in found.items()} == {
        "fast": 15.0,
        "minute": 60.0,
        "slow": 120.0,
        "bill": 60.0,
    }
    assert [row["p50"] for row in found["bill"][3600]] == [None]
    assert found["minute"][3600][0]["percentiles"] is None


def test_a_change_recomputes_the_hours_that_it_concerns_and_no_others(site: Site, tmp_path: Path) -> None:
    land_points(site, hour_of_points("early", 1) + hour_of_points("late", 1, hours=30))
    roll_up(site)
    assert outdated(site) == 0
    configure(tmp_path / "config", rules=[{"meters": "late", "policy": "billing"}])
    assert roll_up(site).hours == [at(hours=30).replace(minute=0)]
    assert tiers_of(site, event_day=f"= '{at(hours=30).date()}'") == [3600, 86400]
    assert tiers_of(site, event_day=f"= '{at().date()}'") == [300, 3600, 86400]
    assert (outdated(site), roll_up(site).hours) == (0, [])


def test_another_name_or_retention_recomputes_nothing(site: Site, tmp_path: Path) -> None:
    land_points(site, hour_of_points("m", 1))
    roll_up(site)
    tiers = [{"granularity": 300, "keep": "9 days"}]
    configure(tmp_path / "config", default="mine", policies=[{"name": "mine", "tiers": tiers}])
    version = site.lake.version("rollups")
    assert roll_up(site).hours == []
    configure(tmp_path / "config", default="mine", policies=[{"name": "mine", "tiers": tiers}], rules=[])
    configure(
        tmp_path / "config",
        default="mine",
        policies=[{"name": "mine", "tiers": tiers}],
        rules=[{"meters": "nobody.has.it", "policy": "billing"}],
    )
    assert outdated(site) == 1  # by its fingerprint
    assert roll_up(site).hours == []
    assert (outdated(site), site.lake.version("rollups")) == (0, version)


def test_a_big_change_is_done_in_pieces_the_newest_hours_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_points(site, [row for hour in range(5) for row in hour_of_points("m", 1, hours=hour)])
    roll_up(site)
    monkeypatch.setattr(policy_changes, "HOURS_AT_ONCE", 2)
    configure(tmp_path / "config", default="billing")
    hours = [at(hours=hour).replace(minute=0) for hour in range(5)]
    assert sorted(roll_up(site).hours) == hours[3:]
    assert {hour for hour, state in snapshot(site).hours.items() if state.unrolled} == set(hours[1:3])
    assert warehouse_rows(site, f"SELECT count(*) FROM dirty_hours WHERE why = '{WHY}' AND rolled_marks = 0") == [(2,)]
    (found,) = findings_of(site, "policy changes")
    assert "3 event hours" in found.found
    assert sorted(roll_up(site).hours) == hours[1:3]
    assert sorted(roll_up(site).hours) == hours[:1]
    assert tiers_of(site) == [3600, 86400]
    assert roll_up(site).hours == []


def test_while_a_policy_cannot_work_nothing_is_recomputed(site: Site, tmp_path: Path) -> None:
    land_points(site, hour_of_points("m", 1))
    roll_up(site)
    configure(tmp_path / "config", default="billing", rules=[{"meters": "x", "policy": "nobody"}])
    assert roll_up(site).hours == []
    assert findings_of(site, "archive policies")[0].state == "warning"
    configure(tmp_path / "config", default="billing")
    assert len(roll_up(site).hours) == 1


def test_hours_of_an_earlier_release_stay_as_they_are(site: Site, tmp_path: Path) -> None:
    land_points(site, hour_of_points("m", 1))
    roll_up(site)
    with site.warehouse.begin() as connection:
        connection.exec_driver_sql("UPDATE dirty_hours SET policies = NULL")
    configure(tmp_path / "config", default="billing")
    assert (outdated(site), roll_up(site).hours) == (0, [])


def test_an_hour_that_fills_keeps_the_tiers_of_the_others(site: Site) -> None:
    points = hour_of_points("m", 1) + hour_of_points("m", 1, hours=1)
    land_points(site, points[:60])
    roll_up(site)
    first = rows(site, "rollups", where="granularity_s < 86400", order="granularity_s, bucket")
    for n in range(60, 64):
        land_points(site, points[n : n + 1])
        roll_up(site)
    now = rows(
        site, "rollups", where=f"granularity_s < 86400 AND bucket < '{at(hours=1) - timedelta(minutes=at().minute)}'"
    )
    assert sorted(now, key=lambda row: (row["granularity_s"], row["bucket"])) == first
    assert tiers_of(site) == [300, 3600, 86400]
