"""Real notifications of OpenStack's services, from the files to the roll-ups: counts add up at every stage."""

import json
from pathlib import Path

import pytest
from builders import count, roll_up, rows, warehouse_rows
from conftest import OpenSite

from meterhouse.catalog import catalog, snapshot
from meterhouse.collection.load import load
from meterhouse.conversion.step import convert, unconverted
from meterhouse.sample_quality.step import judge_hours

pytestmark = pytest.mark.slow


def test_every_message_of_the_files_is_accounted_for_at_every_stage(open_site: OpenSite, shared: Path) -> None:
    site = open_site()
    files = sorted(path for path in (shared / "notifications").glob("*.jsonl") if path.name != "provenance.jsonl")
    assert files
    lines = [line for path in files for line in path.read_text().splitlines() if line.strip()]
    ids = {json.loads(line)["message_id"] for line in lines}

    loaded = load(site, files).collected
    assert loaded.messages == len(lines)
    assert (loaded.landed, loaded.dead_letters) == (len(ids), 0)
    assert loaded.redelivered == len(lines) - len(ids)
    landed = {row["message_id"]: row["body"] for row in rows(site, "notifications", "message_id, body")}
    assert set(landed) == ids
    assert all(json.loads(line) == json.loads(landed[json.loads(line)["message_id"]]) for line in lines)

    converted = convert(site)
    assert converted.notifications == len(ids)
    assert unconverted(site) == 0
    assert (converted.samples, converted.events) == (count(site, "samples"), count(site, "events"))
    assert converted.samples > 200
    assert 500 < converted.events <= len(ids)

    catalogued = catalog(site)
    assert catalogued.samples == converted.samples
    (known,) = warehouse_rows(site, "SELECT count(*) FROM series")
    assert known[0] == len({row["series_id"] for row in rows(site, "samples", "series_id")})
    hours = rows(site, "samples", "count(DISTINCT date_trunc('hour', timestamp)) AS n")[0]["n"]
    assert len(snapshot(site).hours) == hours

    judged = judge_hours(site)
    distinct = rows(
        site,
        "samples",
        "count(DISTINCT (series_id, timestamp, volume, CASE WHEN type = 'delta' THEN sample_id END)) AS n",
    )[0]["n"]
    assert judged.points == distinct
    excluded = count(site, "quarantine", "excluded")
    assert judged.excluded == excluded

    rolled = roll_up(site)
    assert len(rolled.hours) == hours
    for seconds in (3600, 86400):
        (sums,) = rows(site, "rollups", "sum(count) AS good, sum(excluded) AS bad", f"granularity_s = {seconds}")
        assert (sums["good"], sums["bad"]) == (distinct - excluded, excluded)
    (sums,) = warehouse_rows(site, "SELECT sum(count), sum(excluded) FROM rollup_1d")
    assert sums == (distinct - excluded, excluded)

    again = load(site, files).collected
    assert (again.landed, again.redelivered) == (0, len(lines))
    assert convert(site).notifications == 0
    assert roll_up(site).hours == []
