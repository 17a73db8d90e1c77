"""Notifications that were landed are converted again by the definitions of now, and what they yielded is replaced."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import (
    at,
    count,
    drop,
    land_points,
    notification,
    point,
    polled,
    polling,
    roll_up,
    rows,
    warehouse_rows,
)
from conftest import OpenSite
from hypothesis import HealthCheck, given, settings, strategies
from reference import assert_same, in_lake, in_warehouse
from restores import copy_lake, put_lake

from meterhouse import times
from meterhouse.archive.compaction import compact
from meterhouse.archive.seal import archive, manifest
from meterhouse.catalog import catalog, snapshot
from meterhouse.collection.collect import collect
from meterhouse.collection.intake import intake
from meterhouse.collection.load import load
from meterhouse.conversion import redefine
from meterhouse.conversion.signatures import signature
from meterhouse.conversion.step import convert
from meterhouse.errors import DefinitionError, MeterhouseError, WentBack
from meterhouse.history import followed_position
from meterhouse.mending.mend import mend
from meterhouse.recompute import backfill, backfill_stale
from meterhouse.site import Site
from meterhouse.stale import WENT_BACK, stale
from meterhouse.stores import lake_log
from meterhouse.stores.lake import PROPERTIES
from meterhouse.stores.lake_tables import SAMPLES
from meterhouse.upkeep import upkeep

METER = """metric:
- name: {name}
  event_type: compute.instance.exists
  type: gauge
  unit: {unit}
  volume: {volume}
  resource_id: $.payload.instance_id
  project_id: $.payload.tenant_id
  timestamp: $.payload.at
"""

EVENTS = """- event_type: compute.instance.*
  traits:
    instance:
      fields: payload.{field}
"""

Clock = Callable[[datetime], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the clock."""

    def put(moment: datetime) -> None:
        monkeypatch.setattr(times, "now", lambda: moment)

    return put


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    define(folder)
    return folder


@pytest.fixture
def defined(open_site: OpenSite, config: Path) -> Site:
    return open_site(config_dir=config)


def define(
    folder: Path, name: str = "disk", unit: str = "GB", volume: str = "$.payload.disk", field: str = "instance_id"
) -> None:
    """Write the site's definitions; a change is never within the same tick of the file system's clock."""
    (folder / "meters.yaml").write_text(METER.format(name=name, unit=unit, volume=volume))
    (folder / "event_definitions.yaml").write_text(EVENTS.format(field=field))


def exists(message_id: str, when: datetime, disk: float = 10.0, **more: Any) -> dict[str, Any]:
    """A notification that yields a sample of its own time, and an event."""
    payload = {"instance_id": f"i-{message_id}", "tenant_id": "p1", "disk": disk, "at": when.isoformat(), **more}
    return notification(message_id, timestamp=when.isoformat(), payload=payload)


def land(site: Site, clock: Clock, moment: datetime, *messages: dict[str, Any]) -> None:
    """Collect, convert and catalog messages at a time."""
    clock(moment)
    drop(site.settings.spool, f"{moment:%H%M%S}.jsonl", messages)
    intake(site)


def samples(site: Site) -> list[tuple[str, str, datetime, float]]:
    found = rows(site, "samples", "meter, unit, timestamp, volume", order="meter, timestamp, volume")
    return [(row["meter"], row["unit"], row["timestamp"], row["volume"]) for row in found]


def traits(site: Site) -> list[Any]:
    found = rows(site, "events", "message_id, list_filter(traits, lambda t: t.name = 'instance')[1].value AS trait")
    return [(row["message_id"], row["trait"]) for row in found]


def fill(site: Site, clock: Clock, tmp_path: Path, state: str) -> None:
    """Samples of notifications of every kind, of an agent, and of a file, that arrived in the hour of noon."""
    csv = tmp_path / "room.csv"
    csv.write_text(f"timestamp,volume\n{times.text(at(3))},21.5\n")
    early = exists("late", at(hours=-30), 7.0)
    land(site, clock, at(5), exists("a", at(1)), exists("b", at(2), 20.0), early)
    land(site, clock, at(6), polling("poll", [polled(50.0, at(4), message_id="s1")]), exists("a", at(1)))
    load(site, [csv])
    land(site, clock, at(7), exists("c", at(1), 11.0, instance_id="i-a"))  # of another volume, at the same time
    roll_up(site)
    clock(at(hours=2) if state != "open" else at(10))
    if state == "compacted":
        assert compact(site).hours
    if state == "sealed":
        clock(at(days=1, hours=2))
        assert archive(site, at().date()).sealed
    assert not snapshot(site).hours


