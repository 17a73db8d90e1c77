"""What quantities cost: included amounts and tiers, by project and month, and each line's one rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

import numpy as np

from meterhouse.billing import exact
from meterhouse.billing.counting import Counted
from meterhouse.billing.matching import Codes
from meterhouse.definitions.prices import DIGITS, Price, Prices

INCLUDED: Final = "included"
"""The tier of what costs nothing."""


@dataclass(frozen=True)
class Cost:
    """A part of a group's quantity, at one price.

    Attributes:
        group: the place of the group.
        part: which part of the price it is: 0 for what is included, then the slices.
        tier: what the bill calls it; None for a flat price.
        number: the quantity as a multiple of 1 / `per` of the groups.
        price: for a unit.
    """

    group: int
    part: int
    tier: str | None
    number: int
    price: Decimal


def costs(counted: Counted, prices: Sequence[Price], projects: Codes) -> list[Cost]:
    """The groups of one name, cut where the price changes.

    The quantities of a project fill the included amount and the slices in the order of time: of groups that start at
    the same instant, in the order of resources.

    Args:
        counted: the groups.
        prices: all prices, by their numbers.
        projects: the project of each row.
    """
    entries = counted.entry.tolist()
    bands = counted.band.tolist()
    if not any(prices[number].tiers or prices[number].included for number in np.unique(counted.entry).tolist()):
        flat = {(entry, band): _flat(prices[entry], band) for entry, band in set(zip(entries, bands, strict=True))}
        return [
            Cost(group, 1, flat[entry, band][1], number, flat[entry, band][0])
            for group, (entry, band, number) in enumerate(zip(entries, bands, counted.numbers, strict=True))
            if number
        ]
    of = projects[counted.first]
    totals: dict[int, int] = {}
    for project, number in zip(of.tolist(), counted.numbers, strict=True):
        totals[project] = totals.get(project, 0) + number
    reached: dict[int, int] = {}
    parts_of: dict[tuple[int, int, int], list[tuple[int | None, str | None, Decimal]]] = {}
    made = list[Cost]()
    for group in np.lexsort((np.arange(len(of)), counted.start, of)).tolist():
        project, number, entry, band = int(of[group]), counted.numbers[group], entries[group], bands[group]
        if (entry, band, project) not in parts_of:
            parts_of[entry, band, project] = _parts(prices[entry], band, totals[project], counted.per)
        position = reached.get(project, 0)
        reached[project] = position + number
        for part, (limit, tier, cost) in enumerate(parts_of[entry, band, project]):
            here = number if limit is None else min(number, max(0, limit - position))
            if here:
                made.append(Cost(group, part, tier, here, cost))
            position, number = position + here, number - here
    return sorted(made, key=lambda each: (each.group, each.part))


def _flat(price: Price, band: int) -> tuple[Decimal, str | None]:
    """The price of a time of day, and its name."""
    return (price.times[band - 1].price, price.times[band - 1].name) if band else (price.price, None)


def _parts(price: Price, band: int, total: int, per: int) -> list[tuple[int | None, str | None, Decimal]]:
    """The parts of a price: up to which quantity each goes, its tier and its price."""
    included = _whole(price.included, per)
    parts: list[tuple[int | None, str | None, Decimal]] = [(included, INCLUDED, Decimal(0))]
    if not price.tiers:
        cost, name = _flat(price, band)
        return [*parts, (None, name, cost)]
    below = Decimal(0)
    slices = list[tuple[int | None, str | None, Decimal]]()
    for each in price.tiers:
        name = f"up to {each.up_to:f}" if each.up_to is not None else f"above {below:f}"
        limit = None if each.up_to is None else included + _whole(each.up_to, per)
        slices.append((limit, name, each.price))
        below = each.up_to or below
    if price.tiering == "graduated":
        return parts + slices
    at = next((each for each in slices if each[0] is None or total <= each[0]), slices[-1])
    return [*parts, *((None if each is at else 0, each[1], each[2]) for each in slices)]


def _whole(limit: Decimal, per: int) -> int:
    return int(Fraction(limit) * per)


def amounts(parts: Sequence[Cost], per: int, prices: Prices) -> list[int]:
    """What each part costs, rounded, in multiples of the smallest amount (`prices.digits` after the point)."""
    divide = exact.rounder(prices.rounding)
    times = 10**prices.digits
    ratios = {price: price.as_integer_ratio() for price in {each.price for each in parts}}
    found = []
    for each in parts:
        numerator, denominator = ratios[each.price]
        found.append(divide(each.number * numerator * times, per * denominator))
    return found


def shown(parts: Sequence[Cost], per: int) -> list[int]:
    """The quantities, to `DIGITS` digits after the point, half to even: for reading, not for computing."""
    divide = exact.rounder("half_even")
    return [divide(each.number * 10**DIGITS, per) for each in parts]
