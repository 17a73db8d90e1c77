"""Periods and usage of a small simulated month without polls, against its truth; slow/test_usage_month.py has more."""

import random
from itertools import pairwise
from typing import Any

import pytest
from conftest import OpenSite
from simulated_claims import assert_exact, assert_explained, claims, compute, periods, spent, widest
from simulated_losses import Delivery, Losses, delivered, in_pieces, land, of_the_issue
from simulated_messages import DAY, MINUTE, moment
from simulated_month import Month, Plan
from simulated_truth import usage

from meterhouse.site import Site

SMALL = {"instances": 24, "volumes": 30, "addresses": 6, "images": 4, "snapshots": 6, "projects": 3}


def small(**more: Any) -> Month:
    """A month of 70 resources, with audits each day."""
    return Month(Plan(**{**SMALL, "before": 5 * DAY, "poll_minutes": 0, **more}))


@pytest.fixture(scope="module")
def month() -> Month:
    return small()


def filled(site: Site, deliveries: list[Delivery]) -> Site:
    """Land deliveries at once, and compute the periods."""
    land(site, deliveries)
    compute(site, polled=False)
    return site


KINDS: dict[str, dict[str, Any]] = {
    "unversioned": {},
    "versioned": {"nova": "versioned"},
    "both forms of": {"nova": "both"},
    "state updates and": {"updates": True},
    "hourly audits and": {"audit_hours": 1},
    "no audits but": {"audit_hours": 0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_of_complete_events_periods_are_exact_and_need_no_reason(kind: str, open_site: OpenSite) -> None:
    month = small(**KINDS[kind])
    found = claims(filled(open_site(), delivered(month.messages)))
    assert_exact(month, found)
    reasons = [(row["start_reason"], row["end_reason"]) for rows in found.values() for row in rows]
    assert set(reasons) == {(None, None)}
    assert widest(found) == 0


def test_of_complete_events_amounts_are_exact(month: Month, open_site: OpenSite) -> None:
    site = filled(open_site(), delivered(month.messages))
    start, end = month.plan.start, month.plan.end
    assert spent(site, moment(start), moment(end)) == usage(month.stretches, start, end)


def test_amounts_of_parts_of_the_month_add_up(month: Month, open_site: OpenSite) -> None:
    site = filled(open_site(), delivered(month.messages))
    bounds = [month.plan.start + each for each in (0, 3 * DAY, 3 * DAY + 7 * MINUTE, 17 * DAY)]
    for start, end in pairwise(bounds):
        assert spent(site, moment(start), moment(end)) == usage(month.stretches, start, end)


@pytest.mark.parametrize("seed", range(3))
def test_order_and_repeats_and_pieces_change_nothing(month: Month, seed: int, open_site: OpenSite) -> None:
    at_once = periods(filled(open_site(), delivered(month.messages)))
    messy = delivered(month.messages, Losses(twice=0.05, late=0.1), seed)
    rng = random.Random(seed)
    bounds = sorted(month.plan.start + rng.randrange(-5 * DAY, 33 * DAY) for _ in range(3))
    site = open_site()
    for piece in in_pieces(messy, bounds):
        filled(site, piece)
    assert periods(site) == at_once


@pytest.mark.parametrize("seed", range(6))
def test_with_losses_each_difference_is_within_what_the_witnesses_allow(seed: int, open_site: OpenSite) -> None:
    month = small(seed=seed, audit_hours=(24, 1)[seed % 2])
    deliveries = delivered(month.messages, of_the_issue(month.plan.start), seed)
    assert_explained(month, deliveries, claims(filled(open_site(), deliveries)))


@pytest.mark.parametrize("seed", range(2))
def test_with_losses_pieces_change_nothing_either(seed: int, open_site: OpenSite) -> None:
    month = small(seed=seed)
    messy = delivered(month.messages, of_the_issue(month.plan.start), seed)
    site = open_site()
    for piece in in_pieces(messy, [month.plan.start + each * DAY for each in (-3, 5, 11, 19, 27)]):
        filled(site, piece)
    assert periods(site) == periods(filled(open_site(), messy))


def test_a_second_run_changes_nothing(month: Month, open_site: OpenSite) -> None:
    site = filled(open_site(), delivered(month.messages, of_the_issue(month.plan.start)))
    before = periods(site)
    compute(site, polled=False)
    assert periods(site) == before


def test_a_hosts_clock_that_is_ahead_moves_boundaries_by_no_more_than_that(open_site: OpenSite) -> None:
    month = small(ahead={"node-001": 3 * MINUTE})
    deliveries = delivered(month.messages)
    assert_explained(month, deliveries, claims(filled(open_site(), deliveries)), slack=3 * MINUTE)