@pytest.mark.parametrize("state", ["open", "closed", "compacted", "sealed"])
def test_the_samples_of_notifications_are_replaced_and_the_others_stay(
    defined: Site, config: Path, clock: Clock, tmp_path: Path, state: str
) -> None:
    fill(defined, clock, tmp_path, state)
    others = [("cpu_util", "%", at(4), 50.0), ("room", None, at(3), 21.5)]
    when = [(at(hours=-30), 7.0), (at(1), 10.0), (at(1), 11.0), (at(2), 20.0)]
    assert samples(defined) == sorted([*others, *(("disk", "GB", *each) for each in when)])
    define(config, "disk.size", "MB", "$.payload.disk * 1000")
    done = backfill(defined, "samples", at(hours=-1), at(hours=1))
    wanted = [*others, *(("disk.size", "MB", moment, volume * 1000) for moment, volume in when)]
    assert samples(defined) == sorted(wanted)
    assert (done["hours"], done["changed_hours"], done["event_hours"], done["rows"]) == (1, 1, 2, 5)
    assert snapshot(defined).hours.keys() == {at(), at(hours=-30)}
    if state == "sealed":
        (entry,) = [each for each in manifest(defined, at().date()) if each["table_name"] == "samples"]
        assert entry["rows"] == 6
        assert set(entry["files"]) == defined.lake.live("samples")
    assert roll_up(defined).points == 6 - 1  # two volumes at one time: one counts
    query = "SELECT DISTINCT meter FROM rollup_1h r JOIN series s ON s.series_id = r.series_id ORDER BY meter"
    assert warehouse_rows(defined, query) == [("cpu_util",), ("disk.size",), ("room",)]


def test_events_are_replaced_and_none_is_told_as_new(defined: Site, config: Path, clock: Clock, tmp_path: Path) -> None:
    fill(defined, clock, tmp_path, "sealed")
    assert traits(defined) == [("a", "i-a"), ("b", "i-b"), ("c", "i-a"), ("late", "i-late")]
    followed = defined.lake.version("events")
    define(config, field="tenant_id")
    done = backfill(defined, "events", at(hours=-1), at(hours=1))
    assert traits(defined) == [(each, "p1") for each in ("a", "b", "c", "late")]
    assert (done["changed_hours"], done["rows"], done["event_hours"]) == (1, 4, 0)
    appended = defined.lake.appended("events", followed)
    assert appended is not None
    assert appended.rows.num_rows == 0
    (entry,) = [each for each in manifest(defined, at().date()) if each["table_name"] == "events"]
    assert set(entry["files"]) == defined.lake.live("events")
    assert not snapshot(defined).hours


@pytest.mark.parametrize("asset", ["samples", "events"])
def test_what_does_not_change_is_not_written(
    defined: Site, config: Path, clock: Clock, tmp_path: Path, asset: str
) -> None:
    fill(defined, clock, tmp_path, "compacted")
    convert(defined)
    before, live = defined.lake.version(asset), defined.lake.live(asset)
    done = backfill(defined, asset, at(hours=-1), at(hours=1))
    assert (done["hours"], done["changed_hours"]) == (1, 0)
    assert {file.name for file in Path(defined.lake.uri(asset)).glob("*/redefined-*")} == set()
    assert defined.lake.version(asset) == before
    assert defined.lake.live(asset) == live
    assert not snapshot(defined).hours


