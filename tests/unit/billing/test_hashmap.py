"""CloudKitty's hashmap rules as prices: what they charge, and what is named."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from months import Binary, Month

from meterhouse.billing.rating import rate
from meterhouse.definitions.hashmap import Imported, imported
from meterhouse.definitions.prices import read
from meterhouse.errors import DefinitionError

METRICS = """
metrics:
  cpu:
    {unit: instance, alt_name: instance, mutate: NUMBOOL, groupby: [id, project_id], metadata: [flavor_id]}
  volume.size: {unit: GiB, groupby: [id, project_id], metadata: [volume_type]}
  image.size: {unit: MiB, factor: 1/1048576, groupby: [id], metadata: [disk_format]}
  openstack_nova_server_status: {unit: instance, alt_name: status, mutate: MAP, mutate_map: {0.0: 1.0}, groupby: [id]}
  network.outgoing.bytes: {unit: MB, factor: 1/1000000, groupby: [id]}
  memory: {unit: GiB, factor: 1/1024, mutate: CEIL, groupby: [id]}
"""


def rules(**of: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The answers of the API, ids made of names."""
    return {
        "services": [{"service_id": each, "name": each} for each in of.pop("services")],
        "fields": [
            {"field_id": f"{service}.{name}", "name": name, "service_id": service}
            for service, name in of.pop("fields", [])
        ],
        "groups": [{"group_id": each, "name": each} for each in of.pop("groups", [])],
        **{
            kind: [
                {f"{kind[:-1]}_id": f"{kind}{number}", "type": "flat", **each}
                for number, each in enumerate(of.get(kind, []))
            ]
            for kind in ("mappings", "thresholds")
        },
    }


def load(folder: Path, content: dict[str, Any], metrics: str = METRICS, **options: Any) -> Imported:
    (folder / "hashmap.json").write_text(json.dumps(content))
    (folder / "metrics.yml").write_text(metrics)
    return imported([folder / "hashmap.json", folder / "metrics.yml"], **options)


def amounts(folder: Path, found: Imported, month: Month, digits: int = 9) -> dict[str, Decimal]:
    """What each resource costs."""
    content = {"currency": "EUR", "rounding": {"digits": digits}, "prices": found.entries}
    (folder / "prices.yaml").write_text(yaml.safe_dump(content))
    made = read(folder / "prices.yaml")
    assert not made.faults
    done = rate(month, made, "2026-11", Binary())
    assert not done.faults
    of: dict[str, Decimal] = {}
    for line in done.lines.to_pylist():
        of[line["resource_id"]] = of.get(line["resource_id"], Decimal(0)) + line["amount"]
    return {key: value.normalize() for key, value in of.items()}


def test_flavors_of_instances_and_sizes_of_volumes_cost_what_they_did(tmp_path: Path) -> None:
    content = rules(
        services=["instance", "volume.size"],
        fields=[("instance", "flavor_id"), ("volume.size", "volume_type")],
        groups=["uptime"],
        mappings=[
            {"field_id": "instance.flavor_id", "value": "1", "cost": "0.2", "group_id": "uptime"},
            {"field_id": "instance.flavor_id", "value": "2", "cost": "0.4", "group_id": "uptime"},
            {"field_id": "volume.size.volume_type", "value": "ssd", "cost": "2", "type": "rate"},
            {"service_id": "volume.size", "cost": "0.001"},
        ],
        thresholds=[{"service_id": "volume.size", "level": "100", "cost": "0.9", "type": "rate"}],
    )
    found = load(tmp_path, content)
    assert any("its field flavor_id is looked up in the metadata" in each for each in found.remarks)
    month = Month()
    month.has("a", "1 00:00", "1 01:00", metadata={"flavor_id": "2"}).has(
        "b", "1 00:00", "1 02:00", metadata={"flavor_id": 1}
    )
    month.has("v", "1 00:00", "1 01:00", "volume", size_gib=10, flavor="ssd")
    month.has("w", "1 00:00", "1 01:00", "volume", size_gib=100, flavor="hdd")
    assert amounts(tmp_path, found, month) == {
        "a": Decimal("0.4"),
        "b": Decimal("0.4"),
        "v": Decimal("0.02"),
        "w": Decimal("0.09"),
    }
    assert {(each["name"], each["service"]) for each in found.entries} == {
        *(("instance (uptime)", "instance"), ("volume.size", "volume.size"))
    }


