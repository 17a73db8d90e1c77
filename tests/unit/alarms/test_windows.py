"""What windows have, and what is decided by them, is what plain Python finds for one rule after the other."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from asked import windows_of
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import insert

from meterhouse import times
from meterhouse.alarms.definitions.wanted import STATISTICS, Condition, Wanted
from meterhouse.alarms.evaluation import threshold
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.evaluation.loading import OPERATORS, STATES
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import Windows, windows, windows_at
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata

UNKNOWN = "insufficient data"
COMPARED: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
}

# -- decisions ----------------------------------------------------------------------------------------------

ALARMS = st.lists(
    st.tuples(
        st.sampled_from(OPERATORS),
        st.sampled_from([0.0, 1.0, 2.0]),
        st.integers(1, 4),
        st.booleans(),
        st.sampled_from(STATES),
        st.lists(st.sampled_from([0.0, 1.0, 2.0]), max_size=4),
        st.booleans(),
    ),
    max_size=12,
)


def plainly(
    op: str, limit: float, periods: int, repeat: bool, state: str, values: Sequence[float], mixed: bool, icehouse: bool
) -> tuple[str, bool, str]:
    """The new state of one alarm, whether its actions are due, and the reason, as the peers' evaluators have them."""
    values = values[-periods:]
    if mixed or len(values) < (1 if icehouse else periods):
        return UNKNOWN, state != UNKNOWN, f"{periods} datapoints are unknown"
    over = [COMPARED[op](value, limit) for value in values]
    agreed = all(over) or not any(over)
    new = state if not agreed and state != UNKNOWN else "alarm" if over[-1] else "ok"
    count = len(over) if icehouse else over.count(new == "alarm")
    word = "Transition to" if new != state else "Remaining as"
    side = "outside" if new == "alarm" else "inside"
    text = f"{word} {new} due to {count} samples {side} threshold, most recent: {values[-1]}"
    return new, new != state or repeat, text


@hypothesis_settings(max_examples=200, deadline=None)
@given(ALARMS, st.booleans())
def test_alarms_that_are_decided_together_are_decided_as_each_alone(alarms: list[Any], icehouse: bool) -> None:
    kept = [values[-periods:] for _, _, periods, _, _, values, _ in alarms]
    first = np.concatenate(([0], np.cumsum([len(values) for values in kept]))).astype(np.int64)
    total = np.arange(first[-1])
    low = np.zeros(len(alarms), np.int64)
    high = np.array([int(alarm[6]) for alarm in alarms], np.int64)
    flat = np.array([value for values in kept for value in values], np.float64)
    found = Windows(first, total, flat, total + 1, total * 0, ["a", "b"], low, high)
    rules = threshold.Rules(
        np.array([alarm[1] for alarm in alarms], np.float64),
        np.array([OPERATORS.index(alarm[0]) for alarm in alarms], np.int8),
        np.array([alarm[2] for alarm in alarms], np.int64),
        np.array([alarm[3] for alarm in alarms], np.bool_),
    )
    before = np.array([STATES.index(alarm[4]) for alarm in alarms], np.int8)
    decided = threshold.decide(rules, before, found, icehouse=icehouse)
    made = threshold.outcomes(decided, before, found, range(len(alarms)))
    for alarm, outcome in zip(alarms, made, strict=True):
        state, notify, reason = plainly(*alarm, icehouse)
        assert (outcome.state, outcome.notify) == (state, notify)
        if notify and not alarm[6]:
            assert outcome.reason == reason


# -- windows ------------------------------------------------------------------------------------------------

START = at(-10)
METERS = ("gauge", "cumulative")


