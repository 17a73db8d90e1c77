"""Answers from roll-ups, finer tiers and points together equal those of a plain computation from all points."""

import json
import math
import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from reference_rollup import Point, Step, quantile, steps
from sqlalchemy import insert

from meterhouse import times
from meterhouse.catalog import mark_for_recompute
from meterhouse.definitions.quality_rules import load
from meterhouse.errors import UsageError
from meterhouse.filters import SERIES, parse
from meterhouse.queries.statistics import Explained, Question, explained, statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES
from meterhouse.stores.warehouse_tables import resource_metadata

DAYS = 4
METERS = {"m": "gauge", "c": "cumulative", "d": "delta"}
ALL_AGGREGATES = (
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "stddev",
    "first",
    "last",
    "increase",
    "rate",
    "cardinality",
    "p50",
)
PERIODS = [0, 300, 600, 900, 3600, 7200, 86_400, 5400, 1234, "day", "week", "month"]
CONDITIONS: dict[str, Callable[[dict[str, Any], str | None], bool]] = {
    "": lambda row, flavor: True,
    "resource >= r2": lambda row, flavor: row["resource_id"] >= "r2",
    "not project = p1": lambda row, flavor: row["project_id"] != "p1",
    "metadata.flavor.name in (f0, f2)": lambda row, flavor: flavor in ("f0", "f2"),
    "not metadata.flavor.name = f1 or resource = r0": lambda row, flavor: flavor != "f1" or row["resource_id"] == "r0",
}
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]


