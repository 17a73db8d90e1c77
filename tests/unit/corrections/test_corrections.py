"""Corrections: every figure is that of the points as corrected, whatever comes later, and a revoked one leaves nothing.

The expected figures are those of a plain reference on points that a few lines of Python have corrected.
"""

import math
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import at, count, drop, land_points, point, polled, polling, process, roll_up, rows
from conftest import OpenSite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import assert_right, random_points
from reference_points import compact, nasty_points

from meterhouse import times
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import windows
from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog, snapshot
from meterhouse.collection.load import load
from meterhouse.corrections.changing import Reach, changed_points, propose, record, revoke
from meterhouse.corrections.recorded import Action, recorded
from meterhouse.errors import UnknownName, UsageError
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import statistics
from meterhouse.recompute import backfill
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site

Points = list[dict[str, Any]]
Choice = Callable[[dict[str, Any]], bool]

WHO = {"reason": "a broken sensor", "author": "ana"}


DERIVED = """derived_meters:
- {name: seconds, kind: convert, from: [cpu], scale: 0.5, unit: s}
"""


def correct(
    site: Site, action: Action, meter: str, start: datetime, end: datetime, condition: str = "", **more: float
) -> Reach:
    found = propose(site, action, meter, start, end, condition=condition, **more)
    return record(site, found.correction, **WHO)


def corrected(
    points: Points,
    action: Action,
    meter: str,
    start: datetime,
    end: datetime,
    chosen: Choice = lambda row: True,
    volume: float | None = None,
    factor: float | None = None,
) -> Points:
    """The reference: the points as one correction leaves them."""
    made = []
    for landed in points:
        row = {"accepted": False, **landed}
        if row["meter"] == meter and start <= row["timestamp"] < end and chosen(row):
            if action == "delete":
                continue
            if action == "replace":
                row["volume"] = row["volume"] * factor if factor is not None else volume
            row["accepted"] |= action == "accept"
        made.append(row)
    return made


def large_or_r5(row: dict[str, Any]) -> bool:
    return bool(row["volume"] >= 100 or row["resource_id"] == "r5")


CHAIN: Sequence[tuple[Action, str, float, float, str, Choice, dict[str, float]]] = (
    ("delete", "cpu_util", 3.2, 9.7, "resource = r0", lambda row: row["resource_id"] == "r0", {}),
    ("replace", "cpu", 5, 20.25, "", lambda row: True, {"factor": 0.5}),
    ("accept", "cpu_util", 0, 30, "volume > 1000", lambda row: row["volume"] > 1000, {}),
    ("replace", "requests", 8.1, 12, "volume < 50", lambda row: row["volume"] < 50, {"volume": 60.0}),
    ("replace", "cpu_util", 6, 14, "not volume <= 90", lambda row: not row["volume"] <= 90, {"volume": 42.5}),
    ("accept", "requests", 2, 28, "", lambda row: True, {}),
    ("delete", "cpu", 11, 13, "volume >= 100 or resource = r5", large_or_r5, {}),
)
"""Corrections that overlap: action, meter, hours after noon, condition, the same in Python, and the new volume."""


def apply_chain(site: Site, points: Points) -> Points:
    for action, meter, start, end, condition, chosen, more in CHAIN:
        correct(site, action, meter, at(hours=start), at(hours=end), condition, **more)
        points = corrected(points, action, meter, at(hours=start), at(hours=end), chosen, **more)
    return points


