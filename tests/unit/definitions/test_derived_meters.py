"""Derived meters: the file, and Ceilometer's transformers as its source."""

from pathlib import Path

import pytest
from command_line import Run

from meterhouse.definitions.derived_meters import SHIPPED, Derived, load, meant, read
from meterhouse.definitions.transformers import imported
from meterhouse.errors import DefinitionError


def definitions(tmp_path: Path, text: str) -> tuple[list[Derived], list[str]]:
    path = tmp_path / "derived_meters.yaml"
    path.write_text("derived_meters:\n" + text)
    found = read(path)
    return list(found.definitions), [str(error).replace(f"{tmp_path}/", "") for error in found.faults]


def test_the_shipped_file_has_cpu_util_and_every_rate_of_icehouse() -> None:
    loaded = read(SHIPPED)
    assert not loaded.faults
    made = {(each.named(meter), each.unit_of("B")) for each in loaded.definitions for meter in each.meters}
    assert ("cpu_util", "%") in made
    for way, what in (("read", "bytes"), ("write", "requests")):
        assert {(f"disk.{way}.{what}.rate", "B/s"), (f"disk.device.{way}.{what}.rate", "B/s")} <= made
    assert {f"network.{way}.packets.rate" for way in ("incoming", "outgoing")} <= {name for name, _ in made}
    assert len(made) == 1 + 4 + 4 + 4


def test_a_file_of_the_site_replaces_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "derived_meters.yaml").write_text("derived_meters: []\n")
    assert load(tmp_path).definitions == ()
    (tmp_path / "derived_meters.yaml").write_text("rules: []\n")
    with pytest.raises(DefinitionError, match="no list `derived_meters`"):
        load(tmp_path)


def test_names_and_units_are_filled_from_the_source(tmp_path: Path) -> None:
    (only,), faults = definitions(
        tmp_path,
        r"""
- {name: 'my.\2.\1', kind: convert, from: ["disk.*", "!disk.root.*"], match: 'disk\.(\w+)\.(\w+)', scale: 0.5,
   unit: 'half \1', source_unit: B}
""",
    )
    assert not faults
    assert (only.named("disk.read.bytes"), only.unit_of("B")) == ("my.bytes.read", "half B")
    assert [only.takes(meter, "B") for meter in ("disk.read.bytes", "disk.root.size", "disk.x", "cpu")] == [
        *(True, False, False, False)
    ]
    assert not only.takes("disk.read.bytes", "GB")


def test_the_meaning_gives_the_definitions_without_what_is_for_people(tmp_path: Path) -> None:
    text = r"""
  - {name: '\1.d', kind: delta, from: [a, "!b"], match: '(.*)', growth_only: true, unit: '\1', description: x}
  - {name: c, kind: convert, from: a, expression: volume or resource_metadata.x, maximum: 3, type: delta}
  - {name: s, kind: convert, from: a, scale: 2, source_unit: B}
  - {name: m, kind: arithmetic, expression: $(a) / $(b).resource_metadata.y}
  - {name: g, kind: aggregate, from: a, function: mean, by: [project_id, resource_metadata.z]}
"""
    path = tmp_path / "derived_meters.yaml"
    path.write_text(f"derived_meters:{text}" + SHIPPED.read_text().partition("derived_meters:")[2])
    found = read(path)
    assert not found.faults
    again = meant(found.meaning)
    assert [each.meaning for each in again] == found.meaning
    assert {each.made_of() for each in again} == {each.made_of() for each in found.definitions}
    assert "description" not in str(found.meaning)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- 1", "is not a mapping"),
        ("- {kind: rate}", "has no name"),
        ("- {name: a, kind: average, from: b}", "kind is 'average'"),
        ("- {name: a, kind: rate}", "from is None"),
        ("- {name: a, kind: rate, from: [a]}", "has the name of its source"),
        ("- {name: a, kind: rate, from: b, growth_only: true}", "kind rate has no growth_only"),
        ("- {name: a, kind: rate, from: b, scale: 'open(1)'}", "scale: 'open(1)' is not arithmetic"),
        ("- {name: a, kind: rate, from: b, scale: .nan}", "scale is nan"),
        ("- {name: a, kind: convert, from: b}", "convert needs scale or expression"),
        ("- {name: a, kind: rate, from: b, match: '('}", "match is '('"),
        ("- {name: 'a\\2', kind: rate, from: b, match: '(.)'}", "name has \\2, but match has 1 groups"),
        ("- {name: a, kind: arithmetic, expression: 1}", "needs an expression of meters"),
        ("- {name: a, kind: aggregate, from: b, by: [flavor]}", "by is ['flavor']"),
        ("- {name: a, kind: aggregate, from: b, function: median}", "function is 'median'"),
        ("- {name: a, kind: arithmetic, expression: $(a) + 1}", "has the name of its source"),
    ],
)
def test_a_bad_definition_is_reported_with_its_line_and_stops_no_other(tmp_path: Path, text: str, reason: str) -> None:
    good, (fault,) = definitions(tmp_path, f"- {{name: z, kind: rate, from: y}}\n{text}\n")
    assert [each.name for each in good] == ["z"]
    assert fault.startswith(("derived_meters.yaml:3: ", "derived_meters.yaml:1: a derived meter is not"))
    assert reason in fault


