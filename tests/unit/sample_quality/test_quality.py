"""Quality: which points break which rule, which are excluded, and what is recorded."""

import math
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import at, land_points, point, roll_up, rows, warehouse_rows
from conftest import OpenSite
from reference import judged, random_points
from reference_points import same_point

from meterhouse.catalog import snapshot
from meterhouse.definitions import quality_rules
from meterhouse.definitions.quality_rules import Rule, Rules
from meterhouse.errors import AlreadyRunning, DefinitionError
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
        ("cpu_util", "gauge", 100.00001, {"over_100"}),
        ("cpu_util", "gauge", -1e-9, {"out_of_range"}),
        ("disk.percent", "gauge", 101.0, {"over_100"}),
        ("anything", "gauge", 1e150, set()),
        ("anything", "delta", -1e150, set()),
        ("anything", "gauge", math.nextafter(1e150, math.inf), {"too_large"}),
        ("anything", "cumulative", -sys.float_info.max, {"too_large"}),
        ("other", "gauge", -5.0, set()),
        ("memory", "gauge", -1.0, {"negative"}),
        ("network.incoming.bytes", "cumulative", -1.0, {"negative"}),
        ("disk.usage.percent", "gauge", -1.0, {"negative"}),
    ],
)
def test_each_rule_on_a_point_alone(meter: str, type: str, volume: float, broken: set[str]) -> None:
    one = point(volume, meter=meter, type=type)
    assert set(judged([one], quality_rules.load(None))["reasons"][0]) == broken
    assert _verdicts([one])[0] == broken


POSSIBLE = {
    "a fully busy machine, by the clock's jitter": ("cpu_util", "gauge", 100.3, {"over_100"}),
    "four busy processors, added up": ("cpu_util", "gauge", 390.0, {"over_100"}),
    "all threads of a large host, added up": ("cpu_util", "gauge", 192_000.0, {"over_100"}),
    "an idle machine": ("cpu_util", "gauge", 0.0, set()),
    "a host's load over its processors": ("compute.node.cpu.percent", "gauge", 640.0, {"over_100"}),
    "a host's user time": ("compute.node.cpu.user.percent", "gauge", 100.1, {"over_100"}),
    "an SNMP agent's load": ("hardware.cpu.util", "gauge", 101.0, {"over_100"}),
    "processes of many threads": ("process.cpu.percent", "gauge", 6_300.0, {"over_100"}),
    "a thin volume with snapshots": ("disk.usage.percent", "gauge", 130.0, {"over_100"}),
    "memory with a balloon": ("memory.usage.percent", "gauge", 100.4, {"over_100"}),
    "a shrinking market": ("price.change.percent", "gauge", -12.0, set()),
    "frost": ("hardware.ipmi.temperature", "gauge", -18.5, set()),
    "a disk in the frost": ("disk.temperature", "gauge", -3.0, set()),
    "a negative rail": ("hardware.ipmi.voltage", "gauge", -12.1, set()),
    "a fan": ("hardware.ipmi.fan", "gauge", 23_000.0, set()),
    "a rack": ("hardware.ipmi.power", "gauge", 41_000.0, set()),
    "a current that flows back": ("hardware.ipmi.current", "gauge", -0.4, set()),
    "load averages": ("hardware.cpu.load.1min", "gauge", 512.7, set()),
    "a signal": ("network.wireless.signal", "gauge", -61.0, set()),
    "an unknown state of a VPN": ("network.services.vpn", "gauge", -1.0, set()),
    "an unknown state of a floating IP": ("ip.floating", "gauge", -1.0, set()),
    "an unknown state of a balancer": ("loadbalancer.operating", "gauge", -1.0, set()),
    "a driver that does not know": ("volume.provider.capacity.free", "gauge", -1.0, set()),
    "over-subscription": ("volume.provider.pool.capacity.virtual_free", "gauge", -300.0, set()),
    "a difference over a restart": ("network.incoming.bytes.delta", "gauge", -9e6, set()),
    "a difference of a counter": ("network.incoming.bytes", "delta", -9e6, set()),
    "memory that was given back": ("memory.usage", "delta", -512.0, set()),
    "space that was given back": ("disk.device.usage", "delta", -4e9, set()),
    "a trend": ("disk.usage.rate", "gauge", -250.0, set()),
    "100 Gbit/s": ("network.outgoing.bytes.rate", "gauge", 1.25e10, set()),
    "a fast disk": ("disk.device.read.requests.rate", "gauge", 2.5e6, set()),
    "an old host's idle time": ("compute.node.cpu.idle.time", "cumulative", 4e19, set()),
    "an exabyte": ("storage.objects.size", "gauge", 1.2e18, set()),
    "a download": ("storage.objects.outgoing.bytes", "delta", 5e12, set()),
    "a slow start, by two clocks": ("compute.instance.booting.time", "gauge", -0.2, set()),
}

