"""Quality: which points break which rule, which are excluded, and what is recorded."""

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import at, land_points, point, rows, warehouse_rows
from conftest import OpenSite
from reference import judged, random_points

from meterhouse.catalog import snapshot
from meterhouse.definitions import quality_rules
from meterhouse.definitions.quality_rules import Rule, Rules
from meterhouse.errors import AlreadyRunning, DefinitionError
from meterhouse.rollups.step import roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site

NAN = math.nan


def reasons(site: Site) -> dict[tuple[str, Any, float], tuple[set[str], bool]]:
    """(resource, time, volume as text) → names of the broken rules, and whether it is excluded."""
    return {
        (row["resource_id"], row["timestamp"], repr(row["volume"])): (set(row["reason_names"]), row["excluded"])
        for row in rows(site, "quarantine")
    }


def verdicts(site: Site, *points: dict[str, Any]) -> list[tuple[set[str], bool]]:
    """The verdict of the quality step on each of these points; empty for a good one."""
    land_points(site, points)
    judge_hours(site)
    found = reasons(site)
    return [found.get((p["resource_id"], p["timestamp"], repr(p["volume"])), (set(), False)) for p in points]


@pytest.mark.parametrize(
    ("meter", "type", "volume", "broken"),
    [
        ("anything", "gauge", NAN, {"not_finite"}),
        ("anything", "delta", math.inf, {"not_finite"}),
        ("cpu", "cumulative", -math.inf, {"not_finite"}),
        ("cpu_util", "gauge", 100.0, set()),
        ("cpu_util", "gauge", 0.0, set()),
        ("cpu_util", "gauge", 100.00001, {"out_of_range"}),
        ("cpu_util", "gauge", -1e-9, {"out_of_range"}),
        ("disk.percent", "gauge", 101.0, {"out_of_range"}),
        ("other", "gauge", -5.0, set()),
        ("memory", "gauge", -1.0, {"negative"}),
        ("network.incoming.bytes", "cumulative", -1.0, {"negative"}),
        ("disk.usage.percent", "gauge", -1.0, {"negative", "out_of_range"}),
    ],
)
def test_each_rule_on_a_point_alone(meter: str, type: str, volume: float, broken: set[str]) -> None:
    one = point(volume, meter=meter, type=type)
    assert set(judged([one], quality_rules.load(None))["reasons"][0]) == broken
    assert _verdicts([one])[0] == broken


def _verdicts(points: list[dict[str, Any]], rules: Rules | None = None) -> list[set[str]]:
    """Judge points in memory."""
    import pyarrow as pa

    from meterhouse.sample_quality.judge import judge
    from meterhouse.stores import duck
    from meterhouse.stores.lake_tables import SAMPLES

    rules = rules or quality_rules.load(None)
    with duck.connect() as connection:
        connection.register("points", pa.Table.from_pylist(points, schema=SAMPLES))
        connection.execute("CREATE TEMP TABLE carried (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE)")
        judge(connection, rules, 48)
        found = {
            row[:3]: row[3]
            for row in connection.execute("SELECT series_id, timestamp, sample_id, bits FROM verdicts").fetchall()
        }
    assert len(found) == len({(p["series_id"], p["timestamp"], p["sample_id"]) for p in points})
    names = {1 << rule.bit: rule.name for rule in rules.rules}
    return [
        {name for bit, name in names.items() if found[p["series_id"], p["timestamp"], p["sample_id"]] & bit}
        for p in points
    ]


def test_a_point_is_in_the_future_relative_to_its_arrival() -> None:
    def dated(seconds: float) -> dict[str, Any]:
        return point(1, at(), recorded_at=at() - timedelta(seconds=seconds))

    assert [_verdicts([dated(s)])[0] for s in (-5, 0, 300, 300.001)] == [set(), set(), set(), {"future"}]


def test_of_duplicates_the_later_arrival_counts(site: Site) -> None:
    early, late, middle = (
        point(v, meter="x", recorded_at=at(minutes)) for v, minutes in ((1.0, 1), (2.0, 9), (3.0, 5))
    )
    assert verdicts(site, early, late, middle) == [({"duplicate"}, True), (set(), False), ({"duplicate"}, True)]


@pytest.mark.parametrize("volume", [NAN, -1.0])
def test_a_later_bad_duplicate_does_not_displace_a_good_one(site: Site, volume: float) -> None:
    good, bad = point(5.0, meter="memory"), point(volume, meter="memory", recorded_at=at(50))
    (good_reasons, good_excluded), (bad_reasons, bad_excluded) = verdicts(site, good, bad)
    assert (good_reasons, good_excluded) == (set(), False)
    assert "duplicate" in bad_reasons
    assert len(bad_reasons) == 2
    assert bad_excluded


def test_deltas_of_one_time_are_not_duplicates_but_a_repeated_sample_is_one_point(site: Site) -> None:
    first, second = point(1.0, type="delta"), point(2.0, type="delta")
    assert verdicts(site, first, second, dict(first)) == [(set(), False)] * 3
    roll_up(site)
    (hour,) = rows(site, "rollups", where="granularity_s = 3600")
    assert (hour["count"], hour["sum"], hour["first"], hour["last"]) == (2, 3.0, None, None)


