"""Points of derived meters, from good points in columns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse import identity
from meterhouse.definitions.derived_meters import SHIPPED as FILE
from meterhouse.definitions.derived_meters import Derived, read
from meterhouse.definitions.quality_rules import load as load_rules
from meterhouse.rollups.derived_points import Judged, Source
from meterhouse.rollups.deriving import Derivation
from meterhouse.rollups.described_values import values_of
from meterhouse.rollups.received import Received
from meterhouse.rollups.targets import DIMENSIONS
from meterhouse.sample_quality.series_table import SeriesRules, SeriesTable
from meterhouse.sample_quality.verdicts import Points, judge

RULES = load_rules(None)
START = 1_795_824_000_000_000  # an hour's start, µs
SECOND = 1_000_000
Point = tuple[str, str, str, int, float]  # meter, type, resource, seconds after the start, volume


def defined(tmp_path: Path, text: str) -> tuple[Derived, ...]:
    path = tmp_path / "derived.yaml"
    path.write_text("derived_meters:\n" + text)
    found = read(path)
    assert not found.faults
    return found.definitions


def derive(
    definitions: tuple[Derived, ...],
    points: list[Point],
    metadata: dict[str, Any] | None = None,
    known: Received | None = None,
    *,
    in_passes: bool = False,
) -> list[tuple[str, str, str, int, float]]:
    """What is derived from points: (meter, unit, resource, seconds, volume), in order; perhaps series by series."""
    of = {
        (meter, type, resource): ("openstack", meter, type, "B", resource, f"p-{resource[0]}", "u")
        for meter, type, resource, *_ in points
    }
    ids = {key: identity.series_id(*each) for key, each in of.items()}
    by_id = {ids[key]: each for key, each in of.items()}
    table = SeriesTable.of(list(by_id), [e[1] for e in by_id.values()], [e[2] for e in by_id.values()])
    place = table.places(np.array([ids[p[:3]] for p in points]))
    time, volume = np.array([START + p[3] * SECOND for p in points]), np.array([p[4] for p in points], float)
    order = np.lexsort((time, place))
    place, time, volume = place[order], time[order], volume[order]
    resources = {identity.metadata_id(name.encode()): name for name in metadata or {}}
    found_ids = np.array([identity.metadata_id(by_id[int(table.ids[at])][4].encode()) for at in place])

    def described(wanted: Any) -> pa.Table:
        rows = [by_id[int(each)] for each in wanted]
        return pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(DIMENSIONS)})

    derivation = Derivation(
        *(definitions, RULES, table, described),
        lambda time: (time >= START) & (time < START + 3600 * SECOND),
        lambda wanted, path: values_of({k: (metadata or {})[v] for k, v in resources.items()}, wanted, path),
        lambda wanted: np.unique(np.stack((place, time // (86400 * SECOND)))[:, wanted[place]], axis=1),
        known,
    )

    def source(some: Any) -> Source:
        points = Points(*(each[some] for each in (place, time, volume, time)), lambda rows: (rows, rows >= 0))
        good = judge(table, SeriesRules.of(RULES, table), points).good
        rows = slice(None) if good.rows is None else good.rows
        ids = found_ids[some][rows]
        return Source(*(table, good, time[some][rows]), lambda: (ids, np.isin(ids, list(resources))), lambda rows: rows)

    made: list[Judged] = []
    for some in np.split(np.arange(len(place)), np.flatnonzero(np.diff(place)) + 1) if in_passes else [slice(None)]:
        derivation.add(derivation.take(source(some)))
        made += derivation.finish_some() if in_passes else ()
    return sorted(row for each in [*made, *derivation.finish()] for row in rows_of(derivation, each))


def rows_of(derivation: Derivation, judged: Judged) -> list[tuple[str, str, str, int, float]]:
    found = derivation.rows(judged).to_pylist()
    excluded = set(judged.verdicts.flagged[(judged.verdicts.bits & RULES.critical_bits) != 0].tolist())
    return [
        (r["meter"], r["unit"], r["resource_id"], round(r["timestamp"].timestamp() - START / 1e6), r["volume"])
        for n, r in enumerate(found)
        if n not in excluded
    ]


SHIPPED = read(FILE).definitions


def test_cpu_util_divides_by_the_cores_of_the_samples_metadata() -> None:
    points: list[Point] = [("cpu", "cumulative", r, t * 60, t * 30e9) for r in ("a", "b", "c") for t in range(3)]
    metadata = {"a": {"cpu_number": 2}, "b": {"flavor": {"vcpus": "4"}}}
    assert [(each[2], each[3], round(each[4], 9)) for each in derive(SHIPPED, points, metadata)] == [
        (resource, seconds, 50.0 / cores) for resource, cores in (("a", 2), ("b", 4), ("c", 1)) for seconds in (60, 120)
    ]


def test_a_rate_after_a_reset_counts_the_new_volume_and_the_first_point_has_none() -> None:
    points: list[Point] = [
        ("disk.read.bytes", "cumulative", "a", seconds, volume)
        for seconds, volume in ((0, 1000.0), (10, 1600.0), (40, 300.0))
    ]
    assert derive(SHIPPED, points) == [
        ("disk.read.bytes.rate", "B/s", "a", 10, 60.0),
        ("disk.read.bytes.rate", "B/s", "a", 40, 10.0),
    ]


def test_a_derived_point_is_judged_like_any_other() -> None:
    points: list[Point] = [("cpu", "cumulative", "a", t * 10, t * 1e15) for t in range(2)]
    assert derive(SHIPPED, points) == []  # more than the load of 8192 processors


def test_nothing_is_derived_where_samples_of_the_name_were_received() -> None:
    points: list[Point] = [("cpu", "cumulative", r, t * 60, t * 30e9) for r in ("a", "b") for t in range(2)]
    points.append(("cpu_util", "gauge", "a", 7, 3.0))
    assert [each[2] for each in derive(SHIPPED, points)] == ["b"]
    day = START // (86400 * SECOND)
    assert derive(SHIPPED, points[:4], known=Received.of([(day, "cpu_util", "b"), (day + 1, "cpu_util", "a")])) == [
        ("cpu_util", "%", "a", 60, 50.0)
    ]


def test_delta_convert_and_chains(tmp_path: Path) -> None:
    definitions = defined(
        tmp_path,
        """