def seal(site: Site) -> None:
    for day in sorted({row["arrival_hour"][:10] for row in rows(site, "samples", "DISTINCT arrival_hour")}):
        archive(site, times.parse_day(day))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "rolled"),
    [(lambda site: None, False), (compact, True), (seal, True)],
    ids=["open hours", "compacted hours that are rolled up", "sealed hours that are rolled up"],
)
def test_roll_ups_are_those_of_the_corrected_points(
    open_site: OpenSite, form: Callable[[Site], None], rolled: bool
) -> None:
    site = open_site()
    points = random_points(3, hours=24)
    land_points(site, points)
    form(site)
    if rolled:
        roll_up(site)
    wanted = apply_chain(site, points)
    roll_up(site)
    assert_right(site, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_corrections_revoked_in_any_order_leave_what_was_before(open_site: OpenSite, seed: int) -> None:
    site, rng = open_site(), random.Random(seed)
    points = random_points(seed + 10, hours=12)
    land_points(site, points)
    roll_up(site)

    def state() -> list[str]:
        return [repr(rows(site, table)) for table in ("samples", "rollups", "quarantine")]

    first = state()
    for _ in range(6):
        action = rng.choice(["delete", "replace", "accept"])
        start = rng.uniform(0, 8)
        more = {rng.choice(["volume", "factor"]): rng.choice([0.0, 1.5, -3.0])} if action == "replace" else {}
        condition = rng.choice(["", "resource in (r0, r3)", "volume > 50", "type = cumulative"])
        meter = rng.choice(["cpu_util", "requests", "cpu"])
        correct(site, action, meter, at(hours=start), at(hours=start + rng.uniform(0.1, 6)), condition, **more)
        if rng.random() < 0.5:
            roll_up(site)
    roll_up(site)
    assert state()[0] == first[0]
    assert state()[1:] != first[1:]
    for correction_id in rng.sample(range(1, 7), 6):
        revoke(site, correction_id, **WHO)
        if rng.random() < 0.5:
            roll_up(site)
    roll_up(site)
    assert state() == first


CHANGES: st.SearchStrategy[tuple[Any, ...]] = st.tuples(
    st.sampled_from([("delete", {}), ("accept", {}), ("accept", {}), ("replace", {"volume": -3.0})]),
    st.sampled_from(["cpu_util", "cpu", "requests", "m"]),
    st.sampled_from(["", "volume < 2", "not volume <= 1e100", "type = gauge or volume = 1"]),
)


@pytest.mark.slow
@given(points=nasty_points(max_size=25), changes=st.lists(CHANGES, min_size=1, max_size=4))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_engines_judge_corrected_points_alike(
    open_site: OpenSite, points: Points, changes: list[tuple[Any, ...]]
) -> None:
    site = open_site()
    land_points(site, points)
    known = {row["meter"] for row in points}
    for (action, more), meter, condition in changes:
        if meter in known:
            correct(site, action, meter, at(days=-9), at(days=9), condition, **more)
    roll_up(site)
    critical = {rule.name for rule in site.rules.rules if rule.severity == "critical"}
    good: dict[tuple[str, ...], list[float]] = {}
    for row in (row for meter in known for row in samples(site, EVERYTHING, meter, limit=1_000).to_pylist()):
        if not critical & set(row["reasons"]):
            good.setdefault((row["meter"], row["type"], row["resource_id"]), []).append(row["volume"])
    names = {row["series_id"]: (row["meter"], row["type"], row["resource_id"]) for row in points}
    rolled: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows(site, "rollups", where="granularity_s = 3600 AND count > 0"):
        rolled.setdefault(names[row["series_id"]], []).append(row)
    assert {name: (len(found), min(found), max(found)) for name, found in good.items()} == {
        name: (sum(row["count"] for row in found), min(row["min"] for row in found), max(row["max"] for row in found))
        for name, found in rolled.items()
    }


def test_statistics_and_samples_are_right_before_the_roll_up_and_after(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(float(n), at(10 * n), meter="cpu_util") for n in range(12)])
    land_points(site, [point(9e8, at(25), meter="cpu_util"), point(math.nan, at(35), meter="cpu_util")])
    roll_up(site)

    def figures() -> tuple[Any, ...]:
        (row,) = statistics(site, EVERYTHING, "cpu_util", aggregate=["count", "sum", "max"])
        listed = {(row["volume"], *row["reasons"]) for row in samples(site, EVERYTHING, "cpu_util").to_pylist()}
        return row["count"], row["sum"], row["max"], len(listed), listed & {(9e8, "over_100"), (100.0,), (3.0,)}

    assert figures() == (12, 66.0, 11.0, 14, {(3.0,)})
    correct(site, "delete", "cpu_util", at(30), at(60))
    correct(site, "accept", "cpu_util", at(25), at(26))
    correct(site, "replace", "cpu_util", at(110), at(111), volume=100.0)
    wanted = (10, 66.0 - 12 - 11 + 100 + 9e8, 9e8, 10, {(9e8, "over_100"), (100.0,)})
    assert figures() == wanted
    roll_up(site)
    assert figures() == wanted


