"""What definitions, rules and policies of the past have made is known, with what has changed since."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import at, drop, land_points, notification, point, roll_up, rows, warehouse_rows
from conftest import OpenSite
from sqlalchemy import event, insert

from meterhouse import times
from meterhouse.catalog import snapshot
from meterhouse.collection.intake import intake
from meterhouse.recompute import backfill, backfill_stale
from meterhouse.settings import variable
from meterhouse.site import Site
from meterhouse.stale import stale, stale_hours
from meterhouse.stores.warehouse_tables import conversions

METERS = """metric:
- name: disk
  event_type: compute.instance.exists
  type: gauge
  unit: GB
  volume: $.payload.disk
  resource_id: $.payload.instance_id
"""

RULES = """rules:
- {name: too_high, bit: 12, check: range, severity: critical, meters: [cpu, "mem*"], max: 100}
"""

POLICIES = """default: monitoring
rules:
- {meters: cpu, policy: monitoring}
"""

Clock = Callable[[datetime], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the clock."""
    return lambda moment: monkeypatch.setattr(times, "now", lambda: moment)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "meters.d").mkdir(parents=True)
    (folder / "meters.d" / "nova.yaml").write_text(METERS)
    (folder / "quality.yaml").write_text(RULES)
    (folder / "archive_policies.yaml").write_text(POLICIES)
    return folder


@pytest.fixture
def defined(open_site: OpenSite, config: Path) -> Site:
    return open_site(config_dir=config)


def change(config: Path, name: str, before: str, after: str) -> None:
    """Change a file of the site."""
    path = config / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after) + "# changed\n")


def land(site: Site, clock: Clock, *hours: float) -> None:
    """Let a notification come in each of these hours."""
    for n in hours:
        clock(at(5, hours=n))
        payload = {"disk": 1.0, "instance_id": f"i{n}"}
        drop(
            site.settings.spool, "a.jsonl", [notification(f"m{n}", timestamp=at(hours=n).isoformat(), payload=payload)]
        )
        intake(site)


def listed(site: Site, asset: str) -> list[tuple[Any, ...]]:
    return [(each.start, each.end, each.hours, each.changed, each.files) for each in stale(site, asset)]


def test_nothing_is_stale_at_first(defined: Site, clock: Clock) -> None:
    assert stale(defined) == []
    land(defined, clock, 0, 1)
    roll_up(defined)
    assert stale(defined) == []
    assert backfill_stale(defined) == {}


def test_hours_are_listed_as_one_span_with_what_has_changed_and_where(
    defined: Site, config: Path, clock: Clock
) -> None:
    land(defined, clock, 0, 1, 5)
    change(config, "meters.d/nova.yaml", "unit: GB", "unit: GiB")
    more = METERS.replace("disk", "root").partition("\n")[2]
    (config / "meters.yaml").write_text("metric:\n" + more)
    wanted = (at(), at(hours=6), 3, ("meter disk changed", "meter root added"), ("meters.d/nova.yaml", "meters.yaml"))
    assert listed(defined, "samples") == [wanted]
    assert stale_hours(defined, "samples") == [at(), at(hours=1), at(hours=5)]
    assert listed(defined, "events") == listed(defined, "sample_quality") == listed(defined, "rollups") == []
    land(defined, clock, 6)
    (config / "meters.yaml").unlink()
    of_both = ("meter root removed",)
    assert [row[2:4] for row in listed(defined, "samples")] == [(1, of_both), (3, ("meter disk changed",))]


def test_comments_order_and_form_of_a_file_change_nothing(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, 0)
    roll_up(defined)
    (config / "meters.d" / "nova.yaml").rename(config / "meters.d" / "compute.yaml")
    change(config, "meters.d/compute.yaml", "  unit: GB\n  volume: $.payload.disk\n", "  volume: '$.payload.disk'\n")
    change(config, "meters.d/compute.yaml", "  type: gauge", "  unit: GB  # of the flavor\n  type: gauge")
    change(
        config, "meters.d/compute.yaml", "event_type: compute.instance.exists", "event_type: [compute.instance.exists]"
    )
    change(
        config,
        "quality.yaml",
        'meters: [cpu, "mem*"], max: 100',
        "max: 1.0e+2, description: words, meters: [cpu, 'mem*']",
    )
    change(config, "archive_policies.yaml", "default: monitoring", "# the default\ndefault: monitoring")
    assert stale(defined) == []


def test_an_hour_in_which_definitions_changed_is_stale_in_part(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, 0, 0.1)
    change(config, "meters.d/nova.yaml", "unit: GB", "unit: GiB")
    land(defined, clock, 0.2)
    assert [row[2] for row in listed(defined, "samples")] == [1]
    done = backfill_stale(defined, "samples")
    assert (done["samples"]["hours"], done["samples"]["rows"]) == (1, 3)
    assert stale(defined) == []
    assert {row["unit"] for row in rows(defined, "samples", "unit")} == {"GiB"}


def test_settings_that_decide_on_rows_count_as_definitions(open_site: OpenSite, clock: Clock) -> None:
    site = open_site()
    land(site, clock, 0)
    other = open_site(home=site.settings.home_path, store_raw="info", telemetry_secret="s", collect_batch=7)
    name = variable("store_raw")
    assert [(each.asset, each.changed, each.files) for each in stale(other)] == [
        ("events", (f"setting {name} changed",), (name,))
    ]
    backfill_stale(other)
    assert rows(other, "events", "raw IS NOT NULL AS kept") == [{"kept": True}]
    assert stale(other) == []