- {name: c, kind: convert, from: b, scale: 10}
- {name: b, kind: delta, from: a, growth_only: true}
- {name: d, kind: convert, from: a, expression: 1 / (volume - 5), maximum: 0.3}
""",
    )
    points: list[Point] = [("a", "gauge", "r", t, v) for t, v in ((0, 5.0), (60, 7.0), (120, 6.0), (180, 9.0))]
    assert derive(definitions, points) == [
        *[("b", "B", "r", 60, 2.0), ("b", "B", "r", 180, 3.0), ("c", "B", "r", 60, 20.0), ("c", "B", "r", 180, 30.0)],
        *[("d", "B", "r", 60, 0.3), ("d", "B", "r", 120, 0.3), ("d", "B", "r", 180, 0.25)],
    ]


def test_arithmetic_takes_means_of_five_minutes_of_one_resource(tmp_path: Path) -> None:
    definitions = defined(
        tmp_path,
        """
- {name: util, kind: arithmetic, expression: 100 * $(memory.usage) / $(memory), unit: "%"}
- {name: free, kind: arithmetic, expression: 100 - $(util)}
""",
    )
    points: list[Point] = [("memory", "gauge", r, t, 1000.0) for r in "ab" for t in (0, 300)]
    points += [("memory.usage", "gauge", "a", t, v) for t, v in ((1, 100.0), (2, 300.0), (700, 5.0))]
    points += [("memory", "gauge", "c", 1, 0.0), ("memory.usage", "gauge", "c", 1, 1.0)]
    assert derive(definitions, points) == [("free", None, "a", 0, 80.0), ("util", "%", "a", 0, 20.0)]


@pytest.mark.parametrize(
    ("function", "expected"), [("sum", 9.0), ("mean", 4.5), ("count", 2.0), ("min", 3.0), ("max", 6.0)]
)
def test_aggregates_over_the_resources_of_a_project(tmp_path: Path, function: str, expected: float) -> None:
    definitions = defined(
        tmp_path, f"- {{name: all, kind: aggregate, from: [v], function: {function}, by: [project_id]}}\n"
    )
    points: list[Point] = [("v", "gauge", "a1", 0, 2.0), ("v", "gauge", "a1", 9, 4.0), ("v", "gauge", "a2", 5, 6.0)]
    points.append(("v", "gauge", "b1", 5, 1.0))
    found = derive(definitions, points)
    assert [each for each in found if each[2] == "p-a"] == [("all", "B", "p-a", 0, expected)]
    assert [each[2] for each in found] == ["p-a", "p-b"]


def test_aggregates_by_metadata(tmp_path: Path) -> None:
    definitions = defined(tmp_path, "- {name: n, kind: aggregate, from: [v], by: [resource_metadata.az]}\n")
    points: list[Point] = [("v", "gauge", r, 0, 1.0) for r in ("a", "b", "c")]
    found = derive(definitions, points, {"a": {"az": "one"}, "b": {"az": "one"}})
    assert [(each[2], each[4]) for each in found] == [("-", 1.0), ("one", 2.0)]


CHAINS = """
- {name: '\\1.rate', kind: rate, from: [v, w], match: '(.*)'}
- {name: both, kind: convert, from: [w, v.rate], scale: 2}
- {name: x, kind: convert, from: [v], scale: 3}
- {name: x.delta, kind: delta, from: [x, w]}
- {name: sum, kind: aggregate, from: [v.rate, x]}
- {name: part, kind: arithmetic, expression: $(v) / $(x)}
- {name: part.x, kind: convert, from: [part], scale: 10}
"""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            *(st.sampled_from("vwx"), st.sampled_from(["gauge", "cumulative"]), st.sampled_from("ab")),
            *(st.integers(0, 12).map(lambda n: n * 100), st.sampled_from([0.0, 1.0, 7.5, 1e9])),
        ),
        max_size=20,
        unique_by=lambda point: point[:4],
    )
)
def test_passes_over_series_give_what_one_pass_gives(chains: tuple[Derived, ...], given: list[Point]) -> None:
    assert derive(chains, given, in_passes=True) == derive(chains, given)


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Derived, ...]:
    return defined(tmp_path_factory.mktemp("chains"), CHAINS)


def test_an_aggregate_waits_for_all_that_its_sources_are_made_of(tmp_path: Path) -> None:
    definitions = defined(
        tmp_path,
        """
