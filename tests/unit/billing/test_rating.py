"""Rating: what existed and was counted becomes lines."""

from pathlib import Path

from months import Month, bill, rated

from meterhouse.billing.lines import NOT_PRICED, SCHEMA

VCPU = "prices: [{name: vCPU, service: Compute, where: {resource_type: instance}, measure: vcpus, price: 0.01}]"


def test_an_instance_that_nothing_else_is_known_of_is_priced_for_the_whole_month(tmp_path: Path) -> None:
    made = rated(tmp_path, VCPU, Month().has("i", "1", "2026-12-01", vcpus=4))
    assert bill(made, "price", "quantity", "unit", "unit_price", "amount") == [
        ("vCPU", "2880", "vCPU·h", "0.01", "28.8")
    ]
    assert made.lines.schema == SCHEMA
    assert made.not_priced.schema == NOT_PRICED
    assert made.not_priced.num_rows == 0
    (line,) = made.lines.to_pylist()
    assert (line["month"], line["kind"], line["currency"], line["service"]) == ("2026-11", "usage", "EUR", "Compute")


def test_ten_minutes_are_ten_minutes(tmp_path: Path) -> None:
    made = rated(tmp_path, VCPU, Month().has("i", "1 10:00", "1 10:10", vcpus=4))
    assert bill(made, "quantity", "amount") == [("0.666666666667", "0.01")]


def test_the_amount_comes_from_the_exact_quantity_and_not_from_the_one_that_is_shown(tmp_path: Path) -> None:
    text = VCPU.replace("0.01", "3000000000000")
    made = rated(tmp_path, text, Month().has("i", "1 10:00", "1 10:20", vcpus=1))
    assert bill(made, "quantity", "amount") == [("0.333333333333", "1000000000000")]


def test_a_line_leads_back_to_its_stretches(tmp_path: Path) -> None:
    month = Month().has("i", "2", "3", vcpus=1, state="active").has("i", "3", "5", vcpus=2, state="stopped")
    (line,) = rated(tmp_path, VCPU, month).lines.to_pylist()
    assert f"{line['quantity'].normalize():f}" == "120"
    assert [(each["started_at"].day, each["ended_at"].day) for each in line["evidence"]] == [(2, 3), (3, 5)]
    assert [each["start_evidence"] for each in line["evidence"]] == ["i@2", "i@3"]
    assert (line["started_at"].day, line["ended_at"].day) == (2, 5)


def test_a_resized_instance_has_a_line_for_each_flavor(tmp_path: Path) -> None:
    month = Month().has("i", "1", "2", vcpus=1, flavor="small").has("i", "2", "4", vcpus=4, flavor="large")
    assert bill(rated(tmp_path, VCPU, month), "flavor", "quantity") == [("small", "24"), ("large", "192")]


def test_a_transferred_volume_is_on_the_bill_of_each_project_for_its_time(tmp_path: Path) -> None:
    text = "prices: [{name: disk, where: {resource_type: volume}, measure: size_gib, price: 0.001}]"
    month = (
        Month().has("v", "1", "2", "volume", size_gib=100).has("v", "2", "4", "volume", size_gib=100, project_id="q")
    )
    assert bill(rated(tmp_path, text, month), "project_id", "quantity") == [("p", "2400"), ("q", "4800")]


def test_what_is_deleted_or_sent_by_the_functional_suite_costs_nothing(tmp_path: Path) -> None:
    month = Month().has("i", "1", "2", vcpus=1, state="deleted").has("j", "1", "2", vcpus=1, source="meterhouse-verify")
    made = rated(tmp_path, VCPU, month)
    assert (made.lines.num_rows, made.not_priced.num_rows) == (0, 0)


def test_a_state_may_have_another_price(tmp_path: Path) -> None:
    text = """
prices:
  - {name: instance, where: {resource_type: instance, state: "!shelved_offloaded"}, price: 1}
  - {name: instance, where: {resource_type: instance, state: shelved_offloaded}, price: 0.1}
"""
    month = Month().has("i", "1", "2").has("i", "2", "3", state="shelved_offloaded")
    made = rated(tmp_path, text, month)
    assert bill(made, "unit", "unit_price", "amount") == [("instance·h", "1", "24"), ("instance·h", "0.1", "2.4")]
    assert len(set(made.lines["line_id"].to_pylist())) == 2
    assert not made.faults


