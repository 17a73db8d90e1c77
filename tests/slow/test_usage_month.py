"""The simulated month at full size, with polls, losses, and processes that are killed; its bill to the cent."""

import multiprocessing
import signal
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import kill_steps
import pytest
from conftest import OpenSite
from simulated_claims import (
    BILLED,
    assert_exact,
    assert_explained,
    changed,
    claims,
    compute,
    periods,
    spent,
    widest,
)
from simulated_losses import delivered, in_pieces, land, of_the_issue
from simulated_messages import DAY, HOUR, MINUTE, moment
from simulated_month import LARGE, Month, Plan
from simulated_truth import PRICES, bill, by_project, cents, usage

from meterhouse import times
from meterhouse.definitions import prices, units
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import reconciliation

pytestmark = pytest.mark.slow

TENTH = {"instances": 200, "volumes": 300, "addresses": 40, "images": 10, "snapshots": 30, "projects": 10}

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["meterhouse.usage.periods", "meterhouse.usage.amounts"])


# -- the bill ------------------------------------------------------------------------------------------------------


def written(folder: Path) -> Path:
    """The prices of the truth, as a configuration folder."""
    lines = ["currency: EUR", "time_zone: UTC", "rounding: {digits: 12, mode: half_up}", "prices:"]
    for price in PRICES:
        where = {"resource_type": price.resource_type, **({"flavor": price.flavor} if price.flavor else {})}
        measure = "count" if price.measure == "seconds" else price.measure
        conditions = ", ".join(f"{key}: {value}" for key, value in where.items())
        lines.append(f"  - {{name: {price.name}, where: {{{conditions}}}, measure: {measure}, price: {price.amount}}}")
    folder.mkdir(exist_ok=True)
    (folder / "prices.yaml").write_text("\n".join(lines))
    return folder


def billed(site: Site, month: Month, folder: Path) -> dict[tuple[str, str, str], Decimal]:
    """The bill to the cent: (project, price, resource) → amount, of lines that are rounded to 12 digits."""
    from meterhouse.billing.rating import rate
    from meterhouse.usage.amounts import of_span

    amounts = of_span(site, moment(month.plan.start), moment(month.plan.end))
    assert amounts.refused == ()
    made = rate(amounts, prices.load(written(folder)), f"{month.plan.month:%Y-%m}", units.load(None))
    assert made.faults == ()
    found: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for line in made.lines.select(["project_id", "price", "resource_id", "amount"]).to_pylist():
        found[(line["project_id"], line["price"], line["resource_id"])] += line["amount"]
    return {key: cents(Fraction(amount)) for key, amount in found.items()}


def to_the_cent(costs: dict[tuple[str, str, str], Fraction]) -> dict[tuple[str, str, str], Decimal]:
    return {key: cents(amount) for key, amount in costs.items()}


@pytest.fixture(scope="module")
def large() -> Month:
    """2,000 instances and 3,000 volumes in 100 projects, with daily audits and no polls."""
    return Month(Plan(**LARGE, poll_minutes=0))


def test_the_large_month_is_exact_to_the_second_and_its_bill_to_the_cent(
    large: Month, open_site: OpenSite, tmp_path: Path
) -> None:
    site = open_site()
    land(site, delivered(large.messages))
    compute(site, polled=False)
    assert_exact(large, claims(site))
    start, end = large.plan.start, large.plan.end
    assert spent(site, moment(start), moment(end)) == usage(large.stretches, start, end)
    truly = bill(large.stretches, start, end)
    assert billed(site, large, tmp_path / "config") == to_the_cent(truly)
    assert len(by_project(truly)) == LARGE["projects"]


def test_with_the_losses_of_the_issue_the_large_months_differences_are_explained(
    large: Month, open_site: OpenSite
) -> None:
    deliveries = delivered(large.messages, of_the_issue(large.plan.start))
    site = open_site()
    land(site, deliveries)
    compute(site, polled=False)
    found = claims(site)
    differ = assert_explained(large, deliveries, found)
    assert 0 < differ < len(large.lives) / 10
    start, end = large.plan.start, large.plan.end
    audited = {
        key: [
            row
            for row in rows
            if start <= row["started_at"] < end and not (row["state"] or "").startswith("shelved")  # Nova audits hosts
        ]
        for key, rows in found.items()
        if key[0] in ("instance", "volume", "snapshot")
    }
    assert widest(audited) <= 3 * DAY  # two audits, of which one was off


# -- with polls ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def polled() -> Month:
    """A tenth of the large month, with daily audits and hourly polls."""
    return Month(Plan(**TENTH, before=5 * DAY, poll_minutes=60))


@pytest.fixture(scope="module")
def polls_alone() -> Month:
    return Month(Plan(instances=0, volumes=30, before=3 * DAY, audit_hours=0, poll_minutes=60))