IMPOSSIBLE = {
    "a load that no machine has": ("cpu_util", "gauge", 819_201.0, {"out_of_range", "over_100"}),
    "a load below zero": ("cpu_util", "gauge", -0.5, {"out_of_range"}),
    "a host's load below zero": ("compute.node.cpu.idle.percent", "gauge", -3.0, {"out_of_range"}),
    "an SNMP agent's load below zero": ("hardware.cpu.util", "gauge", -3.0, {"out_of_range"}),
    "a counter of time": ("cpu", "cumulative", -1.0, {"negative"}),
    "processors": ("vcpus", "gauge", -2.0, {"negative"}),
    "memory of a flavour": ("memory", "gauge", -1.0, {"negative"}),
    "memory in use": ("memory.usage", "gauge", -1.0, {"negative"}),
    "memory that was swapped": ("memory.swap.in", "cumulative", -1.0, {"negative"}),
    "a share of memory": ("memory.usage.percent", "gauge", -1.0, {"negative"}),
    "a disk's counter": ("disk.device.read.bytes", "cumulative", -1.0, {"negative"}),
    "a disk's counter, older": ("disk.write.requests", "cumulative", -1.0, {"negative"}),
    "a disk's rate": ("disk.device.write.bytes.rate", "gauge", -1.0, {"negative"}),
    "a disk's latency": ("disk.device.read.latency", "cumulative", -1.0, {"negative"}),
    "a disk's capacity": ("disk.device.capacity", "gauge", -1.0, {"negative"}),
    "a disk of a flavour": ("disk.ephemeral.size", "gauge", -1.0, {"negative"}),
    "traffic": ("network.incoming.bytes", "cumulative", -1.0, {"negative"}),
    "lost packets": ("network.incoming.packets.drop", "cumulative", -1.0, {"negative"}),
    "a rate of packets": ("network.outgoing.packets.rate", "gauge", -1.0, {"negative"}),
    "a volume": ("volume.size", "gauge", -1.0, {"negative"}),
    "a backup": ("backup.size", "gauge", -1.0, {"negative"}),
    "an image": ("image.size", "gauge", -1.0, {"negative"}),
    "objects": ("storage.containers.objects", "gauge", -1.0, {"negative"}),
    "an upload": ("storage.objects.incoming.bytes", "delta", -1.0, {"negative_amount"}),
    "a download of an image": ("image.download", "delta", -1.0, {"negative_amount"}),
}


@pytest.mark.parametrize("case", [*POSSIBLE, *IMPOSSIBLE])
def test_what_can_be_true_is_kept_and_what_cannot_is_excluded(case: str) -> None:
    meter, type, volume, broken = {**POSSIBLE, **IMPOSSIBLE}[case]
    rules = quality_rules.load(None)
    assert _verdicts([point(volume, meter=meter, type=type)]) == [broken]
    excluding = {rule.name for rule in rules.rules if rule.severity == "critical"}
    assert bool(broken & excluding) == (case in IMPOSSIBLE)


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
        found = {same_point(row): row["bits"] for row in duck.arrow(connection, "FROM verdicts").to_pylist()}
    assert len(found) == len({same_point(p) for p in points})
    names = {1 << rule.bit: rule.name for rule in rules.rules}
    return [{name for bit, name in names.items() if found[same_point(p)] & bit} for p in points]


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