def test_excluded_points_that_are_asked_for_are_the_corrected_ones(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(volume, at(n), meter="cpu_util") for n, volume in enumerate((1.0, -7.0, -9.0))])
    correct(site, "delete", "cpu_util", at(2), at(3))
    (row,) = statistics(site, EVERYTHING, "cpu_util", aggregate=["count", "sum"], include_excluded=True)
    assert (row["count"], row["sum"]) == (2, -6.0)


def test_nothing_makes_a_sum_of_what_no_sum_can_hold(open_site: OpenSite) -> None:
    site = open_site()
    volumes = (1.0, 1e150, 1.1e150, math.inf, math.nan)
    land_points(site, [point(volume, at(n)) for n, volume in enumerate(volumes)])
    correct(site, "accept", "m", at(), at(60))
    roll_up(site)
    (row,) = rows(site, "rollups", where="granularity_s = 3600")
    assert (row["count"], row["excluded"], row["max"]) == (2, 3, 1e150)
    assert [bool(row["reasons"]) for row in samples(site, EVERYTHING, "m").to_pylist()] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_of_accepted_points_in_conflict_the_last_counts(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(-5.0, at(), meter="cpu_util", recorded_at=at(9)), point(4.0, at(), meter="cpu_util")])
    roll_up(site)
    assert rows(site, "rollups", "sum", "granularity_s = 3600") == [{"sum": 4.0}]
    correct(site, "accept", "cpu_util", at(), at(1))
    roll_up(site)
    assert rows(site, "rollups", "sum, excluded", "granularity_s = 3600") == [{"sum": -5.0, "excluded": 1}]
    assert {(row["volume"], *row["reasons"]) for row in samples(site, EVERYTHING, "cpu_util").to_pylist()} == {
        (-5.0,),
        (4.0, "duplicate"),
    }


def test_late_points_are_corrected_too(open_site: OpenSite) -> None:
    site = open_site()
    points = [point(float(n), at(n)) for n in range(5)]
    land_points(site, points)
    correct(site, "replace", "m", at(2), at(30), factor=10.0)
    roll_up(site)
    late = [point(7.0, at(2.5), recorded_at=at(days=1)), point(8.0, at(40), recorded_at=at(days=1))]
    land_points(site, late)
    roll_up(site)
    assert_right(site, corrected([*points, *late], "replace", "m", at(2), at(30), factor=10.0))


def test_a_file_that_is_loaded_again_stays_corrected(open_site: OpenSite, tmp_path: Path) -> None:
    site, file = open_site(), tmp_path / "m.csv"
    file.write_text("timestamp,volume\n" + "".join(f"{at(n).isoformat()},{n}\n" for n in range(10)))
    load(site, [file])
    catalog(site)
    correct(site, "delete", "m", at(3), at(6))
    for _ in range(2):
        roll_up(site)
        assert rows(site, "rollups", "count, sum", "granularity_s = 3600") == [{"count": 7, "sum": 33.0}]
        assert load(site, [file]).samples == 0
        catalog(site)


def test_backfills_keep_corrections(open_site: OpenSite) -> None:
    site = open_site()
    batch = [polled(float(n), at(n), message_id=f"s{n}") for n in range(10)]
    drop(site.settings.spool, "a.jsonl", [polling("p", batch)])
    process(site)
    correct(site, "replace", "cpu_util", at(4), at(8), volume=50.0)
    arrived = times.now()
    for asset, span in (
        ("samples", (arrived - times.DAY, arrived + times.DAY)),
        ("rollups", (at(), at(60))),
        ("sample_quality", (at(), at(60))),
    ):
        backfill(site, asset, *span)
        roll_up(site)
        (row,) = rows(site, "rollups", "count, sum", "granularity_s = 3600")
        assert (row["count"], row["sum"]) == (10, 45 - 22 + 200.0), asset
    assert count(site, "samples", "volume = 50") == 0