def series_value(
    name: str, points: list[tuple[Any, float]], before: float | None, *, gauge: bool = False
) -> float | None:
    """A statistic of the points (time, volume) of one series in a period, in order."""
    values = [volume for _, volume in points]
    if name == "increase" and gauge:  # what it changes by, which may be negative
        known = values if before is None else [before, *values]
        return known[-1] - known[0] if len(known) > 1 else None
    if name == "increase":
        total, previous = 0.0, before
        for value in values:
            if previous is not None:
                total += value - previous if value >= previous else value
            previous = value
        return total
    return of_values(name, values)


def of_values(name: str, values: list[float]) -> float | None:
    match name:
        case "avg":
            return float(np.mean(values))
        case "median":
            return statistics.median(values)
        case "stddev":
            return statistics.stdev(values) if len(values) > 1 else None
        case "first":
            return values[0]
        case "last":
            return values[-1]
        case "count":
            return float(len(values))
        case _:
            return float({"min": min, "max": max, "sum": sum}[name](values))


def naive(points: list[dict[str, Any]], wanted: Wanted, moment: Any) -> list[tuple[Any, float]]:
    """The periods of one window that have a value: start and value."""
    start = moment - wanted.window
    length = timedelta(seconds=wanted.period)
    if wanted.aligned:
        start -= timedelta(microseconds=times.micros(start) % (wanted.period * 1_000_000))
    own = [p for p in points if p["meter"] == wanted.meter_name and math.isfinite(p["volume"])]
    own.sort(key=lambda p: (p["timestamp"], p["resource_id"]))
    found = []
    for number in range(-(-(moment - start) // length) + 1):
        begin = start + number * length
        inside = [p for p in own if begin <= p["timestamp"] < begin + length and p["timestamp"] <= moment]
        if not inside:
            continue
        by_series = []
        for resource in sorted({p["resource_id"] for p in inside}):
            of_series = [p for p in own if p["resource_id"] == resource]
            gauge = wanted.meter_name == "gauge"
            before = [
                p["volume"] for p in of_series if p["timestamp"] < begin and (p["timestamp"] >= start or not gauge)
            ]
            some = [(p["timestamp"], p["volume"]) for p in inside if p["resource_id"] == resource]
            by_series.append((some, before[-1] if before else None))
        statistic = "increase" if wanted.statistic == "rate" else wanted.statistic
        value: float | None
        if wanted.over_series:
            each = [series_value(statistic, some, before, gauge=gauge) for some, before in by_series]
            there = [one for one in each if one is not None]
            value = of_values(wanted.over_series, there) if there else None
        elif statistic == "increase":
            changes = [series_value(statistic, some, before, gauge=gauge) for some, before in by_series]
            value = sum(each for each in changes if each is not None)
            value = value if any(each is not None for each in changes) else None
        else:
            value = of_values(statistic, [p["volume"] for p in inside])
        if value is not None and wanted.statistic == "rate":
            value /= (min(begin + length, moment) - begin).total_seconds()
        if value is not None:
            found.append((begin, value))
    return found[-wanted.evaluation_periods :]


WANTED = st.builds(
    Wanted,
    meter_name=st.sampled_from(METERS),
    statistic=st.sampled_from([each for each in STATISTICS if each != "rate"]),
    period=st.sampled_from([30, 60, 100]),
    evaluation_periods=st.integers(1, 4),
    look_back=st.integers(0, 2),
    aligned=st.booleans(),
    over_series=st.sampled_from(["", "", "avg", "max", "median", "sum", "count", "stddev"]),
)


class Busy:
    """A site, and the points that it has."""

    def __init__(self, site: Site, points: list[dict[str, Any]]) -> None:
        self.site, self.points = site, points


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Busy:
    """A site with a gauge and a counter on three resources, with resets, gaps and bad points."""
    from meterhouse.settings import read_settings

    site = Site.open(read_settings(home=tmp_path_factory.mktemp("busy")))
    random = np.random.default_rng(5)
    points = []
    for resource in ("r0", "r1", "r2"):
        counter = 0.0
        for second in sorted(random.choice(600, 50, replace=False).tolist()):
            counter = counter + random.uniform(0, 9) if random.random() > 0.1 else random.uniform(0, 3)
            when = START + timedelta(seconds=int(second), microseconds=7 if resource == "r1" else 0)
            volume = float("nan") if random.random() < 0.05 else float(random.integers(0, 9))
            points.append(point(volume, when, meter="gauge", resource=resource))
            points.append(point(counter, when, meter="cumulative", type="cumulative", resource=resource))
    land_points(site, points)
    return Busy(site, points)


@hypothesis_settings(max_examples=60, deadline=None)
@given(asked=st.lists(WANTED, min_size=1, max_size=5), seconds=st.sampled_from([0, 17, 30]))
def test_windows_that_are_read_together_have_what_each_has_alone(busy: Busy, asked: list[Wanted], seconds: int) -> None:
    site, points = busy.site, busy.points
    moment = at() - timedelta(seconds=seconds)
    for wanted, window in zip(asked, windows_of(site, asked, moment), strict=True):
        expected = naive(points, wanted, moment)
        assert list(window.starts) == [times.micros(begin) for begin, _ in expected], wanted
        assert window.values == pytest.approx([value for _, value in expected], rel=1e-9, abs=1e-9), wanted


def test_a_rate_is_of_the_part_of_a_period_that_has_passed(busy: Busy) -> None:
    site, points = busy.site, busy.points
    for seconds in (0, 17):
        for over in ("", "avg"):
            wanted = Wanted("cumulative", statistic="rate", aligned=True, evaluation_periods=3, over_series=over)
            moment = at() - timedelta(seconds=seconds)
            (window,) = windows_of(site, [wanted], moment)
            assert window.values == pytest.approx([value for _, value in naive(points, wanted, moment)])
            assert len(window.values) == 3


def test_an_increase_starts_from_the_point_before_the_window_also_if_that_is_of_an_hour_before(
    open_site: OpenSite,
) -> None:
    site = open_site()
    land_points(
        site, [point(v, at(m), meter="c", type="cumulative") for m, v in ((-150, 10.0), (1, 17.0), (2, 20.0), (3, 4.0))]
    )
    wanted = Wanted("c", statistic="increase", period=60, evaluation_periods=3, look_back=0)
    (window,) = windows_of(site, [wanted], at(3.5))
    assert window.values == (7.0, 3.0, 4.0)


def test_a_window_knows_only_what_had_arrived(open_site: OpenSite) -> None:
    site = open_site()
    late = {"recorded_at": at(30)}
    land_points(site, [point(1.0, at(1)), point(5.0, at(2), resource="r2", **late), point(9.0, at(1), **late)])
    wanted = Wanted("m", statistic="sum", period=600)
    found = [
        windows(site, requests_of([wanted]), at(3), known).of(0).values for known in (None, at(30), at(29), at(0.5))
    ]
    assert found == [(14.0,), (14.0,), (1.0,), ()]
    moments = [at(1), at(2), at(3)]
    at_each = [each.of(0).values for each in windows_at(site, requests_of([wanted]), moments, moments)]
    assert at_each == [(1.0,), (1.0,), (1.0,)]


def test_each_period_says_how_many_points_count_and_how_many_do_not(open_site: OpenSite) -> None:
    site = open_site()
    nan = float("nan")
    land_points(
        site,
        [
            *(point(float(n), at(-1) + timedelta(seconds=n)) for n in range(3)),
            point(nan, at(-1), resource="r2"),
            point(nan, at(-0.5), resource="r2"),
            point(nan, at(-3), resource="r2"),
            point(7.0, at(-2.5), resource="r3"),
        ],
    )
    found = windows(site, requests_of([Wanted("m", period=60, evaluation_periods=3)]), at())
    window = found.of(0)
    assert (window.values, window.points, window.excluded) == ((7.0, 1.0), (1, 3), (1, 2))
    assert window.starts == (times.micros(at(-3)), times.micros(at(-1)))
    ids, count = found.series(0)
    assert count == len(ids) == 2


# -- metadata -----------------------------------------------------------------------------------------------


def configure(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(entries)}))


