"""Periods of any lives, whatever was lost of what was said about them, against the truth.

With nothing lost, periods are the truth. With losses, each difference lies between the times that the rows allow.
"""

import random
from collections.abc import Sequence

import pytest
from conftest import OpenSite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_claims import BILLED, assert_exact, assert_explained, claims, compute, periods
from simulated_losses import Delivery, land
from simulated_messages import DAY, SECOND
from simulated_month import Month, Plan

from meterhouse.site import Site

pytestmark = pytest.mark.slow

SOME = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def lives(seed: int, **more: object) -> Month:
    """Some resources of each type."""
    few = {"instances": 6, "volumes": 5, "addresses": 1, "images": 1, "snapshots": 1, "projects": 3}
    return Month(Plan(**{**few, "seed": seed, "before": 3 * DAY, "poll_minutes": 0, **more}))


def computed(site: Site, pieces: Sequence[Sequence[Delivery]]) -> Site:
    for piece in pieces:
        land(site, piece)
        compute(site, polled=False)
    return site


@SOME
@given(seed=st.integers(0, 10_000), updates=st.booleans(), nova=st.sampled_from(("unversioned", "versioned", "both")))
def test_with_nothing_lost_periods_are_the_truth(seed: int, updates: bool, nova: str, open_site: OpenSite) -> None:
    month = lives(seed, updates=updates, nova=nova)
    site = computed(open_site(), [[(message.at + SECOND, message) for message in month.messages]])
    assert_exact(month, claims(site))


@SOME
@given(seed=st.integers(0, 10_000), keep=st.sampled_from((0.5, 0.9, 0.97)), hours=st.sampled_from((24, 1)))
def test_whatever_is_lost_differences_are_within_what_the_rows_allow(
    seed: int, keep: float, hours: int, open_site: OpenSite
) -> None:
    month = lives(seed, audit_hours=hours)
    rng = random.Random(seed)
    came = [(m.at + SECOND, m) for m in month.messages if m.kind == "audit" or rng.random() < keep]
    assert_explained(month, came, claims(computed(open_site(), [came])), BILLED)


@SOME
@given(seed=st.integers(0, 10_000), keep=st.sampled_from((0.6, 0.95, 1.0)), count=st.integers(2, 4))
def test_any_order_and_division_gives_the_same_periods(seed: int, keep: float, count: int, open_site: OpenSite) -> None:
    month = lives(seed)
    rng = random.Random(seed)
    came = [(m.at + SECOND, m) for m in month.messages if rng.random() < keep]
    at_once = periods(computed(open_site(), [came]))
    shuffled = came[:]
    rng.shuffle(shuffled)
    pieces = [shuffled[number::count] for number in range(count)]
    assert periods(computed(open_site(), pieces)) == at_once
