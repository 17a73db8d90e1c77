"""Prices: the file."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import Run, lines

from meterhouse.definitions.prices import SHIPPED, Prices, gaps, load, matches, read
from meterhouse.errors import DefinitionError, UsageError

HEAD = "currency: EUR\ntime_zone: Europe/Berlin\n"


def prices(tmp_path: Path, text: str, head: str = HEAD) -> tuple[Prices, list[str]]:
    path = tmp_path / "prices.yaml"
    path.write_text(head + text)
    found = read(path)
    return found, [str(error).replace(f"{tmp_path}/", "") for error in found.faults]


def test_the_shipped_file_has_no_prices_and_a_file_of_the_site_replaces_it(tmp_path: Path) -> None:
    assert load(tmp_path) == read(SHIPPED)
    assert load(None).prices == ()
    prices(tmp_path, "prices: [{name: a, where: {resource_type: volume}, price: 1}]")
    assert [each.name for each in load(tmp_path).prices] == ["a"]


def test_numbers_are_what_is_written_and_never_the_nearest_float(tmp_path: Path) -> None:
    text = "prices:\n" + "".join(
        f"  - {{name: p{number}, where: {{resource_type: volume}}, price: {price}}}\n"
        for number, price in enumerate(["0.1", "1e-7", '"0.123456789012"', "100.00", "0.1234567890123456"])
    )
    made, faults = prices(tmp_path, text)
    assert [each.price for each in made.prices] == [Decimal(each) for each in ("0.1", "1e-7", "0.123456789012", "100")]
    assert "'p4': price has more than 15 digits. Write it in quotes" in faults[0]


def test_days_are_those_of_the_time_zone(tmp_path: Path) -> None:
    text = (
        "prices: [{name: a, where: {resource_type: volume}, price: 1, from: 2026-07-01, to: '2026-12-01T00:00+00:00'}]"
    )
    made, _ = prices(tmp_path, text)
    assert made.prices[0].start == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert made.prices[0].end == datetime(2026, 12, 1, tzinfo=UTC)
    assert made.span("2026-11") == (datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 30, 23, tzinfo=UTC))
    assert made.span("2026-12")[1] == datetime(2026, 12, 31, 23, tzinfo=UTC)
    for wrong in ("2026-13", "november", "2026-11-01", "9999-01"):
        with pytest.raises(UsageError, match="is not a month"):
            made.span(wrong)


def test_times_of_day_may_be_written_with_or_without_quotes_and_pass_midnight(tmp_path: Path) -> None:
    text = """
prices:
  - name: a
    where: {resource_type: volume}
    price: 1
    times: [{name: night, from: 22:00, to: "06:30", days: [sat-mon, wed], price: 0}, {name: rest, price: 2}]
"""
    made, faults = prices(tmp_path, text)
    assert not faults
    night, rest = made.prices[0].times
    assert (night.start, night.end, night.days) == (22 * 60, 6 * 60 + 30, {0, 2, 5, 6})
    assert (rest.start, rest.end, len(rest.days)) == (0, 24 * 60, 7)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1", "a price is not a mapping"),
        ("{price: 1}", "a price has no name"),
        ("{name: a, where: {resource_type: v}}", "'a': costs nothing. Write one of price, graduated and by_volume"),
        ("{name: a, where: {resource_type: v}, price: 1, graduated: [{price: 1}]}", "has price and graduated"),
        ("{name: a, where: {resource_type: v}, price: -1}", "price is -1"),
        ("{name: a, where: {resource_type: v}, price: one}", "price is 'one'"),
        ("{name: a, where: {resource_type: v}, price: .inf}", "price is inf"),
        ("{name: a, where: {resource_type: v}, price: 1e-13}", "price is '1e-13'"),
        ("{name: a, where: {resource_type: v}, prize: 1}", "'a' has unknown keys: prize"),
        ("{name: a, price: 1}", "it does not say what it is for"),
        ("{name: a, where: {resource_type: v, colour: red}, price: 1}", "where.colour is 'red'"),
        ("{name: a, where: {resource_type: v, vcpus: {from: 4, below: 4}}, price: 1}", "from 4 is not before below 4"),
        ("{name: a, where: {resource_type: v, flavor: []}, price: 1}", "where.flavor is []"),
        ("{name: a, where: {resource_type: v}, measure: vcpus, per: week, price: 1}", "per is 'week'"),
        ("{name: a, where: {resource_type: v}, unit: GiB, price: 1}", "a price of a resource as such has no unit"),
        ("{name: a, where: {resource_type: v}, durations: hours begun, per: day, price: 1}", "the price is per day"),
        ("{name: a, meter: m, price: 1}", "a price of a meter needs a unit"),
        ("{name: a, meter: m, unit: B, per: hour, price: 1}", "a price of a meter has no per"),
        ("{name: a, meter: m, unit: B, where: {flavor: x}, price: 1}", "the hours of a counter have no 'flavor'"),
        ("{name: a, meter: m, unit: B, graduated: [{up_to: 1, price: 1}]}", "The last has price, and no up_to"),
        (
            "{name: a, meter: m, unit: B, by_volume: [{up_to: 2, price: 1}, {up_to: 1, price: 1}, {price: 0}]}",
            "up_to 1 does not follow 2",
        ),
        ("{name: a, where: {resource_type: v}, price: 1, from: 2026-02-01, to: 2026-02-01}", "from is not before to"),
        ("{name: a, where: {resource_type: v}, price: 1, from: soon}", "from is 'soon'"),
        (
            "{name: a, where: {resource_type: v}, price: 1, times: [{name: n, from: '25:00', price: 1}]}",
            "is not a time",
        ),
        ("{name: a, where: {resource_type: v}, price: 1, times: [{name: n, days: day, price: 1}]}", "is not a day"),
        (
            "{name: a, where: {resource_type: v}, by_volume: [{price: 1}], times: [{name: n, price: 1}]}",
            "tiers have no",
        ),
        ("{name: z, meter: m, unit: B, price: 2}", "'z' is a price of a meter on one of the lines 4 and 5 only"),
        (
            "{name: z, where: {resource_type: x}, measure: vcpus, included: 1, price: 2}",
            "'z' has tiers or an included amount, and other units on line 4",
        ),
    ],
)
def test_a_bad_price_is_reported_with_its_line_and_stops_no_other(tmp_path: Path, text: str, reason: str) -> None:
    made, (fault,) = prices(
        tmp_path, f"prices:\n  - {{name: z, where: {{resource_type: vol}}, price: 1}}\n  - {text}\n"
    )
    assert [each.name for each in made.prices] == ["z"]
    assert fault.startswith(("prices.yaml:5: ", "prices.yaml:1: a price is not"))
    assert reason in fault


def test_two_entries_of_a_price_at_one_time_are_reported(tmp_path: Path) -> None:
    text = """