- {name: total, kind: aggregate, from: [x]}
- {name: x, kind: convert, from: [v, part], scale: 2}
- {name: part, kind: arithmetic, expression: $(a) + $(b), unit: B}
""",
    )
    points: list[Point] = [("v", "gauge", "r1", 0, 1.0), ("a", "gauge", "r2", 0, 3.0), ("b", "gauge", "r2", 0, 4.0)]
    found = {(meter, resource): volume for meter, _, resource, _, volume in derive(definitions, points)}
    assert found == {("part", "r2"): 7.0, ("x", "r1"): 2.0, ("x", "r2"): 14.0, ("total", "all"): 16.0}


def test_points_without_a_source_cost_nothing() -> None:
    table = SeriesTable.of([1], ["image.size"], ["gauge"])
    never = (lambda ids: pytest.fail("described"), np.isfinite, lambda i, p: [], lambda wanted: pytest.fail("read"))
    assert not Derivation(SHIPPED, RULES, table, *never)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5000), st.sampled_from([0.0, 1.0, 7.5, 1e9, math.nan])),
        max_size=25,
        unique_by=lambda point: point[:2],
    ),
    st.randoms(use_true_random=False),
)
def test_rates_are_those_of_a_walk_over_the_points(given: list[tuple[str, int, float]], random: Any) -> None:
    points: list[Point] = [("network.incoming.bytes", "cumulative", *each) for each in given]
    random.shuffle(points)
    expected = []
    for resource in "ab":
        before: tuple[int, float] | None = None
        for _, _, _, seconds, volume in sorted(p for p in points if p[2] == resource and not math.isnan(p[4])):
            if before is not None and seconds < 3600:
                grown = volume - before[1] if volume >= before[1] else volume
                expected.append(
                    ("network.incoming.bytes.rate", "B/s", resource, seconds, grown / (seconds - before[0]))
                )
            before = seconds, volume
    assert derive(SHIPPED, points) == expected
