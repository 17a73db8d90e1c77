"""Judges and rolls up points one by one, as the documentation describes it: slow, and short enough to be seen right."""

import math
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from meterhouse.definitions.quality_rules import Rules

HOUR = 3_600_000_000
Key = tuple[int, int]
"""(series_id, start of the bucket in µs)."""


@dataclass(frozen=True)
class Point:
    """A sample. Times are µs since 1970, UTC."""

    series_id: int
    meter: str
    type: str
    time: int
    volume: float
    recorded: int
    sample_id: int | None


@dataclass(frozen=True)
class Step:
    """A good point with what a counter has grown by."""

    point: Point
    increase: float
    reset: bool


def volume_key(volume: float) -> float | str:
    """Equal for equal volumes, also if they are not a number."""
    return "nan" if math.isnan(volume) else volume + 0.0


def distinct(points: list[Point]) -> list[Point]:
    """Each point once. Of copies, the first that arrived at or after its time counts; if there is none, the last."""
    copies: dict[Any, list[Point]] = defaultdict(list)
    for p in points:
        copies[p.series_id, p.time, p.sample_id if p.type == "delta" else volume_key(p.volume)].append(p)

    def rank(p: Point) -> tuple[Any, ...]:
        early = p.recorded < p.time
        return early, -p.recorded if early else p.recorded, p.sample_id is None, p.sample_id or 0, volume_key(p.volume)

    return [min(some, key=lambda p: tuple(map(str_last, rank(p)))) for some in copies.values()]


def str_last(value: Any) -> Any:
    """A key by which a text comes after all numbers."""
    return (isinstance(value, str), value)


def verdicts(points: list[Point], rules: Rules) -> dict[Point, int]:
    """The bits of each distinct point, without those of resets."""
    once = distinct(points)
    bits = {p: sum(1 << rule.bit for rule in rules.rules if _broken(p, rule)) for p in once}
    rivals: dict[Key, list[Point]] = defaultdict(list)
    for p in once:
        if p.type != "delta":
            rivals[p.series_id, p.time].append(p)
    for some in rivals.values():
        ranked = sorted(some, key=lambda p: p.volume if not math.isnan(p.volume) else -math.inf, reverse=True)
        ranked.sort(key=lambda p: (bool(bits[p] & rules.critical_bits), -p.recorded))
        for p in ranked[1:]:
            bits[p] |= sum(1 << r.bit for r in rules.of("duplicate") if _applies(p, r))
    return bits


def _applies(p: Point, rule: Any) -> bool:
    return p.type in rule.types and any(fnmatchcase(p.meter, glob) for glob in rule.meters)


def _broken(p: Point, rule: Any) -> bool:
    if not _applies(p, rule):
        return False
    match rule.check:
        case "finite":
            return not math.isfinite(p.volume)
        case "range":
            return math.isfinite(p.volume) and not rule.minimum <= p.volume <= rule.maximum
        case "future":
            return p.time > p.recorded + round(rule.tolerance_seconds * 1e6)
    return False


def steps(
    points: list[Point], rules: Rules, carried: list[Point], carry_hours: int
) -> tuple[list[Step], dict[Point, int]]:
    """The good points in order, and the bits of all distinct points.

    Args:
        points: in any order, maybe repeated.
        rules: the site's.
        carried: earlier good points of counters.
        carry_hours: a previous point counts up to this many hours.
    """
    bits = verdicts(points, rules)
    good = [p for p, found in bits.items() if not found & rules.critical_bits]
    series = defaultdict(list)
    for p in good:
        series[p.series_id].append(p)
    before = defaultdict(list)
    for p in carried:
        before[p.series_id].append(p)
    made = []
    for series_id, some in sorted(series.items()):
        some.sort(key=lambda p: (p.time, p.sample_id if p.type == "delta" else (p.recorded, p.volume)))
        earlier = [(p.time, p.volume) for p in before[series_id]]
        for p in some:
            increase, reset = 0.0, False
            if p.type == "cumulative":
                previous = max((e for e in earlier if e[0] <= p.time), key=lambda e: e[0], default=None)
                if previous and p.time - previous[0] <= carry_hours * HOUR:
                    reset = p.volume < previous[1]
                    increase = p.volume if reset else p.volume - previous[1]
                earlier.append((p.time, p.volume))
            if reset:
                bits[p] |= sum(1 << r.bit for r in rules.of("reset") if _applies(p, r))
            made.append(Step(p, increase, reset))
    return made, bits


def buckets(made: list[Step], bits: dict[Point, int], rules: Rules, seconds: int) -> dict[Key, dict[str, Any]]:
    """The roll-ups of one granularity. Sums are exact to the last bits: `math.fsum`."""
    span = seconds * 1_000_000
    some: dict[Key, list[Step]] = defaultdict(list)
    for step in made:
        some[step.point.series_id, step.point.time // span * span].append(step)
    excluded: dict[Key, int] = defaultdict(int)
    for p, found in bits.items():
        if found & rules.critical_bits:
            excluded[p.series_id, p.time // span * span] += 1
    return {key: {**_bucket(some.get(key, [])), "excluded": excluded[key]} for key in some.keys() | excluded.keys()}


def _bucket(steps: list[Step]) -> dict[str, Any]:
    if not steps:
        return {"count": 0}
    volumes = [step.point.volume for step in steps]
    counter, delta = steps[0].point.type == "cumulative", steps[0].point.type == "delta"
    ranked = sorted(volumes)
    return {
        "count": len(steps),
        "sum": math.fsum(volumes),
        "min": ranked[0],
        "max": ranked[-1],
        "sum_squares": math.fsum(v * v for v in volumes),
        "first": None if delta else volumes[0],
        "first_at": steps[0].point.time,
        "last": None if delta else volumes[-1],
        "last_at": steps[-1].point.time,
        "increase": math.fsum(step.increase for step in steps) if counter else None,
        "resets": sum(step.reset for step in steps) if counter else None,
        **{f"p{round(q * 100)}": quantile(ranked, q) for q in (0.5, 0.95, 0.99)},
    }


def quantile(ranked: list[float], wanted: float) -> float:
    """A quantile of values in order, linear between the closest ranks."""
    rank = (len(ranked) - 1) * wanted
    low = int(rank)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (rank - low)