def test_a_threshold_of_a_service_that_is_flat_is_charged_for_each_thing(tmp_path: Path) -> None:
    content = rules(
        services=["volume.size"],
        mappings=[{"service_id": "volume.size", "cost": "1"}],
        thresholds=[{"service_id": "volume.size", "level": "5", "cost": "3"}],
    )
    month = (
        Month()
        .has("v", "1 00:00", "1 02:00", "volume", size_gib=4)
        .has("w", "1 00:00", "1 02:00", "volume", size_gib=5)
    )
    assert amounts(tmp_path, load(tmp_path, content), month) == {"v": 8, "w": 16}


def test_images_are_in_mib_and_a_tenant_may_have_rules_of_its_own(tmp_path: Path) -> None:
    content = rules(
        services=["image.size"],
        mappings=[
            {"service_id": "image.size", "cost": "0.001"},
            {"service_id": "image.size", "cost": "0.5", "tenant_id": "q"},
        ],
    )
    month = Month().has("i", "1 00:00", "1 01:00", "image", size_gib=2)
    month.has("j", "1 00:00", "1 01:00", "image", size_gib=2, project_id="q")
    assert amounts(tmp_path, load(tmp_path, content), month) == {"i": Decimal("2.048"), "j": 1024}
    (tmp_path / "alone.json").write_text(json.dumps(content))
    assert amounts(tmp_path, imported([tmp_path / "alone.json"]), month) == {"i": Decimal("2.048"), "j": 1024}


def test_rules_are_valid_from_and_to_and_deleted_ones_are_not(tmp_path: Path) -> None:
    content = rules(
        services=["instance"],
        mappings=[
            {"service_id": "instance", "cost": "1", "start": "2026-01-01T00:00:00", "end": "2026-11-02T00:00:00"},
            {"service_id": "instance", "cost": "2", "start": "2026-11-02T00:00:00", "end": None},
            {"service_id": "instance", "cost": "9", "deleted": "2026-01-01T00:00:00"},
        ],
    )
    month = Month().has("a", "1 00:00", "3 00:00")
    assert amounts(tmp_path, load(tmp_path, content), month) == {"a": 72}


def test_costs_of_another_period_are_made_those_of_an_hour(tmp_path: Path) -> None:
    content = rules(services=["instance"], mappings=[{"service_id": "instance", "cost": "1"}])
    found = load(tmp_path, content, period=600)
    assert amounts(tmp_path, found, Month().has("a", "1 00:00", "1 01:00")) == {"a": 6}


