"""Merges and judges points one by one in plain Python, as the documentation describes it, for comparison in tests."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
from builders import at, point
from hypothesis import strategies as st

from meterhouse.definitions.quality_rules import Rule, Rules
from meterhouse.site import Site
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_tables import SAMPLES

Point = dict[str, Any]
"""A row of `samples`, as `builders.point` makes it."""


def level(volume: float) -> float | str:
    """A volume as it is compared: one NaN equals another, and -0.0 equals 0.0."""
    return "nan" if math.isnan(volume) else volume + 0.0


def size(volume: float) -> tuple[bool, float]:
    """A volume as it is ordered: NaN is the largest."""
    return math.isnan(volume), 0.0 if math.isnan(volume) else volume


def same_point(row: Point) -> tuple[Any, ...]:
    """What identifies a row's point."""
    own = row["sample_id"] if row["type"] == "delta" else level(row["volume"])
    return row["series_id"], row["timestamp"], own


def arrival(row: Point) -> tuple[Any, ...]:
    """The order of a point's copies: those that arrived in time, the first first; then the early ones, the last first.

    Then by sample_id, metadata_id and volume.
    """
    late = row["recorded_at"] - row["timestamp"]
    ids = [(row[name] is None, row[name] or 0) for name in ("sample_id", "metadata_id")]
    return late < timedelta(0), abs(late), *ids, size(row["volume"])


def distinct_points(points: Iterable[Point]) -> list[Point]:
    """Each point once, by series, time, sample_id of deltas and volume; ids only for deltas, and no -0.0."""
    copies = defaultdict(list)
    for row in points:
        copies[same_point(row)].append(row)
    made = []
    for rows in copies.values():
        row = dict(min(rows, key=arrival))
        row["volume"] += 0.0
        if row["type"] != "delta":
            row["sample_id"] = None
        made.append(row)
    return sorted(
        made, key=lambda row: (row["series_id"], row["timestamp"], row["sample_id"] or 0, size(row["volume"]))
    )


def compact(site: Site) -> None:
    """Replace the files of `samples` by one for each arrival hour that has each point once, as a compaction does."""
    lake = site.lake
    rows = lake.table("samples").to_pyarrow_table().to_pylist()
    hours = {row["arrival_hour"] for row in rows}
    merged = [row for hour in hours for row in distinct_points(r for r in rows if r["arrival_hour"] == hour)]
    files = lake.write_files("samples", pa.Table.from_pylist(merged, schema=SAMPLES))
    lake.swap("samples", lake.actions("samples"), files, {SEAL: "compacted"}, same_rows=True)


def breaks(rule: Rule, row: Point) -> bool:
    """Whether a point breaks a rule that needs the point alone."""
    finite = math.isfinite(row["volume"])
    match rule.check:
        case "finite":
            return not finite
        case "range":
            return finite and not rule.minimum <= row["volume"] <= rule.maximum
        case "future":
            return row["timestamp"] - row["recorded_at"] > timedelta(seconds=rule.tolerance_seconds)
    return False


def verdicts(
    points: Iterable[Point], rules: Rules, carried: Iterable[Point] = (), carry_hours: int = 48
) -> list[Point]:
    """The distinct points with `bits` and `previous`, as `sql/lake/judge.sql` describes them.

    They are ordered by series and time; of one time, deltas by id, and the point that counts after those in conflict
    with it.
    """
    made = distinct_points(points)
    before = {(row["series_id"], row["timestamp"]): row["volume"] for row in carried}
    by_time: dict[tuple[int, datetime], list[Point]] = defaultdict(list)
    applying = {}
    for row in made:
        own = applying[row["series_id"]] = [
            rule
            for rule in rules.rules
            if row["type"] in rule.types and any(fnmatchcase(row["meter"], glob) for glob in rule.meters)
        ]
        row["bits"] = sum(1 << rule.bit for rule in own if breaks(rule, row))
        row["previous"] = None
        row["alone"] = not row["bits"] & rules.critical_bits
        by_time[row["series_id"], row["timestamp"]].append(row)
    for (series_id, _), rows in by_time.items():
        if rows[0]["type"] != "delta":
            rows.sort(key=lambda row: (row["alone"], row["recorded_at"], size(row["volume"])))
            for row in rows[:-1]:
                row["bits"] |= sum(1 << rule.bit for rule in applying[series_id] if rule.check == "duplicate")
    ordered = [row for _, rows in sorted(by_time.items(), key=lambda each: each[0]) for row in rows]
    last: dict[int, list[tuple[datetime, float]]] = defaultdict(list)
    for (series_id, when), volume in before.items():
        last[series_id].append((when, volume))
    for row in ordered:
        if row["type"] != "cumulative" or row["bits"] & rules.critical_bits:
            continue
        known = last[row["series_id"]]
        earlier = max(
            (place for place in range(len(known)) if known[place][0] <= row["timestamp"]),
            key=lambda place: (known[place][0], place),
            default=None,
        )
        if earlier is not None and row["timestamp"] - known[earlier][0] <= timedelta(hours=carry_hours):
            row["previous"] = known[earlier][1]
            if row["volume"] < row["previous"]:
                row["bits"] |= sum(1 << rule.bit for rule in applying[row["series_id"]] if rule.check == "reset")
        known.append((row["timestamp"], row["volume"]))
    return ordered


VOLUMES = (0.0, -0.0, 1.0, 2.0, 2.5, 1e9, -5.0, 1e150, 2e150, -1.7e308, math.inf, -math.inf, math.nan)
KINDS = (("cpu_util", "gauge"), ("cpu", "cumulative"), ("requests", "delta"), ("m", "gauge"), ("m", "cumulative"))


def nasty_points(max_size: int = 40, hours: int = 3) -> "st.SearchStrategy[list[Point]]":
    """Points of few series that share times: copies, conflicts, early and late arrivals, with ids and without."""

    def build(number: int, minute: int, volume: float, late: int, sample_id: int, metadata_id: int | None) -> Point:
        meter, kind = KINDS[number % len(KINDS)]
        when = at(minute * 0.5)
        row = point(
            volume,
            when,
            meter=meter,
            type=kind,
            resource=f"r{number // len(KINDS)}",
            recorded_at=when + timedelta(seconds=late),
            sample_id=sample_id,
        )
        # A compacted gauge or counter has no id; a delta always has.
        row["sample_id"] = None if sample_id > 3 and kind != "delta" else sample_id
        row["metadata_id"] = metadata_id
        return row

    return st.lists(
        st.builds(
            build,
            st.integers(0, 2 * len(KINDS) - 1),
            st.one_of(st.integers(0, 4), st.integers(0, hours * 120 - 1)),
            st.sampled_from(VOLUMES),
            st.sampled_from((-3600, -301, -300, -299, -1, 0, 1, 5, 3600, 90_000)),
            st.integers(0, 5),
            st.sampled_from((None, 1, 2)),
        ),
        max_size=max_size,
    )


def shuffled(points: list[Point], seed: int) -> list[Point]:
    """The points in another order."""
    return random.Random(seed).sample(points, len(points))