prices:
  - {name: z, where: {resource_type: vol}, price: 1}
  - {name: z, where: {resource_type: vol}, price: 2, from: 2026-06-01}
"""
    _, (fault,) = prices(tmp_path, text)
    assert "prices.yaml:6: 'z' is on line 5 already, for the same and at the same time; that one counts then" in fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("discounts: [{name: d, percent: 101}]", "percent is 101"),
        ("discounts: [{name: d}]", "a discount needs percent or amount"),
        ("discounts: [{name: d, amount: 1, percent: 1}]", "a discount needs percent or amount"),
        ("discounts: [{name: d, amount: 1, where: {flavor: x}}]", "where has unknown keys: flavor"),
        ("discounts: [{name: d, percent: 1, where: {service: Computer}}]", "which no price has. The file has Other, z"),
        ("minimums: [{name: m, percent: 1}]", "'m' has unknown keys: percent"),
        ("taxes: [{name: t, percent: 19, service: x}]", "'t' has unknown keys: service"),
    ],
)
def test_a_bad_rule_is_reported_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    made, (fault,) = prices(tmp_path, f"prices: [{{name: z, where: {{resource_type: v}}, price: 1}}]\n{text}\n")
    assert len(made.prices) == 1
    assert fault.startswith("prices.yaml:4: ")
    assert reason in fault


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("", "currency is None"),
        ("currency: euro\n", "currency is 'euro'"),
        ("currency: EUR\ntime_zone: Berlin\n", "time_zone is 'Berlin'"),
        ("currency: EUR\nrounding: {digits: 13}\n", "digits is 13"),
        ("currency: EUR\nrounding: {mode: bankers}\n", "mode is 'bankers'"),
        ("currency: EUR\nprizes: []\n", "the file has unknown keys: prizes"),
    ],
)
def test_a_file_without_a_usable_currency_zone_or_rounding_is_refused(tmp_path: Path, head: str, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        prices(tmp_path, "prices: []\n", head)
    with pytest.raises(DefinitionError, match="no list `prices`"):
        prices(tmp_path, "prices: 1\n")


def test_globs_after_an_exclamation_mark_leave_values_out() -> None:
    assert [matches(("m1.*", "!m1.tiny"), each) for each in ("m1.small", "m1.tiny", "c1.small", None)] == [
        *(True, False, False, False)
    ]
    assert [matches(("!m1.tiny",), each) for each in ("m1.small", "m1.tiny", None)] == [True, False, True]
    assert [matches(("a*b*c*d", "*x*y*", "!*z*z"), each) for each in ("abcd", "-x-y", "zxyz", "abc")] == [
        *(True, True, False, False)
    ]
    assert matches((), None)
    assert matches(("[*]",), "*")
    assert not matches(("[*]",), "a")


def test_prices_are_listed_and_checked_on_the_command_line(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
prices:
  - {name: disk, where: {resource_type: volume}, measure: size_gib, per: month, price: 0.1, to: 2026-02-01}
  - {name: disk, where: {resource_type: volume}, measure: size_gib, per: month, price: 0.2, from: 2026-03-01}
  - {name: egress, meter: network.bytes, unit: GiB, included: 100, graduated: [{up_to: 9, price: 1}, {price: 0}]}
"""
    made, _ = prices(tmp_path, text)
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    listed = lines(run("prices", "list", "--json"))
    assert [(each["for"], each["costs"], each["unit"]) for each in listed] == [
        ("volume", "0.1", "EUR/GiB·month"),
        ("volume", "0.2", "EUR/GiB·month"),
        ("network.bytes", "1 up to 9, 0 above, 100 included", "EUR/GiB"),
    ]
    assert gaps(made.prices) == [
        "'disk' is not valid from 2026-01-31 23:00 to 2026-02-28 23:00 (UTC): between lines 5 and 6"
    ]
    done = run("prices", "check")
    assert (done.exit_code, "3 prices, 0 rules, 0 faults" in done.stderr) == (0, True)
    assert "'disk' is not valid from" in done.stderr
    text = "prices: [{name: a}, {name: b, where: {resource_type: v}, measure: vcpus, unit: GiB, price: 1}]\n"
    (tmp_path / "wrong.yaml").write_text(HEAD + text)
    done = run("prices", "check", str(tmp_path / "wrong.yaml"))
    assert done.exit_code == 1
    assert "wrong.yaml:3: 'a': costs nothing" in done.stdout
    assert "wrong.yaml:3: 'b': vCPU cannot be converted into 'GiB'" in done.stdout