def test_of_a_sample_that_was_landed_twice_the_first_arrival_is_judged() -> None:
    first = point(1.0, at(), recorded_at=at(-30), sample_id=7)
    again = {**first, "recorded_at": at(30)}
    for order in ([first, again], [again, first]):
        assert _verdicts(order) == [{"future"}] * 2


def test_a_reset_is_flagged_and_kept(site: Site) -> None:
    points = [point(v, at(n), meter="cpu", type="cumulative") for n, v in enumerate([5.0, 9.0, 2.0, 2.0])]
    assert verdicts(site, *points) == [(set(), False), (set(), False), ({"counter_reset"}, False), (set(), False)]


def test_a_reset_is_seen_over_a_bad_point_between() -> None:
    points = [point(v, at(n), meter="cpu", type="cumulative") for n, v in enumerate([9.0, -1.0, 4.0])]
    assert _verdicts(points) == [set(), {"negative"}, {"counter_reset"}]


def test_a_reset_is_seen_over_the_edge_of_an_hour(site: Site) -> None:
    before = point(9.0, at(59), meter="cpu", type="cumulative")
    land_points(site, [before])
    judge_hours(site)
    after = point(3.0, at(61), meter="cpu", type="cumulative")
    assert verdicts(site, after) == [({"counter_reset"}, False)]


def test_a_reset_is_seen_over_many_hours_by_what_the_rollups_carry(site: Site) -> None:
    land_points(site, [point(9.0, at(59), meter="cpu", type="cumulative")])
    roll_up(site)
    after = point(3.0, at(hours=20), meter="cpu", type="cumulative")
    assert verdicts(site, after) == [({"counter_reset"}, False)]


@pytest.mark.slow
def test_a_late_point_can_add_or_remove_a_reset(site: Site) -> None:
    points = [point(v, at(hours=h), meter="cpu", type="cumulative") for h, v in ((0, 9.0), (6, 3.0))]
    land_points(site, points)
    roll_up(site)
    assert [names for names, _ in reasons(site).values()] == [{"counter_reset"}]
    late = point(1.0, at(hours=3), meter="cpu", type="cumulative", recorded_at=at(hours=9))
    land_points(site, [late])
    roll_up(site)
    assert reasons(site) == {("r1", at(hours=3), "1.0"): ({"counter_reset"}, False)}


def test_the_records_say_what_was_found_by_hour_meter_and_rule(site: Site) -> None:
    points = [
        point(NAN, at()),
        point(NAN, at(1)),
        point(101.0, at(), meter="cpu_util"),
        point(1.0, at(hours=1)),
        point(-1.0, at(hours=13), meter="memory"),
    ]
    land_points(site, points)
    done = judge_hours(site)
    assert done.hours == [at(), at(hours=1), at(hours=13)]
    assert (done.points, done.excluded) == (5, 4)
    assert done.flagged == {"not_finite": 2, "out_of_range": 1, "negative": 1}
    found = warehouse_rows(site, "SELECT day, meter, rule, severity, flagged FROM quality_daily ORDER BY 1, 2, 3")
    assert found == [
        ("2026-11-10", "cpu_util", "out_of_range", "critical", 1),
        ("2026-11-10", "m", "not_finite", "critical", 2),
        ("2026-11-11", "memory", "negative", "critical", 1),
    ]


def test_a_second_judging_changes_nothing(site: Site) -> None:
    land_points(site, random_points(7, hours=5))
    judge_hours(site)
    before, version = rows(site, "quarantine"), site.lake.version("quarantine")
    assert judge_hours(site).hours == []
    assert site.lake.version("quarantine") == version
    assert repr(rows(site, "quarantine")) == repr(before)
    assert all(not hour.unjudged for hour in snapshot(site).hours.values())


@pytest.mark.slow
def test_verdicts_equal_those_of_the_reference(site: Site) -> None:
    points = random_points(8, hours=15)
    land_points(site, points[::2])
    judge_hours(site)
    land_points(site, points[1::2])
    judge_hours(site)
    wanted = judged(points, site.rules)
    found = {row["sample_id"]: set(row["reason_names"]) - {"counter_reset"} for row in rows(site, "quarantine")}
    for row in wanted.itertuples():
        assert found.get(row.sample_id, set()) == row.reasons
    assert sum(row["excluded"] for row in rows(site, "quarantine")) == (~wanted["good"]).sum()


def test_only_the_requested_hours_are_judged(site: Site) -> None:
    land_points(site, [point(NAN, at()), point(NAN, at(hours=1))])
    assert judge_hours(site, {at(hours=1)}).hours == [at(hours=1)]
    assert [row["timestamp"] for row in rows(site, "quarantine")] == [at(hours=1)]


def test_two_processes_do_not_judge_at_the_same_time(site: Site) -> None:
    land_points(site, [point(1.0)])
    with site.warehouse.lease("sample_quality"):
        for step in (judge_hours, roll_up):
            with pytest.raises(AlreadyRunning):
                step(site)