def test_only_the_event_hours_become_dirty_whose_points_change(defined: Site, config: Path, clock: Clock) -> None:
    named = {n: {"named": 3.0} if n == 3 else {} for n in range(5)}
    land(defined, clock, at(5), *(exists(f"m{n}", at(hours=-n), float(n), **named[n]) for n in range(5)))
    roll_up(defined)
    define(config)
    more = METER.format(name="named", unit="GB", volume="$.payload.named").partition("\n")[2]
    (config / "meters.yaml").write_text((config / "meters.yaml").read_text() + more)
    done = backfill(defined, "samples", at(), at(hours=1))
    assert (done["event_hours"], count(defined, "samples")) == (1, 6)
    assert snapshot(defined).hours.keys() == {at(hours=-3)}


def test_messages_that_wait_for_conversion_are_left_to_it(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, at(5), exists("a", at(1)))
    define(config, "size")
    drop(defined.settings.spool, "b.jsonl", [exists("b", at(2))])
    collect(defined)
    with defined.warehouse.lease("convert"):
        assert backfill(defined, "samples", at(), at(hours=1))["notifications"] == 1
    assert [row[2] for row in samples(defined)] == [at(1)]
    convert(defined)
    assert [row[2] for row in samples(defined)] == [at(1), at(2)]


@pytest.mark.parametrize("asset", ["samples", "events"])
def test_messages_that_come_meanwhile_are_converted_once(
    defined: Site, config: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, asset: str
) -> None:
    land(defined, clock, at(5), exists("a", at(1)))
    define(config, "size", field="tenant_id")
    whole = redefine.Redefinition._compare

    def compare(self: redefine.Redefinition, *args: Any) -> None:
        land(defined, clock, at(6), exists("b", at(2)))
        whole(self, *args)

    monkeypatch.setattr(redefine.Redefinition, "_compare", compare)
    backfill(defined, asset, at(), at(hours=1))
    if asset == "samples":
        assert [(row[0], row[2]) for row in samples(defined)] == [("size", at(1)), ("size", at(2))]
    assert traits(defined) == [("a", "p1" if asset == "events" else "i-a"), ("b", "p1")]


