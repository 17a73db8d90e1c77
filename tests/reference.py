"""Computes quality and roll-ups with pandas, as the documentation describes them, for comparison in tests."""

import math
import random
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import at, point, rows
from reference_points import distinct_points
from sqlalchemy import select

from meterhouse.catalog import snapshot
from meterhouse.definitions.quality_rules import LARGEST_VOLUME, Rules
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import rollup_1d, rollup_1h

TIERS = (300, 3600, 86400)
WAREHOUSE_TIERS = {3600: rollup_1h, 86400: rollup_1d}
FLOATS = ("sum", "min", "max", "sum_squares", "first", "last", "increase", "p50", "p95", "p99")
COLUMNS = (
    "series_id",
    "bucket",
    "count",
    *FLOATS[:5],
    "first_at",
    "last",
    "last_at",
    *FLOATS[6:],
    "resets",
    "excluded",
)


def frame(points: list[dict[str, Any]]) -> pd.DataFrame:
    """The distinct points; see `reference_points`."""
    return pd.DataFrame(distinct_points(points)).astype({"sample_id": "Int64"})


def judged(points: list[dict[str, Any]], rules: Rules) -> pd.DataFrame:
    """The distinct points with `reasons` (names of the critical rules and of `duplicate`) and `good`.

    Points may have `accepted`: whether a correction accepts them.
    """
    from fnmatch import fnmatchcase

    made = frame(points)
    reasons: list[set[str]] = [set() for _ in range(len(made))]
    for n, row in enumerate(made.itertuples()):
        for rule in rules.rules:
            if row.type not in rule.types or not any(fnmatchcase(row.meter, glob) for glob in rule.meters):
                continue
            finite = math.isfinite(row.volume)
            ahead = (row.timestamp - row.recorded_at).total_seconds()
            broken = {
                "finite": not finite,
                "range": finite and not rule.minimum <= row.volume <= rule.maximum,
                "future": ahead > rule.tolerance_seconds,
            }
            if broken.get(rule.check):
                reasons[n].add(rule.name)
    critical = {rule.name for rule in rules.rules if rule.severity == "critical"}
    if "accepted" in made.columns:
        for found, accepted, volume in zip(reasons, made["accepted"], made["volume"], strict=True):
            if accepted is True and abs(volume) <= LARGEST_VOLUME:
                found -= critical
    made["reasons"] = reasons
    made["alone"] = [not (found & critical) for found in reasons]
    duplicates = [rule for rule in rules.rules if rule.check == "duplicate"]
    for _, group in made[made["type"] != "delta"].groupby(["series_id", "timestamp"]):
        ranked = group.sort_values(
            ["alone", "recorded_at", "volume"], ascending=False, kind="stable", na_position="first"
        )
        for index in ranked.index[1:]:
            made.at[index, "reasons"].update(rule.name for rule in duplicates)
    made["good"] = [not (found & critical) for found in made["reasons"]]
    return made


def rollups(points: list[dict[str, Any]], rules: Rules, seconds: int, carry_hours: int = 48) -> list[dict[str, Any]]:
    """The roll-ups of one granularity, sorted by series and bucket."""
    made = judged(points, rules)
    good = made[made["good"]].sort_values(["series_id", "timestamp"], kind="stable").copy()
    good["increase"], good["reset"] = np.nan, 0
    for _, group in good[good["type"] == "cumulative"].groupby("series_id"):
        before: tuple[datetime, float] | None = None
        for index, row in group.iterrows():
            step, reset = 0.0, False
            if before is not None and row["timestamp"] - before[0] <= timedelta(hours=carry_hours):
                reset = row["volume"] < before[1]
                step = row["volume"] if reset else row["volume"] - before[1]
            good.at[index, "increase"], good.at[index, "reset"] = step, int(reset)
            before = row["timestamp"], row["volume"]

    def bucket(moment: pd.Series) -> pd.Series:
        return moment.dt.floor(f"{seconds}s")

    answer: dict[tuple[int, Any], dict[str, Any]] = {}
    for (series_id, start), group in good.groupby(["series_id", bucket(good["timestamp"])]):
        volume = group["volume"].to_numpy()
        kind = group["type"].iloc[0]
        p50, p95, p99 = np.quantile(volume, [0.5, 0.95, 0.99])
        answer[series_id, start] = {
            "count": len(group),
            "sum": math.fsum(volume),
            "min": volume.min(),
            "max": volume.max(),
            "sum_squares": math.fsum(volume * volume),
            "first": None if kind == "delta" else volume[0],
            "first_at": group["timestamp"].iloc[0],
            "last": None if kind == "delta" else volume[-1],
            "last_at": group["timestamp"].iloc[-1],
            "increase": group["increase"].sum() if kind == "cumulative" else None,
            "resets": int(group["reset"].sum()) if kind == "cumulative" else None,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "excluded": 0,
        }
    bad = made[~made["good"]]
    empty: dict[str, Any] = dict.fromkeys(name for name in COLUMNS[3:-1])
    for (series_id, start), group in bad.groupby(["series_id", bucket(bad["timestamp"])]) if len(bad) else ():
        answer.setdefault((series_id, start), {"count": 0, **empty})["excluded"] = len(group)
    kept = sorted(answer)
    if seconds < 3600:
        often = often_enough(good, seconds)
        kept = [key for key in kept if (key[0], key[1].floor("h")) in often]
    return [{"series_id": key[0], "bucket": key[1], **answer[key]} for key in kept]