# -- rules --------------------------------------------------------------------------------------------------


def test_a_broken_rule_raises_and_passes_for_neither_bad_nor_good_data() -> None:
    broken = Rules((Rule("odd", "", 0, "no such check", "critical"),), "here")
    from meterhouse.sample_quality.judge import _broken

    with pytest.raises(ValueError, match="unknown check"):
        _broken(broken.rules[0])
    unquoted = Rules((Rule("odd", "", 0, "range", "critical", minimum="oops"),), "here")
    with pytest.raises(Exception, match=r"oops|str"):
        _verdicts([point(1.0)], unquoted)


def test_without_rules_every_distinct_point_is_good() -> None:
    assert _verdicts([point(NAN), point(-1.0, at(1)), point(2.0, at(1))], Rules((), "here")) == [set()] * 3


def test_a_site_has_its_own_rules(open_site: OpenSite, tmp_path: Path) -> None:
    (tmp_path / "quality.yaml").write_text(
        'rules:\n  - {name: big, bit: 9, check: range, severity: warning, max: 10, meters: ["a*", b]}\n'
    )
    site = open_site(config_dir=tmp_path)
    points = [point(11.0, meter=m) for m in ("a", "abc", "b", "bc")]
    land_points(site, points)
    judge_hours(site)
    assert [
        (row["meter"], row["reasons"], row["reason_names"], row["excluded"]) for row in rows(site, "quarantine")
    ] == [
        (meter, 512, ["big"], False)
        for meter in sorted(("a", "abc", "b"), key=lambda m: [r["series_id"] for r in points if r["meter"] == m])
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: 5", r":1: the file has no list `rules`"),
        ("nonsense: [", r"is not YAML"),
        ("rules:\n  - 5", r"a rule is not a mapping"),
        ("rules:\n  - {bit: 1}", r":2: a rule has no name"),
        ("rules:\n\n  - {name: a, bit: 1, check: finite, severity: critical, max_: 1}", r":3: .*unknown keys: max_"),
        ("rules:\n  - {name: a, bit: 1, check: odd, severity: critical}", r":2: rule 'a': check is 'odd'\. Write"),
        ("rules:\n  - {name: a, bit: 1, check: finite, severity: bad}", r":2: rule 'a': severity is 'bad'"),
        ("rules:\n  - {name: a, bit: 31, check: finite, severity: warning}", r":2: rule 'a': bit is 31"),
        ("rules:\n  - {name: a, bit: true, check: finite, severity: warning}", r":2: rule 'a': bit is True"),
        ("rules:\n  - {name: a, bit: 1, check: range, severity: warning}", r":2: .*a range needs min or max"),
        ("rules:\n  - {name: a, bit: 1, check: range, severity: warning, min: 2, max: 1}", r":2: .*min is above max"),
        ("rules:\n  - {name: a, bit: 1, check: range, severity: warning, min: .nan}", r":2: .*min is nan"),
        ("rules:\n  - {name: a, bit: 1, check: range, severity: warning, min: x}", r":2: .*min is 'x'"),
        ("rules:\n  - {name: a, bit: 1, check: finite, severity: warning, meters: cpu}", r":2: .*not a list of globs"),
        ("rules:\n  - {name: a, bit: 1, check: finite, severity: warning, types: [no]}", r":2: .*types is"),
        (
            "rules:\n  - {name: a, bit: 1, check: finite, severity: warning}\n"
            "  - {name: a, bit: 2, check: finite, severity: warning}",
            r"rules 'a' and 'a' have the same name",
        ),
        (
            "rules:\n  - {name: a, bit: 1, check: finite, severity: warning}\n"
            "  - {name: b, bit: 1, check: finite, severity: warning}",
            r"rules 'a' and 'b' have the same bit",
        ),
    ],
)
def test_an_invalid_rule_is_rejected_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "quality.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        quality_rules.load(tmp_path)
    assert str(path) in str(caught.value)
    assert re.search(said, str(caught.value)), str(caught.value)


def test_a_name_of_a_rule_cannot_break_out_of_the_sql(open_site: OpenSite, tmp_path: Path) -> None:
    (tmp_path / "quality.yaml").write_text(
        'rules:\n  - {name: "it\'s", bit: 0, check: range, severity: critical, max: 0, meters: ["o\'m*"]}\n'
    )
    site = open_site(config_dir=tmp_path)
    land_points(site, [point(1.0, meter="o'my")])
    judge_hours(site)
    assert [row["reason_names"] for row in rows(site, "quarantine")] == [["it's"]]


def test_the_shipped_rules_have_different_bits_and_are_read_once() -> None:
    rules = quality_rules.load(None)
    assert len({rule.bit for rule in rules.rules}) == len(rules.rules) == 6
    assert rules.critical_bits == 0b11111
    assert quality_rules.load(None) is rules
    assert [rule.name for rule in rules.of("range")] == ["out_of_range", "negative"]
