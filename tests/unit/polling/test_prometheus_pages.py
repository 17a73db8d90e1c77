"""Pages of Prometheus exporters: read as prometheus_client reads them, and mapped to meters and resources."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from meterhouse import shipped, yaml_lines
from meterhouse.definitions.entries import Faults, InvalidEntry
from meterhouse.polling.kinds.prometheus.exposition import Malformed, Page, labels, read
from meterhouse.polling.kinds.prometheus.mapping import Mapping, compile_mapping
from meterhouse.polling.kinds.prometheus.samples import Made, make

NAMES = {"host": "compute-1", "target": "compute-1:9100"}


def mapped(**content: Any) -> Mapping:
    faults = Faults()
    made = compile_mapping(content, faults)
    faults.raise_if_any()
    return made


def samples(text: str, *rules: dict[str, Any], **shared: Any) -> Made:
    return make(
        read(text), mapped(meters=list(rules), **shared), NAMES, source="openstack", received="2026-01-01T00:00:00"
    )


def figures(made: Made) -> list[tuple[str, str, float]]:
    return [(one["counter_name"], one["resource_id"], one["counter_volume"]) for one in made.samples]


_names = st.from_regex(r"[a-z_:][a-z0-9_:]{0,8}", fullmatch=True)
_label_names = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
_texts = st.text(st.sampled_from('aé "\\\n,={}#'), max_size=8)
_values = st.one_of(st.floats(), st.integers(-(10**20), 10**20))
_lines = st.lists(
    st.tuples(_names, st.dictionaries(_label_names, _texts, max_size=3), _values, st.none() | st.integers(0, 10**14)),
    max_size=6,
)


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@settings(max_examples=150, deadline=None)
@given(_lines)
def test_a_page_is_read_as_prometheus_client_reads_it(
    lines: list[tuple[str, dict[str, str], float, int | None]],
) -> None:
    text = "# HELP a text { # }\n\n"
    for name, of_line, value, milliseconds in lines:
        inside = ",".join(f'{label}="{escaped(given)}"' for label, given in of_line.items())
        braces = f"{{{inside}}}" if of_line else ""
        text += f"{name}{braces} {value!r}{'' if milliseconds is None else f' {milliseconds}'}\n"
    own = [(each.name, labels(each.labels), repr(float(each.value)), each.milliseconds) for each in read(text).series]
    theirs = [
        (one.name, one.labels, repr(float(one.value)), one.timestamp)
        for family in text_string_to_metric_families(text)
        for one in family.samples
    ]
    assert [one[:3] for one in own] == [one[:3] for one in theirs]
    assert [one[3] for one in own] == ["" if m is None else str(m) for *_, m in lines]


@pytest.mark.parametrize(
    "line",
    [
        'a{b="c} 1',
        'a{b="c"',
        "a 1 2 3",
        'a{b="c"}',
        "1a 2",
        "a",
        "a1",
        '{"a.b"} 1',
        "<html>",
        "a{" + '"x",' * 50_000,
        'a{b="' + "\\" * 99_999,
        "x" * 1_000_000,
    ],
)
def test_a_line_that_is_no_metric_fails_the_page_and_is_named_quickly(line: str) -> None:
    begun = time.process_time()
    with pytest.raises(Malformed, match="line 2 "):
        read(f"fine 1\n{line}\n")
    assert time.process_time() - begun < 5  # not quadratic: milliseconds


def test_labels_and_values_that_cannot_be_read_fail_the_page() -> None:
    rule = {"metric": "*"}
    with pytest.raises(Malformed, match="no names with texts"):
        samples('a{"x"="y"} 1', rule)
    with pytest.raises(Malformed, match="'many' is not a value"):
        samples("a many", rule)


def test_counters_are_cumulative_and_all_else_are_gauges() -> None:
    text = "# TYPE c counter\nc 1\n# TYPE g gauge\ng 2\n# TYPE u untyped\nu 3\nn 4\r\n"
    made = samples(text, {"metric": "u", "type": "delta", "unit": "B", "scale": 1024}, {"metric": "*"})
    found = {
        one["counter_name"]: (one["counter_type"], one["counter_unit"], one["counter_volume"]) for one in made.samples
    }
    assert found == {
        "c": ("cumulative", "", 1),
        "g": ("gauge", "", 2),
        "u": ("delta", "B", 3072),
        "n": ("gauge", "", 4),
    }


def test_histograms_and_summaries_are_their_parts() -> None:
    text = (
        "# TYPE h histogram\n"
        'h_bucket{p="x",le="0.5"} 2\nh_bucket{p="x",le="+Inf"} 3\nh_sum{p="x"} 1.5\nh_count{p="x"} 3\n'
        '# TYPE s summary\ns{quantile="0.9"} 7\ns_sum 9\ns_count 2\n'
    )
    made = samples(text, {"metric": "h", "name": "wait", "unit": "s", "resource_id": "{host}/{p}"}, {"metric": "s"})
    assert [
        (*figure, one["counter_type"], one["counter_unit"])
        for figure, one in zip(figures(made), made.samples, strict=True)
    ] == [
        ("wait.bucket", "compute-1/x/le=0.5", 2, "cumulative", "observation"),
        ("wait.bucket", "compute-1/x/le=+Inf", 3, "cumulative", "observation"),
        ("wait.sum", "compute-1/x", 1.5, "cumulative", "s"),
        ("wait.count", "compute-1/x", 3, "cumulative", "observation"),
        ("s", "compute-1/quantile=0.9", 7, "gauge", ""),
        ("s.sum", "compute-1", 9, "cumulative", ""),
        ("s.count", "compute-1", 2, "cumulative", "observation"),
    ]


def test_the_first_rule_that_fits_counts_and_series_without_one_give_nothing() -> None:
    text = 'a{d="lo"} 1\na{d="eth0"} 2\na{d="eth1",who="p1"} 3\nb 4\n'
    made = samples(
        text,
        {"metric": "a", "where": {"d": "lo"}, "skip": True},
        {"metric": "a", "where": {"d": "*1"}, "name": "{metric}.{d}", "project_id": "{who}", "metadata": ["d"]},
        {"metric": "a", "metadata": {"device": "{d} of {target}"}},
    )
    assert [
        (one["counter_name"], one["resource_id"], one["project_id"], one["resource_metadata"]) for one in made.samples
    ] == [
        ("a", "compute-1/d=eth0", None, {"device": "eth0 of compute-1:9100"}),
        ("a.eth1", "compute-1/d=eth1/who=p1", "p1", {"d": "eth1"}),
    ]


def test_what_gives_no_sample_is_counted() -> None:
    values = ["NaN", "+Inf", "-Inf", "1 999999999999999", "1 -5", "5 1000", "6"]
    text = "".join(f'a{{x="{number}"}} {value}\n' for number, value in enumerate(values))
    made = samples(text, {"metric": "a", "resource_id": "{host}"})
    assert [(one["counter_volume"], one["timestamp"]) for one in made.samples] == [(5, "1970-01-01T00:00:01")]
    assert made.warnings("x") == [
        "x: 3 series are not numbers (NaN or infinite): no samples",
        "x: 2 series have a time before 1970 or after 9999: no samples",
        "x: 1 series have meter and resource of another one, such as a of compute-1; put labels into resource_id: "
        "no samples",
    ]
    assert samples(f'a{{x="{"y" * 300}"}} 1', {"metric": "a", "name": "{x}"}).unnamed == 1
    assert math.isclose(samples("a 0x10\nb 1", {"metric": "b"}).samples[0]["counter_volume"], 1)  # `a` is nobody's


def test_every_fault_of_a_mapping_is_named() -> None:
    with pytest.raises(InvalidEntry) as caught:
        mapped(
            meters=[
                {"metric": "a", "nam": "b", "type": "counter", "unit": 3, "scale": 0, "where": "x", "metadata": 7},
                {"name": "b"},
                {"metric": "c", "name": "{0}", "resource_id": "{host!r}", "user_id": "{", "metadata": {"k": "{a.b}"}},
                "d",
            ],
            other=1,
        )
    faulty = sorted("/".join(keys) for keys, _ in caught.value.faults)
    assert faulty == sorted(
        [
            "other",
            *(f"meters/0/{key}" for key in ("nam", "type", "unit", "scale", "where", "metadata")),
            "meters/1/metric",
            "meters/2/name",
            "meters/2/resource_id",
            "meters/2/user_id",
            "meters/2/metadata/k",
            "meters/3",
        ]
    )
    for content in ({}, {"meters": []}):
        with pytest.raises(InvalidEntry, match="not a list of rules"):
            mapped(**content)


@pytest.mark.parametrize("path", sorted((shipped.DEFAULTS / "prometheus.d").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_mappings_name_described_meters_with_units(path: Path) -> None:
    content = yaml_lines.read(path)
    rules = mapped(**content).rules
    assert content["description"]
    assert len(rules) == len(content["meters"])
    for rule in content["meters"]:
        assert rule["unit"], rule
        assert rule["description"], rule
        assert set(rule) <= {"metric", "where", "name", "unit", "type", "resource_id", "description"}


def test_the_mapping_of_the_documentation_reads_what_haproxy_writes() -> None:
    page = Path(__file__).parents[3] / "docs" / "polling-exporters.md"
    text = next(each.text for each in examples(page) if each.file == "haproxy.yaml")
    mapping = mapped(**yaml.safe_load(text)[0]["prometheus"])
    lines = (
        "# TYPE haproxy_frontend_bytes_in_total counter",
        'haproxy_frontend_bytes_in_total{proxy="web"} 10',
        'haproxy_frontend_current_sessions{proxy="web-tls"} 2',
        'haproxy_frontend_current_sessions{proxy="stats"} 3',
        'haproxy_server_status{proxy="web",server="s1",state="UP"} 1',
        'haproxy_server_weight{proxy="web",server="s1"} 4',
        "haproxy_process_uptime_seconds{} 5",
    )
    made = make(read("\n".join(lines)), mapping, NAMES, source="openstack", received="2026-01-01T00:00:00")
    assert figures(made) == [
        ("haproxy.frontend.incoming.bytes", "compute-1/web", 10),
        ("haproxy.frontend.sessions", "compute-1/web-tls", 2),
        ("haproxy_server_weight", "compute-1/web/s1", 4),
    ]


def test_a_page_without_anything_is_no_metrics() -> None:
    assert read("") == Page({}, [])
    assert samples("# EOF\n", {"metric": "*"}).samples == []