def test_with_polls_the_month_is_exact_too_and_its_bill_to_the_cent(
    polled: Month, open_site: OpenSite, tmp_path: Path
) -> None:
    site = open_site()
    land(site, delivered(polled.messages))
    compute(site)
    found = claims(site)
    assert_exact(polled, found)
    assert {row["start_reason"] for rows in found.values() for row in rows} == {None}
    start, end = polled.plan.start, polled.plan.end
    assert spent(site, moment(start), moment(end)) == usage(polled.stretches, start, end)
    assert billed(site, polled, tmp_path / "config") == to_the_cent(bill(polled.stretches, start, end))


def test_all_that_went_wrong_leaves_explained_differences_that_the_reconciliation_lists(open_site: OpenSite) -> None:
    month = Month(Plan(**TENTH, before=5 * DAY, poll_minutes=60, ahead={"node-002": 3 * MINUTE}))
    deliveries = delivered(month.messages, of_the_issue(month.plan.start))
    site = open_site()
    for piece in in_pieces(deliveries, [month.plan.start + 10 * DAY, month.plan.end]):
        land(site, piece)
        compute(site)
    found = claims(site)
    assert assert_explained(month, deliveries, found, slack=3 * MINUTE) > 0
    listed = reconciled(site, month)
    missing = [
        (key, str(moment(begun)), str(moment(ended)))
        for key, begun, ended in changed(month, found, BILLED)
        if ended - begun > 2 * HOUR and not listed & {(key, day) for day in range(begun // DAY, ended // DAY + 1)}
    ]
    assert missing == []


def reconciled(site: Site, month: Month) -> set[tuple[tuple[str, str], int]]:
    """The resources that the reconciliation lists, with the number of the day."""
    from sqlalchemy import select

    from meterhouse.usage.reconciliation import reconcile

    for number in range((month.plan.end - month.plan.start) // DAY):
        reconcile(site, (month.plan.month + timedelta(days=number)).date())
    with site.warehouse.read() as connection:
        rows = connection.execute(select(reconciliation)).mappings().all()
    epoch = times.EPOCH.date()
    return {((row["resource_type"], row["resource_id"]), (row["day"] - epoch).days) for row in rows}


def test_polls_alone_show_what_there_was_to_the_hour(polls_alone: Month, open_site: OpenSite) -> None:
    deliveries = [each for each in delivered(polls_alone.messages) if each[1].kind == "poll"]
    site = open_site()
    land(site, deliveries)
    compute(site)
    found = claims(site)
    assert_explained(polls_alone, deliveries, found, names=("size_gib",))
    start, end = polls_alone.plan.start + DAY, polls_alone.plan.end - DAY
    volumes: dict[str, Fraction] = defaultdict(Fraction)
    for sign, amounts in ((1, spent(site, moment(start), moment(end))), (-1, usage(polls_alone.stretches, start, end))):
        for (_, kind, resource, measure), amount in amounts.items():
            if kind == "volume" and measure == "seconds":
                volumes[resource] += sign * amount
    assert max(abs(amount) for amount in volumes.values()) <= 2 * 3600


# -- killed --------------------------------------------------------------------------------------------------------

MOMENTS = {
    "before the evidence": "before(lake.Lake, 'append', when=lambda self, name, *a, **k: name == 'evidence')",
    "between evidence and periods": "after(lake.Lake, 'append', when=lambda self, name, *a, **k: name == 'evidence')",
    "before what was known at the start of a month": (
        "before(lake.Lake, 'swap', when=lambda self, name, *a, **k: name == 'resource_states')"
    ),
    "after what was known at the start of a month": (
        "after(lake.Lake, 'swap', when=lambda self, name, *a, **k: name == 'resource_states')"
    ),
    "before the transaction": "before(usage_periods, '_replace')",
    "within the transaction": "after(usage_periods, '_replace')",
    "between the transaction and the record of the run": "before(Warehouse, 'record_run')",
}


@pytest.fixture(scope="module")
def killed_month() -> Month:
    return Month(Plan(instances=10, volumes=10, before=5 * DAY, poll_minutes=0))


@pytest.mark.parametrize("when", MOMENTS)
def test_periods_of_a_killed_step_are_those_of_an_undisturbed_one(
    when: str, killed_month: Month, open_site: OpenSite
) -> None:
    deliveries = delivered(killed_month.messages, of_the_issue(killed_month.plan.start))
    pieces = in_pieces(deliveries, [killed_month.plan.start + 16 * DAY])
    undisturbed, site = open_site(), open_site()
    for piece in pieces:
        for each in (undisturbed, site):
            land(each, piece)
        compute(undisturbed, polled=False)
        process = PROCESSES.Process(target=kill_steps.compute_periods, args=(site.settings.home_path, MOMENTS[when]))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        compute(site, polled=False)
        assert periods(site) == periods(undisturbed)


def test_a_backfill_of_the_month_changes_nothing(killed_month: Month, open_site: OpenSite) -> None:
    from meterhouse.usage.periods import compute as compute_periods

    site = open_site()
    land(site, delivered(killed_month.messages, of_the_issue(killed_month.plan.start)))
    compute(site, polled=False)
    before = periods(site)
    compute_periods(site, months=[killed_month.plan.month.date()])
    assert periods(site) == before