def described(site: Site, **metadata: Any) -> int:
    """Put metadata into the warehouse; return its id."""
    number = abs(hash(json.dumps(metadata, sort_keys=True))) % 10**12
    with site.warehouse.begin() as connection:
        connection.execute(insert(resource_metadata).values(metadata_id=number, metadata=json.dumps(metadata)))
    return number


def by(field: str, value: str, op: str = "eq", **more: Any) -> Wanted:
    return Wanted("m", (Condition(field, op, value),), statistic="sum", period=600, **more)


def test_conditions_on_metadata_look_at_the_metadata_of_each_sample(any_warehouse: Site) -> None:
    site = any_warehouse
    one = described(site, user_metadata={"stack": "st-1"}, size="2", **{"metering.group": "g"})
    two = described(site, user_metadata={"stack": "st-2"}, size=10, state=None)
    land_points(
        site,
        [
            {**point(1.0, at(-3)), "metadata_id": one},
            {**point(2.0, at(-2)), "metadata_id": two},  # the same resource is of another stack now
            {**point(4.0, at(-1), resource="r2"), "metadata_id": one},
            point(8.0, at(-1), resource="r3"),
        ],
    )
    asked = {
        (by("metadata.user_metadata.stack", "st-1"), (5.0,)),
        (by("metadata.user_metadata.stack", "st-2"), (2.0,)),
        (by("metadata.user_metadata.stack", "st-3"), ()),
        (by("metadata.metering.group", "g"), (5.0,)),
        (by("metadata.size", "2.0"), (5.0,)),
        (by("metadata.size", "9", "gt"), (2.0,)),
        (by("metadata.size", "10", "ne"), (5.0,)),
        (by("metadata.state", "x", "ne"), ()),
        (by("metadata.user_metadata.stack", "st-1", where="not resource = r2"), (1.0,)),
        (by("resource_id", "r1", where="metadata.size in (2, 3) or metadata.user_metadata.stack =~ '2$'"), (3.0,)),
        (by("resource_id", "r1"), (3.0,)),
        (Wanted("m", statistic="sum", period=600), (15.0,)),
    }
    found = windows_of(site, [wanted for wanted, _ in asked], at())
    for (wanted, values), window in zip(asked, found, strict=True):
        assert window.values == values, wanted