def test_conditions_compare_flavors_metadata_zones_and_sizes(tmp_path: Path) -> None:
    text = """
prices:
  - {name: a, where: {resource_type: instance, flavor: ["m1.*", "!m1.tiny"]}, price: 1}
  - {name: b, where: {resource_type: instance, metadata: {stage: "pro*", "a.b": 1}}, price: 1}
  - {name: c, where: {resource_type: [inst*, volume], vcpus: {from: 4, below: 8}}, price: 1}
  - {name: d, where: {resource_type: "*", zone: "!nova"}, price: 1}
  - {name: e, where: {resource_type: "*", gpus: {from: 1}, metadata: {n: {below: 3}}}, measure: gpus, price: 1}
"""
    month = Month()
    month.has("1", "1", "2", flavor="m1.small", vcpus=4, zone="nova").has("2", "1", "2", flavor="m1.tiny", vcpus=8)
    month.has("3", "1", "2", metadata={"stage": "prod", "a": {"b": 1}}, zone="nova")
    month.has("4", "1", "2", metadata={"stage": "prod", "a.b": "1", "n": 2}, measures={"gpus": 2}, zone="nova")
    month.has("5", "1", "2", metadata={"n": "5"}, measures={"gpus": 2}, zone="b")
    of: dict[str, set[str]] = {}
    for price, resource in bill(rated(tmp_path, text, month), "price", "resource_id"):
        of.setdefault(price, set()).add(resource)
    assert of == {"a": {"1"}, "b": {"3", "4"}, "c": {"1"}, "d": {"2", "5"}, "e": {"4"}}


def test_a_month_is_that_of_the_time_zone_and_price_per_month_is_for_all_of_it(tmp_path: Path) -> None:
    text = "prices: [{name: ip, where: {resource_type: floating_ip}, per: month, price: 3}]"
    head = "currency: EUR\ntime_zone: Europe/Berlin\n"
    month = Month().has("f", "2026-09-01", "2026-12-01", "floating_ip")
    made = rated(tmp_path, text, month, head, "2026-10")  # an hour longer: the clock is put back
    assert bill(made, "quantity", "unit", "amount") == [("1", "floating_ip·month", "3")]
    (line,) = made.lines.to_pylist()
    assert line["started_at"].isoformat() == "2026-09-30T22:00:00+00:00"
    assert line["ended_at"].isoformat() == "2026-10-31T23:00:00+00:00"


def test_a_price_that_changes_within_the_month_gives_a_line_for_each_part(tmp_path: Path) -> None:
    text = """
prices:
  - {name: instance, where: {resource_type: instance}, price: 1, to: 2026-11-11}
  - {name: instance, where: {resource_type: instance}, price: 2, from: 2026-11-11, to: 2026-11-21}
"""
    made = rated(tmp_path, text, Month().has("i", "1", "2026-12-01"))
    assert bill(made, "unit_price", "quantity") == [("1", "240"), ("2", "240")]
    (gap,) = made.not_priced.to_pylist()
    assert (gap["started_at"].day, gap["ended_at"].month, gap["reason"]) == (21, 12, "no price is valid at that time")


def test_what_has_no_price_is_listed(tmp_path: Path) -> None:
    month = Month().has("i", "1", "2", vcpus=1).has("v", "1", "2", "volume").has("j", "1", "2").has("k", "1", "2")
    month.rows[-1]["project_id"] = None
    made = rated(tmp_path, VCPU, month)
    assert {(each["resource_id"], each["reason"]) for each in made.not_priced.to_pylist()} == {
        ("v", "no price is for it"),
        ("j", "'vCPU': its vcpus is not known"),
        ("k", "its project is not known"),
    }
    assert bill(made, "resource_id") == [("i",)]


def test_two_prices_for_one_thing_need_two_names(tmp_path: Path) -> None:
    text = """
prices:
  - {name: instance, where: {resource_type: instance}, price: 1}
  - {name: instance, where: {resource_type: inst*, flavor: m1.*}, price: 2}
  - {name: licence, where: {resource_type: instance}, price: 3}
"""
    made = rated(tmp_path, text, Month().has("i", "1", "2", flavor="m1.small"))
    assert bill(made, "price", "unit_price") == [("instance", "1"), ("licence", "3")]
    (fault,) = made.faults
    assert "prices.yaml:5: 'instance' is also on line 4, for the same and at the same time; that one counts" in str(
        fault
    )


def test_of_two_prices_of_one_name_the_second_counts_when_the_first_is_not_valid(tmp_path: Path) -> None:
    text = """
prices:
  - {name: instance, where: {resource_type: instance}, price: 1, from: 2026-11-03, to: 2026-11-05}
  - {name: instance, where: {resource_type: instance}, price: 2, from: 2026-11-02, to: 2026-11-07}
  - {name: instance, where: {resource_type: inst*}, price: 3}
"""
    made = rated(tmp_path, text, Month().has("i", "1", "9"))
    assert bill(made, "unit_price", "quantity") == [*(("3", "24"), ("2", "24"), ("1", "48"), ("2", "48"), ("3", "48"))]
    assert len(set(made.lines["line_id"].to_pylist())) == 5
    assert made.not_priced.num_rows == 0
    assert sorted(str(each).partition("prices.yaml:")[2][:1] for each in made.faults) == ["5", "6", "6"]