@pytest.mark.parametrize("type", ["gauge", "delta"])
def test_a_point_is_in_the_future_only_if_all_its_copies_came_before_its_time(type: str) -> None:
    first = point(1.0, at(), type=type, recorded_at=at(-30), sample_id=7)
    again, later = {**first, "recorded_at": at(-20)}, {**first, "recorded_at": at(30)}
    for order in ([first, again], [again, first]):
        assert _verdicts(order) == [{"future"}] * 2
        assert _verdicts([*order, later]) == _verdicts([later, *order]) == [set()] * 3


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
        point(1e6, at(), meter="cpu_util"),
        point(1.0, at(hours=1)),
        point(-1.0, at(hours=13), meter="memory"),
    ]
    land_points(site, points)
    done = judge_hours(site)
    assert done.hours == [at(), at(hours=1), at(hours=13)]
    assert (done.points, done.excluded) == (5, 4)
    assert done.flagged == {"not_finite": 2, "out_of_range": 1, "over_100": 1, "negative": 1}
    found = warehouse_rows(site, "SELECT day, meter, rule, severity, flagged FROM quality_daily ORDER BY 1, 2, 3")
    assert found == [
        ("2026-11-10", "cpu_util", "out_of_range", "critical", 1),
        ("2026-11-10", "cpu_util", "over_100", "warning", 1),
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
    found = {same_point(row): set(row["reason_names"]) - {"counter_reset"} for row in rows(site, "quarantine")}
    for row in wanted.to_dict("records"):
        assert found.get(same_point(row), set()) == row["reasons"]
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
        (
            "rules:\n  - {name: a, bit: 1, check: finite, severity: warning, meters: cpu}",
            r":2: .*not a list of at most 1,000 globs",
        ),
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
    assert len({rule.bit for rule in rules.rules}) == len(rules.rules) == 9
    assert rules.critical_bits == 0b1_0101_1111
    assert quality_rules.load(None) is rules
    ranges = ["too_large", "out_of_range", "over_100", "negative", "negative_amount"]
    assert [rule.name for rule in rules.of("range")] == ranges


FINITE = "{name: finite_, bit: 7, check: finite, severity: critical}"


@pytest.mark.parametrize(
    ("own", "bits"),
    [
        ("[]", {"not_finite": 0, "too_large": 6}),
        ("[{name: a, bit: 0, check: future, severity: critical}]", {"a": 0, "not_finite": 30, "too_large": 6}),
        ("[{name: a, bit: 6, check: future, severity: critical}]", {"a": 6, "not_finite": 0, "too_large": 30}),
        (f"[{FINITE}]", {"finite_": 7, "too_large": 6}),
        ("[{name: not_finite, bit: 3, check: finite, severity: warning}]", {"not_finite": 3, "too_large": 6}),
        ("[{name: some, bit: 3, check: finite, severity: critical, meters: [cpu]}]", {"some": 3, "not_finite": 0}),
        ("[{name: some, bit: 3, check: finite, severity: critical, types: [delta]}]", {"some": 3, "not_finite": 0}),
        ("[{name: too_large, bit: 2, check: range, severity: critical, max: 1.0e+200}]", {"too_large": 2}),
        (f"[{FINITE}, {{name: bound, bit: 1, check: range, severity: critical, min: 0, max: 9}}]", {"bound": 1}),
    ],
)
def test_a_volume_that_cannot_be_computed_with_is_excluded_whatever_the_sites_rules_are(
    tmp_path: Path, own: str, bits: dict[str, int]
) -> None:
    (tmp_path / "quality.yaml").write_text(f"rules: {own}")
    rules = quality_rules.load(tmp_path)
    found = {rule.name: rule.bit for rule in rules.rules}
    assert bits.items() <= found.items()
    assert len(set(found.values())) == len(rules.rules)
    bad = [NAN, math.inf, -math.inf, 2e150, -2e150, sys.float_info.max]
    for type in ("gauge", "delta", "cumulative"):
        verdicts = _verdicts([point(v, at(n), meter="x", type=type) for n, v in enumerate(bad)], rules)
        critical = {rule.name for rule in rules.rules if rule.severity == "critical"}
        assert all(found & critical for found in verdicts), verdicts


def test_too_many_own_rules_leave_no_bit_for_those_that_always_hold(tmp_path: Path) -> None:
    def own(count: int) -> str:
        return "rules:\n" + "".join(
            f"- {{name: r{bit}, bit: {bit}, check: future, severity: warning}}\n" for bit in range(count)
        )

    (tmp_path / "quality.yaml").write_text(own(29))
    assert len(quality_rules.load(tmp_path).rules) == 31
    (tmp_path / "quality.yaml").write_text(own(30))
    with pytest.raises(DefinitionError, match=r"no free bit for the rule 'too_large'.*at most 29 rules"):
        quality_rules.load(tmp_path)


def test_a_late_point_changes_the_verdicts_of_a_later_hour_that_is_judged_and_not_rolled_up(site: Site) -> None:
    def counter(volume: float, minutes: int) -> dict[str, Any]:
        return point(volume, at(minutes), meter="cpu", type="cumulative")

    land_points(site, [counter(10, 5), counter(100, 130)])
    judge_hours(site)
    assert reasons(site) == {}
    land_points(site, [counter(500, 50)])
    judge_hours(site)
    roll_up(site)
    assert [found for found, _ in reasons(site).values()] == [{"counter_reset"}]