def test_a_compaction_that_comes_first_is_no_harm(
    defined: Site, config: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(defined, clock, tmp_path, "closed")
    define(config, "size")
    whole, calls = redefine.Redefinition._compare, []

    def compare(self: redefine.Redefinition, *args: Any) -> None:
        calls.append(compact(defined).hours if not calls else 0)
        whole(self, *args)

    monkeypatch.setattr(redefine.Redefinition, "_compare", compare)
    backfill(defined, "samples", at(), at(hours=1))
    assert calls[0]
    assert len(calls) == 2  # the hour was converted again
    assert [row[0] for row in samples(defined)] == ["cpu_util", "room", "size", "size", "size", "size"]
    assert compact(defined).left == 0
    assert [row[0] for row in samples(defined)] == ["cpu_util", "room", "size", "size", "size", "size"]


def test_polled_samples_stay_although_the_secret_was_changed_since(open_site: OpenSite, clock: Clock) -> None:
    def signed(n: int, secret: str) -> dict[str, Any]:
        sample = polled(float(n), at(n), message_id=f"s{n}")
        return {**sample, "message_signature": signature(sample, secret)}

    site = open_site(telemetry_secret="old")
    batch = polling("b", [signed(1, "old"), signed(2, "forged"), signed(3, "old")])
    land(site, clock, at(10), batch, polling("c", [signed(4, "old")]))
    before = samples(site)
    assert [row[2] for row in before] == [at(1), at(3), at(4)]
    for secret in ("new", "old"):
        other = open_site(home=site.settings.home_path, telemetry_secret=secret)
        backfill(other, "samples", at(), at(hours=1))
        assert samples(other) == before
    assert backfill(open_site(home=site.settings.home_path), "samples", at(), at(hours=1))["rows"] == 4


def test_an_hour_of_samples_of_unknown_origin_stays_as_it_is(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, at(5), exists("a", at(1)))
    land_points(defined, [point(5.0, at(2), recorded_at=at(5))])
    define(config, "size")
    before = samples(defined)
    with pytest.raises(MeterhouseError, match="1 samples that arrived at 2026-11-10T12"):
        backfill(defined, "samples", at(), at(hours=1))
    assert samples(defined) == before


def test_an_invalid_meter_removes_nothing(defined: Site, config: Path, clock: Clock) -> None:
    land(defined, clock, at(5), exists("a", at(1)))
    before = samples(defined)
    (config / "meters.yaml").write_text(METER.format(name="disk", unit="GB", volume="$.payload.disk["))
    with pytest.raises(DefinitionError, match="meter 'disk' is left out, so its samples of the past would be removed"):
        backfill(defined, "samples", at(), at(hours=1))
    assert samples(defined) == before


def test_an_hour_that_was_only_loaded_stays(defined: Site, config: Path, clock: Clock, tmp_path: Path) -> None:
    clock(at(5))
    csv = tmp_path / "room.csv"
    csv.write_text(f"timestamp,volume\n{times.text(at(3))},21.5\n")
    load(defined, [csv])
    assert backfill(defined, "samples", at(), at(hours=1))["hours"] == 0
    assert len(samples(defined)) == 1


def test_what_is_converted_again_did_not_come_late(defined: Site, config: Path, clock: Clock, tmp_path: Path) -> None:
    fill(defined, clock, tmp_path, "sealed")
    came = warehouse_rows(defined, "SELECT meter, sum(points), sum(late) FROM lateness GROUP BY meter ORDER BY meter")
    define(config, volume="$.payload.disk * 2")
    backfill(defined, "samples", at(), at(hours=1))
    query = "SELECT meter, sum(points), sum(late) FROM lateness GROUP BY meter ORDER BY meter"
    assert warehouse_rows(defined, query) == came


@pytest.mark.parametrize("cleaned", [False, True])
def test_the_catalog_marks_the_old_hours_and_the_new_ones_however_far_behind_it_is(
    defined: Site, config: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, cleaned: bool
) -> None:
    if cleaned:
        monkeypatch.setitem(PROPERTIES, "delta.checkpointInterval", "5")
        for name in ("EVERY", "IN_LOG"):
            monkeypatch.setattr(lake_log, name, 5)
        monkeypatch.setattr(lake_log.shorten, "__defaults__", (5,))
    land(defined, clock, at(5), exists("a", at(1), launched=times.text(at(hours=-3))))
    land_points(defined, [{**point(1.0, at(hours=-6)), "origin": "loaded"}])
    roll_up(defined)
    (config / "meters.yaml").write_text((config / "meters.yaml").read_text().replace(".at", ".launched"))
    with monkeypatch.context() as killed:
        killed.setattr("meterhouse.catalog.catalog", lambda site, **how: None)
        backfill(defined, "samples", at(), at(hours=1))
    assert not snapshot(defined).hours
    if cleaned:
        loaded = {**point(2.0, at(hours=-8), recorded_at=at(5)), "origin": "loaded"}
        for n in range(20):
            defined.lake.append("samples", pa.Table.from_pylist([{**loaded, "volume": float(n)}], schema=SAMPLES))
        clock(datetime.now(UTC) + timedelta(days=4))
        assert upkeep(defined).failed == {}
        behind = followed_position(defined, "samples").version
        assert defined.lake.read_commit("samples", behind + 1) is None
        assert defined.lake.known_files("samples", behind) is not None
    catalog(defined)
    hours = {at(), at(hours=-3)}
    assert snapshot(defined).hours.keys() - {at(hours=-6)} == (hours | {at(hours=-8)} if cleaned else hours)
    assert [row[2] for row in samples(defined) if row[0] == "disk"] == [at(hours=-3)]


def test_it_works_on_every_kind_of_store(any_site: Site, clock: Clock, tmp_path: Path) -> None:
    site = replace(any_site, settings=replace(any_site.settings, config_dir=tmp_path))
    define(tmp_path)
    land(site, clock, at(5), exists("a", at(1)), exists("b", at(hours=-2), 5.0))
    roll_up(site)
    clock(at(days=1, hours=2))
    archive(site, at().date())
    define(tmp_path, "size", field="tenant_id")
    assert [each.asset for each in stale(site)] == ["samples", "events"]
    done = backfill_stale(site)
    assert {name: each["hours"] for name, each in done.items()} == {"samples": 1, "events": 1, "rollups": 2}
    assert [row[0] for row in samples(site)] == ["size", "size"]
    assert traits(site) == [("a", "p1"), ("b", "p1")]
    assert stale(site) == []
    assert not snapshot(site).hours


def test_after_a_restore_it_is_not_known_by_what_hours_were_converted(
    defined: Site, config: Path, clock: Clock
) -> None:
    land(defined, clock, at(5), exists("a", at(1)))
    kept = copy_lake(defined)
    define(config, "size")
    backfill(defined, "samples", at(), at(hours=1))
    roll_up(defined)
    restored = put_lake(defined, kept)
    assert [row[0] for row in samples(restored)] == ["disk"]
    with pytest.raises(WentBack):
        catalog(restored)
    mend(restored)
    assert {each.asset: each.changed for each in stale(restored)} == dict.fromkeys(("samples", "events"), WENT_BACK)
    backfill_stale(restored)
    assert [row[0] for row in samples(restored)] == ["size"]
    assert stale(restored) == []


def test_mending_takes_no_rows_of_a_killed_redefinition(
    defined: Site, config: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(defined, clock, at(5), exists("a", at(1)))
    define(config, "size")

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as killed:
        killed.setattr(defined.lake, "swap", die)
        killed.setattr(defined.lake, "discard", lambda *_: None)
        with pytest.raises(Killed):
            backfill(defined, "samples", at(), at(hours=1))
    assert list(Path(defined.lake.uri("samples")).glob("*/redefined-*"))
    mend(defined)
    assert [row[0] for row in samples(defined)] == ["disk"]
    backfill(defined, "samples", at(), at(hours=1))
    assert [row[0] for row in samples(defined)] == ["size"]


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
def test_it_gives_what_the_definitions_would_have_given_at_once(
    open_site: OpenSite, tmp_path_factory: pytest.TempPathFactory, data: strategies.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("config")
    define(folder)
    site, fresh = open_site(config_dir=folder), open_site(config_dir=folder)
    hours = strategies.integers(0, 2)
    minutes = strategies.integers(-2_000, 60)
    disks = strategies.sampled_from([1.0, 2.0, float("nan"), None, "x"])
    names = strategies.sampled_from("abcdef")
    messages = data.draw(strategies.lists(strategies.tuples(hours, names, minutes, disks), min_size=1, max_size=12))
    steps = data.draw(
        strategies.lists(strategies.sampled_from(["", "tidy", "compact", "archive", "roll up"]), max_size=3)
    )
    kinds = ["gauge", "delta", "cumulative"]
    before, now = (data.draw(strategies.sampled_from(kinds)) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:

        def clock(moment: datetime) -> None:
            patch.setattr(times, "now", lambda: moment)

        def give(site: Site) -> None:
            for hour in range(3):
                of_hour = [each for each in messages if each[0] == hour]
                made = [
                    exists(f"{hour}{name}", at(minute), disk, instance_id=name) for _, name, minute, disk in of_hour
                ]
                loaded = [{**point(5.0, at(9), recorded_at=at(10, hours=hour)), "origin": "loaded"}]
                land(site, clock, at(5, hours=hour), *made)
                land_points(site, loaded)

        meters = (folder / "meters.yaml").read_text()
        (folder / "meters.yaml").write_text(meters.replace("gauge", before))
        give(site)
        clock(at(hours=30))
        for step in steps:
            {"archive": lambda: archive(site, at().date()), "compact": lambda: compact(site)}.get(step, lambda: None)()
            if step == "roll up":
                roll_up(site)
        (folder / "meters.yaml").write_text(meters.replace("gauge", now).replace("disk\n", "size\n"))
        backfill_stale(site)
        give(fresh)
        clock(at(hours=30))
        roll_up(fresh)
        for table, columns in (
            ("samples", "DISTINCT meter, type, timestamp, volume::VARCHAR AS volume, recorded_at"),
            ("events", "message_id, generated, traits"),
            ("quarantine", "meter, timestamp, reasons"),
        ):
            assert rows(site, table, columns) == rows(fresh, table, columns)
        assert_same(in_lake(site, 3600), in_lake(fresh, 3600))
        assert_same(in_warehouse(site, 86400), in_warehouse(fresh, 86400))
        assert stale(site) == []