def test_hours_begun_count_whole_for_each_resource(tmp_path: Path) -> None:
    text = "prices: [{name: i, where: {resource_type: instance}, measure: vcpus, price: 1, durations: hours begun}]"
    month = Month().has("i", "1 10:00", "1 10:10", vcpus=2).has("i", "1 10:30", "1 13:10", vcpus=4, flavor="b")
    month.has("i", "1 13:20", "1 13:30", vcpus=1).has("i", "1 13:40", "1 15:00", vcpus=1)
    month.has("j", "1 10:50", "1 11:10", vcpus=1)
    made = rated(tmp_path, text, month)  # i: 10, 11, 12 and 13 o'clock with 4, 14 o'clock with 1
    assert bill(made, "resource_id", "flavor", "quantity", "unit") == [
        ("i", None, "1", "vCPU·begun h"),
        ("i", "b", "16", "vCPU·begun h"),
        ("j", None, "2", "vCPU·begun h"),
    ]


def test_a_night_is_cheaper_and_longer_when_the_clock_is_put_back(tmp_path: Path) -> None:
    text = """
prices:
  - name: instance
    where: {resource_type: instance}
    price: 1
    times: [{name: night, from: 22:00, to: 06:00, price: 0.5}, {name: weekend, days: [sat, sun], price: 0.25}]
"""
    head = "currency: EUR\ntime_zone: Europe/Berlin\n"
    month = Month().has("i", "2026-10-23T22:00+02:00", "2026-10-25T22:00+01:00")
    made = rated(tmp_path, text, month, head, "2026-10")
    assert bill(made, "tier", "quantity", "amount") == [("night", "17", "8.5"), ("weekend", "32", "8")]


def test_a_counter_is_priced_by_what_it_counted(tmp_path: Path) -> None:
    text = "prices: [{name: traffic, service: Network, meter: egress, unit: GiB, price: 0.1}]"
    month = Month().counted("i", "1 00:00", 0.1).counted("i", "1 01:00", 0.2).counted("i", "3 05:00", 1024, unit="MiB")
    month.counted("i", "1 01:00", 5, meter="ingress").counted("j", "3 05:00", 7, unit="packet")
    month.counted("k", "3 05:00", float("nan")).counted("l", "3 05:00", 7, project_id=None)
    made = rated(tmp_path, text, month)
    assert bill(made, "resource_id", "quantity", "unit", "amount") == [("i", "1.3", "GiB", "0.13")]
    (line,) = made.lines.to_pylist()
    assert [(each["started_at"].hour, each["ended_at"].hour) for each in line["evidence"]] == [(0, 2), (5, 6)]
    assert line["evidence"][0]["start_evidence"] == "egress"
    assert made.notes == (
        "'traffic': 1 hours in 'packet' cannot be converted into 'GiB': they are not priced",
        "1 hours of egress have an amount that is not a number from 0 to 1e+15: they are not priced",
        "1 hours of egress have no known project: they are not priced",
    )


def test_hours_of_a_counter_have_the_name_of_their_resource_and_lines_say_their_tier(tmp_path: Path) -> None:
    text = "prices: [{name: traffic, meter: egress, unit: GiB, price: 0.1, included: 1, description: Traffic out}]"
    month = Month().has("i", "1", "2", name="old").has("i", "2", "3", name="web").counted("i", "1 00:00", 3)
    assert bill(rated(tmp_path, text, month), "resource_name", "description") == [
        *(("web", "Traffic out, included"), ("web", "Traffic out"))
    ]


def test_metadata_that_lines_carry_cuts_them(tmp_path: Path) -> None:
    month = Month().has("i", "1", "2", vcpus=1, metadata={"owner": "a", "x": 1})
    month.has("i", "2", "3", vcpus=1, metadata={"owner": "a", "x": 2}).has(
        "i", "3", "4", vcpus=1, metadata={"owner": "b"}
    )
    made = rated(tmp_path, VCPU, month)
    assert bill(made, "quantity", "metadata") == [("72", '{"owner": "b"}')]
    made = rated(tmp_path, VCPU, month, "currency: EUR\nmetadata: [owner]\n")
    assert bill(made, "quantity", "metadata") == [("48", '{"owner":"a"}'), ("24", '{"owner":"b"}')]


def test_a_size_of_nothing_has_no_line_and_is_priced(tmp_path: Path) -> None:
    made = rated(tmp_path, VCPU + "\nminimums: [{name: base, amount: 5}]\n", Month().has("i", "1", "2", vcpus=0))
    assert (made.lines.num_rows, made.not_priced.num_rows) == (0, 0)


def test_a_month_without_anything_or_without_prices_has_no_lines(tmp_path: Path) -> None:
    assert rated(tmp_path, VCPU, Month()).lines.schema == SCHEMA
    made = rated(tmp_path, "prices: []", Month().has("i", "1", "2").counted("i", "1", 1))
    assert (made.lines.num_rows, made.not_priced.num_rows) == (0, 1)