def test_a_circle_is_refused_and_a_chain_is_not(tmp_path: Path) -> None:
    good, faults = definitions(
        tmp_path,
        """
- {name: a, kind: rate, from: b}
- {name: b, kind: convert, from: c, scale: 2}
- {name: c, kind: arithmetic, expression: $(a) + $(d)}
- {name: e, kind: rate, from: d}
- {name: f, kind: delta, from: e}
""",
    )
    assert [each.name for each in good] == ["e", "f"]
    assert len(faults) == 3
    assert "'a' is made of itself" in faults[0]


PIPELINE = r"""
sources:
  - {name: a, meters: [memory, memory.usage], sinks: [s1, s2]}
  - {name: b, meters: ["*"], sinks: [s3]}
  - {name: c, meters: [cpu], sinks: [s4, s5]}
sinks:
  - name: s1
    transformers:
      - {name: arithmetic, parameters: {target: {name: memory_util, unit: "%", type: gauge,
         expr: "100 * $(memory.usage) / $(memory)"}}}
    publishers: [x://]
  - name: s2
    transformers:
      - {name: unit_conversion, parameters: {source: {unit: MB}, target: {name: memory.bytes, unit: B, scale: 1048576}}}
      - {name: delta, parameters: {target: {name: memory.growth}, growth_only: true}}
  - name: s3
    transformers: [{name: accumulator, parameters: {size: 100}}, {name: aggregator, parameters: {size: 15}}]
  - name: s4
    transformers: [{name: unit_conversion, parameters: {target: {unit: s, scale: "volume / 10**9"}}}]
  - name: s5
    transformers: [{name: shuffle}]
"""


def test_each_transformer_is_mapped_or_named(tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE)
    found = imported([pipeline])
    assert [(each["name"], each["kind"]) for each in found.entries] == [
        *(("memory_util", "arithmetic"), ("memory.bytes", "convert"), ("memory.growth", "delta"))
    ]
    assert found.entries[2]["from"] == ["memory.bytes"]
    remarks = " ".join(found.remarks)
    for said in (
        "s3: accumulator: nothing to do",
        "s3: aggregator: nothing to do",
        "s4: unit_conversion: not imported: its meter has the name of its source",
        "s5: shuffle: not imported: it is not one of Ceilometer's transformers",
        "'memory.bytes', between two transformers, is a meter too",
    ):
        assert said in remarks


def test_what_import_prints_is_a_file_without_faults(tmp_path: Path, run: Run) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE)
    done = run("derived", "import", str(pipeline))
    (tmp_path / "derived_meters.yaml").write_text(done.stdout)
    assert run("derived", "check", str(tmp_path / "derived_meters.yaml")).exit_code == 0
    (tmp_path / "derived_meters.yaml").write_text("derived_meters: [1]\n")
    assert run("derived", "check", str(tmp_path / "derived_meters.yaml")).exit_code == 1


def test_pipelines_of_every_release_load(shared: Path) -> None:
    for path in (shared / "definitions").glob("*/*pipeline.yaml"):
        found = imported([path])
        assert not found.remarks, path
        has_some = "rate_of_change" in path.read_text()
        assert ("cpu_util" in {each["name"] for each in found.entries}) == has_some