def test_an_alarm_on_a_stack_reads_the_samples_of_its_members(open_site: OpenSite, tmp_path: Path) -> None:
    rule = {
        "meter_name": "cpu_util",
        "query": [{"field": "metadata.user_metadata.stack", "op": "eq", "value": "st-1"}],
        "comparison_operator": "gt",
        "threshold": 50,
        "period": 60,
    }
    configure(tmp_path, {"name": "scale-up", "threshold_rule": rule, "alarm_actions": ["log://"]})
    site = open_site(config_dir=tmp_path)
    one, two = (described(site, user_metadata={"stack": name}) for name in ("st-1", "st-2"))
    land_points(
        site,
        [
            {**point(80.0, at(-0.5), meter="cpu_util", resource="a"), "metadata_id": one},
            {**point(90.0, at(-0.5), meter="cpu_util", resource="b"), "metadata_id": one},
            {**point(1.0, at(-0.5), meter="cpu_util", resource="c"), "metadata_id": two},
        ],
    )
    assert evaluate(site, at()).transitions == [("scale-up", UNKNOWN, "alarm")]
    (detail,) = warehouse_rows(site, "SELECT detail FROM alarm_history WHERE type = 'state transition'")
    (window,) = json.loads(detail[0])["windows"]
    assert (window["values"], window["points"], window["number_of_series"]) == ([85.0], [2], 2)