def test_everything_stale_is_brought_up_to_date_in_the_order_of_the_flow(
    defined: Site, config: Path, clock: Clock
) -> None:
    land(defined, clock, 0, 1, 30)
    land_points(defined, [{**point(200.0, at(n, hours=2), meter="cpu"), "origin": "loaded"} for n in range(3)])
    roll_up(defined)
    change(config, "meters.d/nova.yaml", "name: disk", "name: root")
    change(config, "quality.yaml", "max: 100", "max: 300")
    change(config, "archive_policies.yaml", "cpu, policy: monitoring", "cpu, policy: billing")
    assert {each.asset: each.hours for each in stale(defined)} == {"samples": 3, "sample_quality": 1, "rollups": 1}
    done = backfill_stale(defined)
    assert list(done) == ["samples", "sample_quality", "rollups"]
    assert (done["samples"]["hours"], done["samples"]["event_hours"], done["sample_quality"]["hours"]) == (3, 3, 1)
    assert stale(defined) == []
    assert not snapshot(defined).hours
    query = "SELECT meter, sum(count) FROM rollup_1h r JOIN series s ON s.series_id = r.series_id GROUP BY meter"
    found = sorted(warehouse_rows(defined, query))
    assert found == [("cpu", 3), ("root", 3)]
    assert backfill_stale(defined) == {}


def test_rules_make_only_those_hours_stale_that_may_have_points_of_their_meters(defined: Site, config: Path) -> None:
    land_points(defined, [point(1.0, at(hours=n), meter="cpu" if n == 3 else "temp") for n in range(6)])
    roll_up(defined)
    change(config, "quality.yaml", "max: 100", "max: 90")
    (found,) = stale(defined)
    assert (found.asset, found.start, found.hours) == ("sample_quality", at(hours=3), 1)
    assert (found.changed, found.files) == (("rule too_high changed",), ("quality.yaml",))
    roll_up(defined)  # nothing is recomputed that nobody asked for
    assert stale(defined) == [found]
    backfill(defined, "sample_quality", at(hours=3), at(hours=4))
    assert stale(defined) == []
    change(config, "quality.yaml", 'meters: [cpu, "mem*"]', 'meters: [cpu, "mem*", unheard]')
    assert stale(defined) == []


def test_it_says_since_when_the_present_definitions_hold(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, 0)
    change(config, "meters.d/nova.yaml", "unit: GB", "unit: GiB")
    moment = (config / "meters.d" / "nova.yaml").stat().st_mtime
    (found,) = stale(defined)
    assert found.since is not None
    assert found.since.timestamp() == pytest.approx(moment, abs=0.001)
    land(defined, clock, 3)
    assert stale(defined)[0].since == at(5, hours=3)
    change(config, "meters.d/nova.yaml", "unit: GiB", "unit: GB")  # as it was at first
    (found,) = stale(defined)
    assert (found.start, found.hours) == (at(hours=3), 1)
    assert found.since is not None
    assert found.since > at(days=1)


def test_hours_of_releases_that_kept_nothing_are_not_stale(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, 0)
    roll_up(defined)
    with defined.warehouse.begin() as connection:
        connection.exec_driver_sql("DELETE FROM conversions")
        connection.exec_driver_sql("UPDATE dirty_hours SET rules = NULL, policies = NULL")
    change(config, "meters.d/nova.yaml", "unit: GB", "unit: GiB")
    change(config, "quality.yaml", "max: 100", "max: 90")
    assert stale(defined) == []


def test_a_killed_backfill_of_what_is_stale_leaves_only_the_rest(
    defined: Site, config: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(defined, clock, 0, 1, 2, 3)
    change(config, "meters.d/nova.yaml", "unit: GB", "unit: GiB")

    class Killed(BaseException):
        pass

    def die(done: int, total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        backfill_stale(defined, "samples", progress=lambda name: die)
    assert stale_hours(defined, "samples") == [at()]
    assert backfill_stale(defined, "samples")["samples"]["hours"] == 1


def test_what_is_stale_is_found_without_looking_at_what_is_not(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, 0)
    change(config, "meters.d/nova.yaml", "unit: GB", "unit: GiB")
    land(defined, clock, 1)
    of_now = "SELECT fingerprint FROM conversions WHERE table_name = 'samples' AND arrival_hour LIKE '%T13'"
    ((fingerprint,),) = warehouse_rows(defined, of_now)
    present = {"table_name": "samples", "fingerprint": fingerprint, "version": 1}
    years = [{**present, "arrival_hour": times.arrival_hour(at(hours=-n))} for n in range(1, 30_000)]
    with defined.warehouse.begin() as connection:
        connection.execute(insert(conversions), years)
    of_all = steps(defined, lambda: warehouse_rows(defined, "SELECT count(fingerprint) FROM conversions"))
    assert steps(defined, lambda: stale(defined, "samples")) < of_all / 10
    assert stale_hours(defined, "samples") == [at()]


def steps(site: Site, call: Callable[[], object]) -> int:
    """How many thousands of its instructions SQLite takes for a call."""
    found = [0]

    def step() -> int:
        found[0] += 1
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, 1_000)

    event.listen(site.warehouse.engine, "checkout", watch)
    try:
        call()
    finally:
        event.remove(site.warehouse.engine, "checkout", watch)
    return found[0]
