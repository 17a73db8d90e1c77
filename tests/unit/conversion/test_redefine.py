"""Notifications that were landed are converted again by the definitions of now, and what they yielded is replaced."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import at, drop, notification, polled, polling, roll_up, rows
from conftest import OpenSite

from meterhouse import times
from meterhouse.archive.compaction import compact
from meterhouse.archive.seal import archive, manifest
from meterhouse.catalog import snapshot
from meterhouse.collection.intake import intake
from meterhouse.collection.load import load
from meterhouse.recompute import backfill
from meterhouse.site import Site

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
    found = rows(site, "events", "message_id, list_filter(traits, t -> t.name = 'instance')[1].value AS trait")
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
    assert {row["meter"] for row in rows_of_rollups(defined)} == {"disk.size", "cpu_util", "room"}


def rows_of_rollups(site: Site) -> list[dict[str, Any]]:
    from builders import warehouse_rows

    query = "SELECT DISTINCT s.meter FROM rollup_1h r JOIN series s ON s.series_id = r.series_id"
    return [{"meter": row[0]} for row in warehouse_rows(site, query)]
