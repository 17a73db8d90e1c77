"""The SQL and Great Expectations judge alike, and the gate finds bad points that the SQL would miss."""

import importlib
import warnings
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from builders import at, land_points, point, rows
from reference import random_points
from reference_points import distinct_points

from meterhouse.corrections.changing import propose, record
from meterhouse.definitions import quality_rules
from meterhouse.definitions.quality_rules import Rule, Rules
from meterhouse.sample_quality.judge import judge
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site
from meterhouse.stores import duck
from meterhouse.stores.lake_tables import SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module", autouse=True)
def _import_great_expectations() -> None:
    """Import Great Expectations, whose own import warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("great_expectations.expectations")


def judged(points: list[dict[str, Any]], rules: Rules) -> pd.DataFrame:
    """Every distinct point with the bits of the SQL, and the columns that the suite needs."""
    with duck.connect() as connection:
        connection.register("points", pa.Table.from_pylist(points, schema=SAMPLES))
        connection.execute("CREATE TEMP TABLE carried (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE)")
        judge(connection, rules, 48)
        return connection.execute(
            "SELECT meter, v.type, v.series_id, v.timestamp, v.recorded_at, v.volume, v.previous, v.bits, v.sample_id "
            "FROM verdicts AS v JOIN (SELECT DISTINCT series_id, meter FROM points) USING (series_id) "
            "ORDER BY v.series_id, v.timestamp, v.sample_id"
        ).df()


@pytest.mark.parametrize("seed", [21, 22])
def test_the_fast_path_flags_what_great_expectations_flags(seed: int) -> None:
    from quality.suite import validate

    rules = quality_rules.load(None)
    points = random_points(seed, hours=200)
    points += [point(1, at(hours=n), meter="x", recorded_at=at(hours=n - 1)) for n in range(5)]
    points += [point(v, at(n), meter="x", resource="large") for n, v in enumerate([2e150, 1e150, -1e300])]
    points += [point(v, at(n), meter="image.serve", type="delta") for n, v in enumerate([-1.0, 0.0])]
    found = judged(points, rules)
    checked = validate(found, rules)
    assert checked.points == len(found)
    for rule in rules.rules:
        fast = {n for n, bits in enumerate(found["bits"]) if bits & (1 << rule.bit)}
        slow = set(checked.broken[rule.name])
        assert slow, rule.name
        if rule.check != "duplicate":
            assert fast == slow, rule.name
            continue
        # The suite flags every point of a group, the SQL all except the one that counts.
        assert fast < slow
        groups = found.loc[sorted(slow)].groupby(["series_id", "timestamp"])
        assert len(slow - fast) == len(groups)
        for _, group in groups:
            assert len(set(group.index) - fast) == 1


def test_a_rule_that_great_expectations_cannot_evaluate_raises() -> None:
    from quality.suite import validate

    odd = Rules((Rule("odd", "", 0, "range", "critical", minimum="x"),), "here")
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        validate(judged([point(1.0)], quality_rules.load(None)), odd)


def test_the_gate_does_not_find_what_a_correction_accepts(site: Site) -> None:
    from quality.gate import check

    land_points(site, [point(volume, at(n), meter="cpu_util") for n, volume in enumerate((1.0, -5.0, 3.0))])
    proposed = propose(site, "accept", "cpu_util", at(1), at(2)).correction
    record(site, proposed, reason="it was so", author="ana")
    judge_hours(site)
    assert not rows(site, "quarantine")
    gate = check(site)
    assert (gate.points, gate.broken) == (2, 0)


def test_the_gate_passes_after_the_quality_step_and_finds_a_bad_point_that_it_missed(site: Site) -> None:
    from quality.gate import check

    assert check(site).points == 0
    points = random_points(23, hours=20)
    land_points(site, points)
    judge_hours(site)
    excluded = sum(row["excluded"] for row in rows(site, "quarantine"))
    gate = check(site, hours=1000)
    assert gate.broken == 0
    assert gate.points == len(distinct_points(points)) - excluded

    site.lake.table("quarantine").delete("'not_finite' = reason_names[1]")
    assert check(site, hours=1000).broken > 0
