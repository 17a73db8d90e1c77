"""Rating beside a slow one that goes through the month hour by hour, with fractions."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from months import Binary, Month, read

from meterhouse.billing.rating import rate
from meterhouse.definitions.prices import Prices

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)
FIRST, LAST = (datetime(2026, month, 1, tzinfo=BERLIN).astimezone(UTC) for month in (10, 11))
HOURS = int((LAST - FIRST) / HOUR)  # 745: the clock is put back on the 25th

HEAD = "currency: EUR\ntime_zone: Europe/Berlin\nrounding: {digits: 3, mode: half_even}\n"
TEXT = """
prices:
  - {name: vcpu, service: A, where: {resource_type: instance, state: active}, measure: vcpus, price: 0.0173,
     times: [{name: night, from: "22:00", to: "06:00", days: [mon-fri], price: 0.0071}]}
  - {name: disk, service: B, where: {resource_type: instance}, measure: root_gib, per: month, included: 5,
     graduated: [{up_to: 4, price: 1.1}, {up_to: 9.5, price: 0.7}, {price: 0.3}], to: 2026-10-20}
  - {name: disk, service: B, where: {resource_type: instance}, measure: root_gib, per: month, included: 6,
     price: 0.9, from: 2026-10-20}
discounts:
  - {name: share, percent: 12.5, where: {service: A}, from: 2026-10-12}
  - {name: gift, amount: 3.333, where: {project_id: p}}
minimums: [{name: base, amount: 4, where: {service: A}, service: A}]
taxes: [{name: old, percent: 19, to: 2026-10-12, where: {service: A}}, {name: new, percent: 16}]
"""


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Prices:
    made = read(tmp_path_factory.mktemp("prices"), TEXT, HEAD)
    assert not made.faults
    return made


@st.composite
def months(draw: Any) -> Month:
    month = Month()
    for number in range(draw(st.integers(1, 4))):
        cuts = sorted(draw(st.sets(st.integers(-5, HOURS + 5), min_size=2, max_size=4)))
        project = draw(st.sampled_from("pq"))
        for low, high in pairwise(cuts):
            month.has(
                f"i{number}",
                (FIRST + low * HOUR).isoformat(),
                (FIRST + high * HOUR).isoformat(),
                project_id=project,
                state=draw(st.sampled_from(["active", "active", "stopped"])),
                vcpus=draw(st.sampled_from([1.0, 2.0, 0.3])),
                root_gib=draw(st.sampled_from([1.0, 20.7, 3.0])),
            )
    return month


def rounded(value: Fraction) -> Decimal:
    exact = Decimal(value.numerator) / Decimal(value.denominator)  # 28 digits: no tie is lost in these figures
    return exact.quantize(Decimal("0.001"), ROUND_HALF_EVEN)


def by_the_hour(month: Month) -> list[tuple[str, str, str, str | None, Decimal]]:
    """Project, kind, price, tier and amount of each line."""
    part = datetime(2026, 10, 12, tzinfo=BERLIN).astimezone(UTC)
    changed = datetime(2026, 10, 20, tzinfo=BERLIN).astimezone(UTC)
    usage: dict[tuple[Any, ...], Fraction] = defaultdict(Fraction)
    begin: dict[tuple[Any, ...], datetime] = {}
    for number in range(HOURS):
        now = FIRST + number * HOUR
        wall = now.astimezone(BERLIN)
        since = wall - timedelta(days=1) if wall.hour < 6 else wall
        night = (wall.hour >= 22 or wall.hour < 6) and since.weekday() < 5
        for row in month.rows:
            if not row["started_at"] <= now < row["ended_at"]:
                continue
            about = (row["project_id"], row["resource_id"])
            if row["state"] == "active":
                key = ("vcpu", *about, now >= part, "night" if night else None)
                usage[key] += Fraction(repr(row["vcpus"]))
                begin.setdefault(key, now)
            key = ("disk", *about, False, now >= changed)  # no rule that concerns it starts or ends
            usage[key] += Fraction(repr(row["root_gib"])) / HOURS
            begin.setdefault(key, now)
    lines = list[tuple[str, str, str, str | None, Decimal]]()
    sums: dict[tuple[str, str, bool], Decimal] = defaultdict(Decimal)

    def add(key: tuple[Any, ...], tier: str | None, quantity: Fraction, price: str) -> None:
        if quantity:
            amount = rounded(quantity * Fraction(price))
            lines.append((key[1], "usage", key[0], tier, amount))
            sums[key[1], key[0], key[4] if key[0] == "disk" else key[3]] += amount

    reached: dict[str, Fraction] = defaultdict(Fraction)
    for key in sorted(usage, key=lambda each: (begin[each], each[2])):
        quantity = usage[key]
        if key[0] == "vcpu":
            add(key, key[4], quantity, "0.0071" if key[4] else "0.0173")
            continue
        slices = [
            (5, "included", "0"),
            (9, "up to 4", "1.1"),
            (Fraction("14.5"), "up to 9.5", "0.7"),
            (10**9, "above 9.5", "0.3"),
        ]
        if key[4]:
            slices = [(6, "included", "0"), (10**9, None, "0.9")]
        for limit, tier, price in slices:
            here = min(quantity, max(Fraction(0), limit - reached[key[1]]))
            add(key, tier, here, price)
            quantity, reached[key[1]] = quantity - here, reached[key[1]] + here
    keys = sorted(sums)
    for key in keys:
        if key[1] == "vcpu" and key[2] and (less := rounded(Fraction(sums[key]) * Fraction("0.125"))):
            lines.append((key[0], "discount", "vcpu", None, -less))
            sums[key] -= less
    of = [key for key in keys if key[0] == "p"]
    total = sum((sums[key] for key in of), Decimal(0))
    gift, before, spread = min(Decimal("3.333"), total), Decimal(0), Decimal(0)
    for key in of:
        before += sums[key]
        share = (gift * before / total).quantize(Decimal("0.001"), "ROUND_DOWN") - spread if total else Decimal(0)
        spread += share
        if share:
            lines.append((key[0], "discount", key[1], None, -share))
            sums[key] -= share
    bases: dict[str, dict[str, Decimal]] = {"old": {}, "new": {}}
    for project in {key[0] for key in keys}:
        compute = [key for key in keys if key[:2] == (project, "vcpu")]
        missing = Decimal(4) - sum(sums[key] for key in compute)
        missing = max(missing, Decimal(0)) if compute else Decimal(0)
        if missing:
            lines.append((project, "minimum", "base", None, missing))
        early = [sums[key] for key in compute if not key[2]]
        if early or missing:
            bases["old"][project] = sum(early, missing)  # a minimum counts from the start of the month
        bases["new"][project] = sum((sums[key] for key in keys if key[0] == project), missing)
    for name, percent in (("old", 19), ("new", 16)):
        for project, base in bases[name].items():
            lines.append((project, "tax", name, None, rounded(Fraction(base) * percent / 100)))
    return lines


@settings(max_examples=25)
@given(months())
def test_lines_are_those_of_a_month_that_is_rated_hour_by_hour(prices: Prices, month: Month) -> None:
    made = rate(month, prices, "2026-10", Binary())
    assert not made.faults
    names = ("project_id", "kind", "price", "tier", "amount")
    found = [tuple(line[name] for name in names) for line in made.lines.to_pylist()]
    order = {"key": lambda each: (*map(str, each[:4]), each[4])}
    assert sorted(found, **order) == sorted(by_the_hour(month), **order)