class Past:
    """What a site holds, and what is known of its resources."""

    def __init__(self, site: Site, seed: int) -> None:
        self.random = rng = random.Random(seed)
        self.site = site
        self.rows: list[dict[str, Any]] = []
        self.flavors = {
            f"r{n}": sorted((at(days=rng.uniform(-1, DAYS)), f"f{rng.randrange(3)}") for _ in range(rng.randrange(4)))
            for n in range(5)
        }
        self.described: dict[str | int, list[datetime]] = defaultdict(list)
        texts = {number: {"flavor": {"name": f"f{number}"}} for number in range(3)}
        with site.warehouse.begin() as connection:
            for number, text in texts.items():
                connection.execute(insert(resource_metadata).values(metadata_id=number + 1, metadata=json.dumps(text)))
        first = [row for meter in METERS for n in range(5) for row in self.series(meter, f"r{n}")]
        self.land(first)
        roll_up(site)
        for row in first:
            if row["metadata_id"] is not None:
                for key in (row["resource_id"], row["series_id"]):
                    self.described[key].append(row["timestamp"])
        late = [self.late() for _ in range(6)]
        self.land(late)
        fresh = [self.late() for _ in range(3)]
        self.rows += fresh
        site.lake.append("samples", pa.Table.from_pylist(fresh, schema=SAMPLES))  # the catalog does not know these

    def land(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
        land_points(self.site, rows)

    def series(self, meter: str, resource: str) -> list[dict[str, Any]]:
        rng = self.random
        cadence, when, rows, volume = rng.choice([61, 240, 3000]), at(days=rng.uniform(0, 1)), [], 0.0
        for _ in range(rng.randrange(5, 250)):
            when += timedelta(seconds=rng.choice([cadence, cadence, cadence, rng.uniform(0.5, 30_000)]))
            if when >= at(days=DAYS):
                break
            volume = volume + rng.uniform(0, 5) if meter == "c" else rng.uniform(-50, 50)
            if rng.random() < 0.03:
                volume = 0.0
            row = self.row(volume if rng.random() > 0.02 else math.nan, when, meter, resource)
            flavor = self.flavor(resource, when)
            row["metadata_id"] = int(flavor[1:]) + 1 if flavor and math.isfinite(row["volume"]) else None
            rows += [row, dict(row, sample_id=row["sample_id"] + 1)] if rng.random() < 0.02 else [row]
        return rows

    def row(self, volume: float, when: datetime, meter: str, resource: str) -> dict[str, Any]:
        project = f"p{int(resource[1:]) % 3}" if resource != "r4" else None
        return point(volume, when, meter=meter, type=METERS[meter], resource=resource, project=project)

    def late(self) -> dict[str, Any]:
        rng = self.random
        when = at(days=rng.uniform(0, DAYS))
        return self.row(rng.uniform(-5, 60), when, rng.choice(list(METERS)), f"r{rng.randrange(6)}")

    def flavor(self, resource: str, when: datetime) -> str | None:
        found = [name for since, name in self.flavors.get(resource, []) if since <= when]
        return found[-1] if found else None

    def known_flavor(self, row: dict[str, Any], when: datetime) -> str | None:
        """By the points that are rolled up: of the row's series or, if none of it says, of its resource."""
        said = self.described[row["series_id"]] or self.described[row["resource_id"]]
        before = [each for each in said if each <= when]
        return self.flavor(row["resource_id"], max(before)) if before else None

    def good(self, meter: str) -> list[tuple[Step, dict[str, Any]]]:
        of = {row["series_id"]: row for row in self.rows}
        points = [
            Point(
                row["series_id"],
                row["meter"],
                row["type"],
                times.micros(row["timestamp"]),
                row["volume"],
                times.micros(row["recorded_at"]),
                row["sample_id"],
            )
            for row in self.rows
            if row["meter"] == meter
        ]
        found, _ = steps(points, load(None), [], self.site.settings.carry_hours)
        return [(step, of[step.point.series_id]) for step in found]


def rows_and_sources(site: Site, asked: Question) -> tuple[list[dict[str, Any]], Explained]:
    answer, found = explained(site, asked)
    return answer.rows(), found


def asked(rng: random.Random) -> dict[str, Any]:
    """A random question."""
    start, end = sorted(at(days=rng.uniform(-0.5, DAYS + 0.5)) for _ in range(2))
    aligned = rng.choice([None, timedelta(minutes=5), times.HOUR, times.DAY, times.DAY])
    if aligned:
        start, end = (times.EPOCH + (each - times.EPOCH) // aligned * aligned for each in (start, end))
    question: dict[str, Any] = {
        "period": rng.choice(PERIODS),
        "aggregate": rng.sample(ALL_AGGREGATES, rng.randrange(1, 6)),
        "groupby": rng.sample(
            ["resource_id", "project_id", "source", "metadata.flavor.name"], rng.choice([0, 0, 1, 2])
        ),
        "timezone": rng.choice(ZONES),
    }
    if rng.random() < 0.8:
        question["start"] = start
    if rng.random() < 0.8:
        question["end"] = end
    if isinstance(question["period"], int) and rng.random() < 0.2:
        question["anchor"] = at(rng.uniform(-3000, 3000))
    return question


def expected(past: Past, meter: str, question: dict[str, Any], condition: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The answers by group and start of the period."""
    found = []
    for step, row in past.good(meter):
        when = times.EPOCH + timedelta(microseconds=step.point.time)
        if CONDITIONS[condition](row, past.known_flavor(row, when)):
            found.append((step, row, when))
    start, end = question.get("start"), question.get("end")
    found = [each for each in found if (start is None or each[2] >= start) and (end is None or each[2] < end)]
    if not found:
        return {}
    first = min(when for _, _, when in found)
    anchor = question.get("anchor") or start or first
    answers: dict[tuple[Any, ...], list[tuple[Step, dict[str, Any], datetime]]] = defaultdict(list)
    for step, row, when in found:
        group = tuple(
            past.known_flavor(row, when) if name.startswith("metadata.") else row[name] for name in question["groupby"]
        )
        begins = period_of(question["period"], when, anchor, start or first, question["timezone"])
        answers[(*group, begins)].append((step, row, when))
    return {key: figures(some, question) for key, some in answers.items()}


def period_of(period: Any, when: datetime, anchor: datetime, whole: datetime, zone: str) -> datetime:
    if not period:
        return whole
    if isinstance(period, int):
        return anchor + (when - anchor) // timedelta(seconds=period) * timedelta(seconds=period)
    local = when.astimezone(ZoneInfo(zone))
    day = local.date()
    if period == "week":
        day -= timedelta(days=day.weekday())
    if period == "month":
        day = day.replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def figures(some: list[tuple[Step, dict[str, Any], datetime]], question: dict[str, Any]) -> dict[str, Any]:
    some = sorted(some, key=lambda each: (each[2], each[0].point.series_id))
    volumes = [step.point.volume for step, _, _ in some]
    mean = math.fsum(volumes) / len(volumes)
    kind = some[0][1]["type"]
    increase = {"gauge": None, "delta": math.fsum(volumes)}.get(kind, math.fsum(step.increase for step, _, _ in some))
    return {
        "count": len(volumes),
        "sum": math.fsum(volumes),
        "avg": mean,
        "min": min(volumes),
        "max": max(volumes),
        "stddev": math.sqrt(math.fsum((v - mean) ** 2 for v in volumes) / len(volumes)),
        "increase": increase,
        "cardinality": len({row["resource_id"] for _, row, _ in some}),
        "p50": quantile(sorted(volumes), 0.5),
        "first": {v for step, _, when in some if when == some[0][2] for v in [step.point.volume]},
        "last": {v for step, _, when in some if when == some[-1][2] for v in [step.point.volume]},
        "duration_start": some[0][2],
        "duration_end": some[-1][2],
    }


@pytest.mark.parametrize("seed", range(6))
def test_random_questions_have_the_answers_of_all_points(open_site: OpenSite, seed: int) -> None:
    past = Past(open_site(), seed)
    rng = random.Random(seed)
    for _ in range(60):
        meter, question = rng.choice(list(METERS)), asked(rng)
        condition = rng.choice(list(CONDITIONS))
        question["query"] = [parse(condition, SERIES)] if condition else []
        wanted = expected(past, meter, question, condition)
        if question.get("start") and question.get("end") and question["start"] >= question["end"]:
            wanted = {}
        rows = statistics(past.site, EVERYTHING, meter, **question)
        got = {(*(row["groupby"] or {}).values(), row["period_start"]): row for row in rows}
        assert got.keys() == wanted.keys(), question
        for key, row in got.items():
            same(row, wanted[key], (question, key))


def same(row: dict[str, Any], wanted: dict[str, Any], context: Any) -> None:
    scale = max(abs(wanted["min"]), abs(wanted["max"]), 1)
    for name, value in wanted.items():
        if name not in row:
            continue
        if name in ("first", "last"):
            assert row[name] in value, (name, context)
        elif isinstance(value, float) and name not in ("min", "max"):
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-11 * scale * wanted["count"]), (name, context)
        else:
            assert row[name] == value, (name, context)


def test_the_parts_come_from_where_they_should(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(n, at(n)) for n in range(0, 3 * 1440, 10)])
    roll_up(site)
    day = times.day_start(at(days=1).date())
    _, whole = explained(site, Question(EVERYTHING, "m", period=86_400, start=day, end=day + times.DAY))
    assert [(each.seconds, each.rows) for each in whole.rolled if each.rows] == [(86_400, 1)]
    assert (whole.points.points, whole.why) == (0, {})
    _, hourly = explained(site, Question(EVERYTHING, "m", period=3600, start=day, end=day + times.DAY))
    assert [(each.seconds, each.rows) for each in hourly.rolled if each.rows] == [(3600, 24)]
    half = timedelta(minutes=33)
    _, ragged = explained(site, Question(EVERYTHING, "m", start=day - half, end=day + times.DAY + half))
    assert sum(each.rows for each in ragged.rolled) == 1
    assert (ragged.points.good, ragged.why) == (7, {"at the start or end of the question": 2})
    land_points(site, [point(1, at(days=1, minutes=5))])
    _, dirty = explained(site, Question(EVERYTHING, "m", period=86_400, start=day, end=day + times.DAY))
    assert dirty.why == {"dirty": 1}
    assert sum(each.rows for each in dirty.rolled) == 23


def test_a_small_spread_of_large_volumes_is_computed_from_points(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1e9 + n % 3, at(n)) for n in range(60)])
    roll_up(site)
    rows, found = rows_and_sources(
        site, Question(EVERYTHING, "m", period=3600, start=at(), end=at(60), aggregate=["stddev", "count"])
    )
    assert rows[0]["stddev"] == pytest.approx(math.sqrt(2 / 3), rel=1e-9)
    assert found.why == {"sums of squares have lost digits": 1}


def test_new_quality_rules_apply_at_once_to_hours_that_are_rolled_up(open_site: OpenSite, tmp_path: Path) -> None:
    rules = tmp_path / "quality.yaml"
    rules.write_text("rules: []\n")
    site = open_site(config_dir=tmp_path)
    land_points(site, [point(n, at(n), meter=meter) for n in range(60) for meter in ("m", "other")])
    roll_up(site)
    rules.write_text("rules:\n  - {name: big, bit: 9, check: range, severity: critical, max: 10, meters: [m]}\n")
    site = open_site(home=site.settings.home, config_dir=tmp_path)
    asked = {"start": at(), "end": at(60), "aggregate": ["max", "count"]}
    (row,), found = rows_and_sources(site, Question(EVERYTHING, "m", **asked))
    assert (row["max"], row["count"]) == (10, 11)
    assert found.why == {"the quality rules changed": 1}
    (row,), found = rows_and_sources(site, Question(EVERYTHING, "other", **asked))
    assert (row["max"], row["count"], found.why) == (59, 60, {})
    mark_for_recompute(site, "sample_quality", {at()}, "the rules changed")
    roll_up(site)
    (row,), found = rows_and_sources(site, Question(EVERYTHING, "m", **asked))
    assert (row["max"], found.why) == (10, {})


def test_a_percentile_of_one_series_and_bucket_comes_from_roll_ups(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(n * n, at(n)) for n in range(120)])
    roll_up(site)
    hourly = {"start": at(), "end": at(120), "period": 3600, "aggregate": ["p50", "p95"]}
    rows, found = rows_and_sources(site, Question(EVERYTHING, "m", **hourly))
    assert [row["p50"] for row in rows] == [(29**2 + 30**2) / 2, (89**2 + 90**2) / 2]
    assert found.points.points == 0
    (row,), found = rows_and_sources(site, Question(EVERYTHING, "m", **{**hourly, "period": 0}))
    assert (row["p50"], found.points.points) == ((59**2 + 60**2) / 2, 120)


def test_calendar_days_may_be_asked_for_over_centuries_in_a_known_time_zone(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1, at())])
    span = {"start": datetime(1970, 1, 1, tzinfo=UTC), "end": datetime(2261, 1, 1, tzinfo=UTC)}
    assert len(statistics(site, EVERYTHING, "m", period="day", **span)) == 1
    with pytest.raises(UsageError, match="no time zone 'Mars/Olympus'"):
        statistics(site, EVERYTHING, "m", period="day", timezone="Mars/Olympus")


def test_an_answer_does_not_come_from_roll_ups_that_were_restored_from_a_backup(open_site: OpenSite) -> None:
    site = open_site()
    asked = {"start": at(), "end": at(60)}
    land_points(site, [point(1, at())])
    roll_up(site)
    rollups = Path(site.lake.url) / "tables" / "rollups"
    shutil.copytree(rollups, rollups.with_name("backup"))
    land_points(site, [point(2, at(1))])
    roll_up(site)
    shutil.rmtree(rollups)
    rollups.with_name("backup").rename(rollups)
    site = open_site(home=site.settings.home)
    (row,), found = rows_and_sources(site, Question(EVERYTHING, "m", **asked))
    assert (row["count"], row["sum"]) == (2, 3)
    assert found.why == {"the catalog is behind, or a store was restored": 1}