def test_the_increase_after_a_corrected_counter_is_corrected(open_site: OpenSite) -> None:
    site = open_site()
    points = [point(float(10 * n), at(hours=n), meter="cpu", type="cumulative") for n in range(6)]
    land_points(site, points)
    roll_up(site)
    correct(site, "replace", "cpu", at(hours=2), at(hours=3), volume=25.0)
    roll_up(site)
    assert_right(site, corrected(points, "replace", "cpu", at(hours=2), at(hours=3), volume=25.0))
    revoke(site, 1, **WHO)
    roll_up(site)
    assert_right(site, points)


def test_corrections_are_the_same_in_every_kind_of_site(any_site: Site) -> None:
    points = [point(float(n), at(7 * n), meter="cpu_util", resource=f"r{n % 3}") for n in range(30)]
    land_points(any_site, points)
    roll_up(any_site)
    more = {"start": at(21), "end": at(100), "chosen": lambda row: row["resource_id"] != "r1", "volume": 0.25}
    correct(any_site, "replace", "cpu_util", at(21), at(100), "resource != r1", volume=0.25)
    (row,) = statistics(any_site, EVERYTHING, "cpu_util", aggregate=["sum"])
    wanted = corrected(points, "replace", "cpu_util", **more)
    assert row["sum"] == pytest.approx(sum(row["volume"] for row in wanted))
    roll_up(any_site)
    assert_right(any_site, wanted)
    revoke(any_site, 1, **WHO)
    roll_up(any_site)
    assert_right(any_site, points)


def test_the_points_of_a_derived_meter_are_refused_and_follow_their_sources(
    open_site: OpenSite, tmp_path: Path
) -> None:
    (tmp_path / "derived_meters.yaml").write_text(DERIVED)
    site = open_site(config_dir=tmp_path)
    points = [point(60.0 * n, at(n), meter="cpu", type="cumulative", unit="ns") for n in range(5)]
    land_points(site, points)
    roll_up(site)
    with pytest.raises(UsageError, match="derived meter"):
        propose(site, "delete", "seconds", at(), at(9))
    correct(site, "replace", "cpu", at(4), at(5), volume=270.0)
    roll_up(site)
    assert [row["volume"] for row in rows(site, "derived", "volume")] == [0.0, 30.0, 60.0, 90.0, 135.0]


def test_of_a_meter_that_is_landed_and_derived_the_landed_points_are_corrected(
    open_site: OpenSite, tmp_path: Path
) -> None:
    (tmp_path / "derived_meters.yaml").write_text(DERIVED)
    site = open_site(config_dir=tmp_path)
    land_points(site, [point(60.0 * n, at(n), meter="cpu", type="cumulative", unit="ns") for n in range(3)])
    land_points(site, [point(7.0, at(1), meter="seconds", resource="r2"), point(-5.0, at(2), meter="cpu_util")])
    roll_up(site)
    assert correct(site, "replace", "seconds", at(), at(9), factor=2.0).points == 1
    roll_up(site)
    wanted = {("r1", 0.0), ("r1", 30.0), ("r1", 60.0), ("r2", 14.0)}
    assert {(row["resource_id"], row["volume"]) for row in samples(site, EVERYTHING, "seconds").to_pylist()} == wanted
    figures = {row["type"]: row["sum"] for row in statistics(site, EVERYTHING, "seconds", aggregate=["sum"])}
    assert figures == {"cumulative": 90.0, "gauge": 14.0}


def test_an_hour_of_which_all_points_are_deleted_has_no_roll_up(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1.0, at(5)), point(2.0, at(5, hours=1)), point(-1.0, at(6), meter="cpu_util")])
    roll_up(site)
    correct(site, "delete", "m", at(), at(hours=1))
    correct(site, "delete", "cpu_util", at(), at(hours=1))
    roll_up(site)
    assert [row["bucket"] for row in rows(site, "rollups", where="granularity_s = 3600")] == [at(hours=1)]
    assert not rows(site, "quarantine")