def often_enough(good: pd.DataFrame, seconds: int) -> set[tuple[int, Any]]:
    """The series and hours whose good points come so often that a bucket holds four: by the shipped archive policy."""
    found = set()
    for (series_id, hour), times_of in good.groupby(["series_id", good["timestamp"].dt.floor("h")])["timestamp"]:
        steps = sorted(step.total_seconds() for step in times_of.diff().iloc[1:])
        if steps and 4 * round(steps[(len(steps) - 1) // 2]) <= seconds:
            found.add((series_id, hour))
    return found


def in_lake(site: Site, seconds: int) -> list[dict[str, Any]]:
    """The lake's roll-ups of one granularity."""
    found = rows(site, "rollups", where=f"granularity_s = {seconds}", order="series_id, bucket")
    assert all(row["event_day"] == row["bucket"].date() for row in found)
    return [{name: row[name] for name in COLUMNS} for row in found]


def in_warehouse(site: Site, seconds: int) -> list[dict[str, Any]]:
    """The warehouse's roll-ups of one granularity."""
    table = WAREHOUSE_TIERS[seconds]
    with site.warehouse.read() as connection:
        found = connection.execute(select(table).order_by(table.c.series_id, table.c.bucket)).all()
    return [{name: row._mapping[name] for name in COLUMNS} for row in found]


def assert_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Assert that roll-ups are equal; floats to nine digits, because they are summed in another order."""
    assert [(row["series_id"], row["bucket"]) for row in found] == [(row["series_id"], row["bucket"]) for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name in COLUMNS:
            expected = other[name]
            if name in FLOATS and expected is not None:
                expected = pytest.approx(expected, rel=1e-9, abs=1e-9)
            assert one[name] == expected, (name, one, other)


def assert_right(site: Site, points: list[dict[str, Any]]) -> None:
    """Assert that every roll-up of the site is that of these points, and no hour is dirty."""
    for seconds in TIERS:
        wanted = rollups(points, site.rules, seconds)
        assert_same(in_lake(site, seconds), wanted)
        if seconds in WAREHOUSE_TIERS:
            assert_same(in_warehouse(site, seconds), wanted)
    assert not snapshot(site).hours


def random_points(seed: int, hours: int = 60) -> list[dict[str, Any]]:
    """Series of each type with gaps, resets, duplicates, redelivered and bad points, recorded at random times."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(8):
        kind = ("gauge", "delta", "cumulative")[number % 3]
        meter = ("cpu_util", "requests", "cpu")[number % 3]
        counter = 0.0
        minute, often = rng.uniform(0, 30), 0
        while minute < hours * 60:
            often = max(often - 1, 0) if often else rng.choice([0] * 9 + [12])
            minute += 1 if often else rng.choice([5, 5, 5, 7, 31, 100, 400])
            if rng.random() < 0.03:
                minute += rng.uniform(600, 1500)
            counter = rng.uniform(0, 5) if rng.random() < 0.08 else counter + rng.uniform(0, 50)
            volume = counter if kind == "cumulative" else rng.uniform(0, 100)
            volume = rng.choice([float("nan"), float("inf"), -5.0, 1e9]) if rng.random() < 0.08 else volume
            when = at(minute)
            late = timedelta(seconds=rng.uniform(0, 90_000))
            one = point(volume, when, meter=meter, type=kind, resource=f"r{number}", recorded_at=when + late)
            made.append(one)
            if rng.random() < 0.08:
                again = {"meter": meter, "type": kind, "resource": f"r{number}"}
                made.append(point(volume + 1, when, recorded_at=at(days=9), **again))
            if rng.random() < 0.05:
                made.append(dict(one))
            if rng.random() < 0.03:
                made.append(
                    point(
                        3, when, meter=meter, type=kind, resource=f"r{number}", recorded_at=when - timedelta(minutes=20)
                    )
                )
    return made
