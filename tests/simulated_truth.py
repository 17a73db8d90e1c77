"""Usage and a bill of a simulated month, computed naively from the truth: one stretch after another, in fractions.

Independent of `meterhouse.usage` and `meterhouse.billing`: nothing of these is used here.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from simulated_month import Stretch

SECONDS = 1_000_000
HOUR = 3600 * SECONDS

MEASURES = ("vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib")


def measures(stretch: Stretch) -> dict[str, float]:
    """The sizes of a stretch; none of a type that has none."""
    shape = stretch.shape
    if stretch.resource_type == "instance":
        assert shape.flavor is not None
        flavor = shape.flavor
        return {
            "vcpus": flavor.vcpus,
            "memory_mib": flavor.memory_mib,
            "root_gib": flavor.root_gib,
            "ephemeral_gib": flavor.ephemeral_gib,
        }
    return {"size_gib": shape.size_gib} if shape.size_gib is not None else {}


def clipped(stretches: Iterable[Stretch], start: int, end: int) -> list[tuple[Stretch, int]]:
    """The stretches that overlap [start, end), each with the microseconds that are in it."""
    found = []
    for stretch in stretches:
        last = end if stretch.ended_at is None else min(stretch.ended_at, end)
        length = last - max(stretch.started_at, start)
        if length > 0:
            found.append((stretch, length))
    return found


def usage(stretches: Iterable[Stretch], start: int, end: int) -> dict[tuple[str, str, str, str], Fraction]:
    """Exact amounts: (project, type, resource, measure) → measure × seconds; "seconds" is a measure too."""
    found: dict[tuple[str, str, str, str], Fraction] = defaultdict(Fraction)
    for stretch, length in clipped(stretches, start, end):
        key = (stretch.shape.project, stretch.resource_type, stretch.resource_id)
        found[(*key, "seconds")] += Fraction(length, SECONDS)
        for name, size in measures(stretch).items():
            if size:
                found[(*key, name)] += Fraction(size) * Fraction(length, SECONDS)
    return dict(found)


@dataclass(frozen=True)
class Price:
    """So much of a measure and hour, of one type of resource and, if given, of one flavor and outside some states."""

    name: str
    resource_type: str
    measure: str
    amount: Decimal
    flavor: str | None = None
    states: frozenset[str] | None = None
    """If given, only these."""

    def matches(self, stretch: Stretch) -> bool:
        shape = stretch.shape
        return (
            stretch.resource_type == self.resource_type
            and (self.flavor is None or (shape.flavor is not None and shape.flavor.name == self.flavor))
            and (self.states is None or shape.state in self.states)
        )


PRICES = (
    Price("vcpu", "instance", "vcpus", Decimal("0.012")),
    Price("memory", "instance", "memory_mib", Decimal("0.0000031")),
    Price("root disk", "instance", "root_gib", Decimal("0.00007")),
    Price("standard volume", "volume", "size_gib", Decimal("0.00012"), "standard"),
    Price("fast volume", "volume", "size_gib", Decimal("0.00041"), "fast"),
    Price("snapshot", "snapshot", "size_gib", Decimal("0.00005")),
    Price("image", "image", "size_gib", Decimal("0.00005")),
    Price("address", "floating_ip", "seconds", Decimal("0.004")),
)
"""Prices of an hour, in a currency."""


def bill(
    stretches: Iterable[Stretch], start: int, end: int, prices: Iterable[Price] = PRICES
) -> dict[tuple[str, str, str], Fraction]:
    """Exact cost: (project, price, resource) → amount in the currency, not rounded."""
    prices = tuple(prices)
    found: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    for stretch, length in clipped(stretches, start, end):
        sizes = {**measures(stretch), "seconds": 1}
        for price in prices:
            if price.matches(stretch) and sizes.get(price.measure):
                cost = Fraction(sizes[price.measure]) * Fraction(length, HOUR) * Fraction(price.amount)
                found[(stretch.shape.project, price.name, stretch.resource_id)] += cost
    return dict(found)


def cents(amount: Fraction) -> Decimal:
    """An amount to the cent, half up."""
    return (Decimal(amount.numerator) / Decimal(amount.denominator)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def by_project(costs: Mapping[tuple[str, str, str], Fraction]) -> dict[str, Fraction]:
    """Exact cost by project."""
    found: dict[str, Fraction] = defaultdict(Fraction)
    for (project, _, _), cost in costs.items():
        found[project] += cost
    return dict(found)


# -- time lines ----------------------------------------------------------------------------------------------------

Line = list[tuple[int, int, Any]]
"""Stretches of one resource: (from, to, what it was), in order, without overlaps."""


def differences(true: Line, claimed: Line) -> list[tuple[int, int, Any, Any]]:
    """The intervals in which two time lines of one resource differ, with what each says there; None where it is not.

    Raises:
        AssertionError: a line overlaps itself.
    """
    for line in (true, claimed):
        for before, after in itertools.pairwise(line):
            assert before[1] <= after[0], f"counted twice: {before} and {after}"
    moments = sorted({moment for begun, ended, _ in (*true, *claimed) for moment in (begun, ended)})
    found: list[tuple[int, int, Any, Any]] = []
    for begun, ended in itertools.pairwise(moments):
        ours, theirs = _at(true, begun), _at(claimed, begun)
        if ours != theirs:
            if found and found[-1][1] == begun and found[-1][2:] == (ours, theirs):
                found[-1] = (found[-1][0], ended, ours, theirs)
            else:
                found.append((begun, ended, ours, theirs))
    return found


def _at(line: Line, moment: int) -> Any:
    return next((what for begun, ended, what in line if begun <= moment < ended), None)