def test_only_hours_with_changed_points_become_dirty(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1.0, at(hours=n), resource=f"r{n % 2}") for n in range(6)])
    roll_up(site)
    found = correct(site, "delete", "m", at(), at(days=5), "resource = r1")
    assert (found.points, list(found.hours)) == (3, [at(hours=1), at(hours=3), at(hours=5)])
    assert sorted(snapshot(site).hours) == list(found.hours)


def test_a_proposed_correction_changes_nothing(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1.0, at(n)) for n in range(4)])
    roll_up(site)
    found = propose(site, "delete", "m", at(1), at(3))
    assert (found.points, found.hours) == (2, (at(),))
    assert not snapshot(site).hours
    assert recorded(site) == []


def test_a_correction_keeps_who_why_and_what_it_replaced(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(float(n), at(n)) for n in range(4)])
    one = correct(site, "replace", "m", at(), at(3), "volume > 0", factor=-1.0).correction
    other = correct(site, "delete", "m", at(), at(3), "volume < -1").correction
    assert [(row["volume"], row["becomes"]) for row in changed_points(site, one, 9).to_pylist()] == [(1, -1), (2, -2)]
    assert [(row["volume"], row["becomes"]) for row in changed_points(site, other, 9).to_pylist()] == [(-2, None)]
    revoke(site, 1, reason="the sensor was right", author="bo")
    (first, second) = recorded(site)
    assert (first.reason, first.author, first.points) == ("a broken sensor", "ana", 2)
    assert (first.revoked_by, first.revoked_reason, first.is_active) == ("bo", "the sensor was right", False)
    assert first.revoked_at is not None
    assert second.is_active
    assert [(row["volume"], row["becomes"]) for row in changed_points(site, one, 9).to_pylist()] == [(1, -1), (2, -2)]
    assert changed_points(site, other, 9).num_rows == 0


@pytest.mark.parametrize(
    ("action", "more", "said"),
    [
        ("replace", {}, "one of a volume and a factor"),
        ("replace", {"volume": 1.0, "factor": 2.0}, "one of a volume and a factor"),
        ("delete", {"volume": 0.0}, "neither"),
        ("replace", {"volume": math.nan}, "not a finite number"),
        ("accept", {"condition": "colour = red"}, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused(open_site: OpenSite, action: Action, more: dict[str, Any], said: str) -> None:
    site = open_site()
    land_points(site, [point(1.0)])
    with pytest.raises(UsageError, match=said):
        propose(site, action, "m", at(), at(1), **more)


def test_a_correction_of_an_unknown_meter_without_reason_or_twice_revoked_is_refused(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1.0)])
    with pytest.raises(UnknownName, match="cpu_utli"):
        propose(site, "delete", "cpu_utli", at(), at(1))
    with pytest.raises(UsageError, match="empty"):
        propose(site, "delete", "m", at(1), at(1))
    proposed = propose(site, "delete", "m", at(), at(1)).correction
    with pytest.raises(UsageError, match="reason"):
        record(site, proposed, reason=" ", author="ana")
    record(site, proposed, **WHO)
    revoke(site, 1, **WHO)
    with pytest.raises(UsageError, match="revoked already, by ana"):
        revoke(site, 1, **WHO)
    with pytest.raises(UnknownName, match="7"):
        revoke(site, 7, **WHO)


def test_alarms_see_corrected_points(open_site: OpenSite) -> None:
    site = open_site()
    rule = ThresholdRule(meter_name="cpu_util", threshold=1.0, period=60, evaluation_periods=4, statistic="max")
    land_points(site, [point(volume, at(n), meter="cpu_util") for n, volume in enumerate((1.0, -2.0, 3.0, 4.0))])

    def values() -> tuple[float, ...]:
        return windows(site, requests_of(rule.wanted()), at(4)).of(0).values

    assert values() == (1.0, 3.0, 4.0)
    correct(site, "accept", "cpu_util", at(1), at(2))
    correct(site, "delete", "cpu_util", at(2), at(3))
    correct(site, "replace", "cpu_util", at(3), at(4), factor=2.0)
    assert values() == (1.0, -2.0, 8.0)