def test_lists_that_the_client_printed_are_read_too(tmp_path: Path) -> None:
    files = {
        "services": [{"Name": "instance", "Service ID": "s"}],
        "fields": [{"Name": "flavor", "Field ID": "f", "Service ID": "s"}],
        "mappings": [
            {
                "Mapping ID": "m",
                "Value": "m1.[x]",
                "Cost": "0.5",
                "Type": "flat",
                "Field ID": "f",
                "Service ID": None,
                "Group ID": None,
                "Project ID": None,
            }
        ],
    }
    paths = []
    for name, content in files.items():
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(content))
    found = imported(paths)
    month = Month().has("a", "1 00:00", "1 01:00", flavor="m1.[x]").has("b", "1 00:00", "1 01:00", flavor="m1.x")
    assert amounts(tmp_path, found, month) == {"a": Decimal("0.5")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            rules(services=["radosgw.objects.size"], mappings=[{"service_id": "radosgw.objects.size", "cost": 1}]),
            "is not one",
        ),
        (rules(services=["status"], mappings=[{"service_id": "status", "cost": 1}]), "is not one"),
        (rules(services=["memory"], mappings=[{"service_id": "memory", "cost": 1}]), "mutate CEIL rounds"),
        (rules(services=["instance"], mappings=[{"service_id": "instance", "cost": -1}]), "below 0: write a discount"),
        (rules(services=["instance"], mappings=[{"service_id": "instance", "cost": "x"}]), "cost is 'x'"),
        (rules(services=["instance"], mappings=[{"service_id": "other", "cost": 1}]), "its service or field is not in"),
        (rules(services=["instance"]), "service instance: it has no rules"),
        (
            rules(
                services=["instance"],
                fields=[("instance", "flavor")],
                thresholds=[{"field_id": "instance.flavor", "level": 1, "cost": 1}],
            ),
            "thresholds of the field flavor compare texts",
        ),
        (
            rules(
                services=["network.outgoing.bytes"],
                thresholds=[{"service_id": "network.outgoing.bytes", "level": 1, "cost": 1}],
            ),
            "a counter can have one flat mapping",
        ),
        (
            rules(
                services=["instance"],
                fields=[("instance", "a"), ("instance", "b")],
                mappings=[
                    {"field_id": f"instance.{name}", "value": str(value), "cost": 1}
                    for name in "ab"
                    for value in range(40)
                ],
            ),
            "1,681 combinations",
        ),
    ],
)
def test_what_no_price_can_be_is_named(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    found = load(tmp_path, content)
    assert not found.entries
    assert any(reason in each for each in found.remarks), found.remarks
    assert all("hashmap.json:" in each for each in found.remarks)


def test_a_counter_becomes_a_price_of_its_increase(tmp_path: Path) -> None:
    service = "network.outgoing.bytes"
    found = load(tmp_path, rules(services=[service], mappings=[{"service_id": service, "cost": "0.0001"}]))
    (entry,) = found.entries
    assert (entry["meter"], entry["unit"], entry["price"]) == (service, "GiB", "0.1073741824")
    assert any("CloudKitty rated its aggregate" in each for each in found.remarks)


def test_files_without_rules_are_refused(tmp_path: Path) -> None:
    for text, reason in (("a: 1\n", "no hashmap rules"), (METRICS, "there are no services"), ("[}", "is not YAML")):
        (tmp_path / "x.yml").write_text(text)
        with pytest.raises(DefinitionError, match=reason):
            imported([tmp_path / "x.yml"])


def test_the_command_prints_a_file_that_can_be_used(tmp_path: Path, run: Run) -> None:
    content = rules(
        services=["instance", "unknown"],
        fields=[("instance", "flavor_id")],
        mappings=[{"field_id": "instance.flavor_id", "value": "1", "cost": 0.1}, {"service_id": "unknown", "cost": 1}],
    )
    (tmp_path / "rules.json").write_text(json.dumps(content))
    done = run(
        "prices", "import", tmp_path / "rules.json", "--currency", "EUR", "--column", "flavor_id=metadata.flavor.id"
    )
    assert done.exit_code == 0
    assert "unknown: the metric 'unknown' is not one that periods have" in done.stderr
    assert "1 prices, 2 remarks, 0 faults" in done.stderr
    (tmp_path / "prices.yaml").write_text(done.stdout)
    (price,) = read(tmp_path / "prices.yaml").prices
    assert price.where.metadata == (("flavor.id", ("1",)),)
    assert run("prices", "import", tmp_path / "rules.json", "--currency", "EUR", "--column", "a=b").exit_code == 2


# -- beside CloudKitty's arithmetic -------------------------------------------------------------------------------

COSTS = st.sampled_from(["0", "0.5", "1", "2", "0.25", "3"])
KINDS = st.sampled_from(["flat", "rate"])
GROUPS = st.sampled_from([None, "g"])
TENANTS = st.sampled_from([None, None, "q"])


def unique(made: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """CloudKitty refuses a second rule for the same."""
    return list({tuple(each.get(key) for key in keys): each for each in made}.values())


@st.composite
def hashmaps(draw: Any) -> dict[str, Any]:
    fields = ["flavor", "stage", "size"]
    common = {"cost": COSTS, "type": KINDS, "group_id": GROUPS, "tenant_id": TENANTS}
    mapping = st.one_of(
        st.fixed_dictionaries({**common, "service_id": st.just("volume.size")}),
        *(
            st.fixed_dictionaries(
                {**common, "field_id": st.just(f"volume.size.{name}"), "value": st.sampled_from("abc")}
            )
            for name in fields[:2]
        ),
    )
    threshold = st.one_of(
        st.fixed_dictionaries(
            {**common, "service_id": st.just("volume.size"), "level": st.sampled_from(["0", "2", "5"])}
        ),
        st.fixed_dictionaries(
            {**common, "field_id": st.just("volume.size.size"), "level": st.sampled_from(["1", "2", "7"])}
        ),
    )
    about = ("service_id", "field_id", "group_id", "tenant_id")
    return rules(
        services=["volume.size"],
        fields=[("volume.size", name) for name in fields],
        groups=["g"],
        mappings=unique(draw(st.lists(mapping, max_size=6)), *about, "value"),
        thresholds=unique(draw(st.lists(threshold, max_size=4)), *about, "level"),
    )


def charged(content: dict[str, Any], tenant: str, described: dict[str, str], quantity: Decimal) -> Decimal:
    """What CloudKitty charges for a thing in a period."""
    total = Decimal(0)
    for group in (None, "g"):
        mappings, thresholds = dict[Any, Any](), dict[Any, Any]()
        for wanted in (None, tenant):  # rules of the tenant replace those of all
            for each in content["mappings"]:
                if (each["group_id"], each["tenant_id"]) == (group, wanted):
                    mappings[each.get("field_id"), each.get("value")] = each
            for each in content["thresholds"]:
                if (each["group_id"], each["tenant_id"]) == (group, wanted):
                    thresholds[each.get("field_id"), each["level"]] = each
        flat, rates = Decimal(0), Decimal(1)
        for (at, value), each in mappings.items():
            if at is None or described[at.rpartition(".")[2]] == value:
                cost = Decimal(each["cost"])
                flat, rates = (max(flat, cost), rates) if each["type"] == "flat" else (flat, rates * cost)
        reached = [
            (Decimal(level), at is None, each)
            for (at, level), each in thresholds.items()
            if (quantity if at is None else Decimal(described["size"])) >= Decimal(level)
        ]
        _level, of_service, best = max(reached, key=lambda each: each[:2], default=(0, False, None))
        added, multiplied = Decimal(0), Decimal(1)
        if best is not None and not of_service:
            cost = Decimal(best["cost"])
            flat, rates = (flat + cost, rates) if best["type"] == "flat" else (flat, rates * cost)
        elif best is not None:
            cost = Decimal(best["cost"])
            added, multiplied = (cost, multiplied) if best["type"] == "flat" else (added, cost)
        total += flat * rates * quantity * multiplied + added
    return total


@settings(max_examples=40)
@given(
    hashmaps(),
    st.sampled_from("pq"),
    st.sampled_from("abz"),
    st.sampled_from("abz"),
    st.integers(0, 8),
    st.integers(1, 6),
)
def test_every_hashmap_of_mappings_and_thresholds_charges_what_cloudkitty_does(
    tmp_path_factory: pytest.TempPathFactory, content: Any, tenant: str, flavor: str, stage: str, size: int, gib: int
) -> None:
    folder = tmp_path_factory.mktemp("hashmap")
    found = load(folder, content)
    month = Month().has(
        *("v", "1 00:00", "1 01:00", "volume"),
        size_gib=gib,
        flavor=flavor,
        project_id=tenant,
        metadata={"stage": stage, "size": size},
    )
    described = {"flavor": flavor, "stage": stage, "size": str(size)}
    assert amounts(folder, found, month).get("v", 0) == charged(content, tenant, described, Decimal(gib))
