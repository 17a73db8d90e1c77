"""What quantities cost: included amounts and tiers, by project and month, and each line's one rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Final

import numpy as np

from meterhouse.billing import exact
from meterhouse.billing.counting import Counted
from meterhouse.billing.matching import Codes, combined
from meterhouse.definitions.prices import DIGITS, Price, Prices

INCLUDED: Final = "included"
"""The tier of what costs nothing."""


@dataclass(frozen=True)
class Costs:
    """Parts of the quantities of groups, each at one price: one element a part, ordered by group.

    Attributes:
        group: the place of the group.
        part: which part of the price it is: 0 for what is included, then the slices.
        tier: what the bill calls it; None for a flat price.
        numbers: the quantities as multiples of 1 / `per` of the groups; none is 0.
        which: the place of the price for a unit in `prices`.
        prices: the distinct prices for a unit.
    """

    group: Codes
    part: list[int]
    tier: list[str | None]
    numbers: list[int]
    which: Codes
    prices: list[Decimal]


def costs(counted: Counted, prices: Sequence[Price], projects: Codes) -> Costs:
    """The groups of one name, cut where the price changes.

    The quantities of a project fill the included amount and the slices in the order of time: of groups that start at
    the same instant, in the order of resources.

    Args:
        counted: the groups.
        prices: all prices, by their numbers.
        projects: the project of each row.
    """
    if any(prices[number].tiers or prices[number].included for number in np.unique(counted.entry).tolist()):
        return _in_slices(counted, prices, projects)
    codes, first = combined([counted.entry, counted.band])
    kinds = [
        _flat(prices[entry], band)
        for entry, band in zip(counted.entry[first].tolist(), counted.band[first].tolist(), strict=True)
    ]
    group = np.flatnonzero(np.array([number != 0 for number in counted.numbers], np.bool_))
    kind = codes[group]
    tiers = [tier for _, tier in kinds]
    return Costs(
        group=group,
        part=[1] * len(group),
        tier=[tiers[code] for code in kind.tolist()],
        numbers=[number for number in counted.numbers if number],
        which=kind,
        prices=[price for price, _ in kinds],
    )


def _in_slices(counted: Counted, prices: Sequence[Price], projects: Codes) -> Costs:
    entries, bands, of = counted.entry.tolist(), counted.band.tolist(), projects[counted.first]
    of_group = of.tolist()
    totals: dict[int, int] = {}
    for project, number in zip(of_group, counted.numbers, strict=True):
        totals[project] = totals.get(project, 0) + number
    reached: dict[int, int] = {}
    parts_of: dict[tuple[int, int, int], list[tuple[int | None, str | None, int]]] = {}
    place: dict[Decimal, int] = {}
    made = list[tuple[int, int, str | None, int, int]]()
    for group in np.lexsort((np.arange(len(of)), counted.start, of)).tolist():
        project, number, entry, band = of_group[group], counted.numbers[group], entries[group], bands[group]
        parts = parts_of.get((entry, band, project))
        if parts is None:
            parts = parts_of[entry, band, project] = [
                (limit, tier, place.setdefault(price, len(place)))
                for limit, tier, price in _parts(prices[entry], band, totals[project], counted.per)
            ]
        position = reached.get(project, 0)
        reached[project] = position + number
        for part, (limit, tier, which) in enumerate(parts):
            here = number if limit is None else min(number, max(0, limit - position))
            if here:
                made.append((group, part, tier, here, which))
            position, number = position + here, number - here
            if not number:
                break
    made.sort(key=lambda each: each[:2])
    return Costs(
        group=np.array([each[0] for each in made], np.int64),
        part=[each[1] for each in made],
        tier=[each[2] for each in made],
        numbers=[each[3] for each in made],
        which=np.array([each[4] for each in made], np.int64),
        prices=list(place),
    )


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


def amounts(of: Costs, per: int, prices: Prices) -> list[int]:
    """What each part costs, rounded, in multiples of the smallest amount (`prices.digits` after the point)."""
    ratios = [price.as_integer_ratio() for price in of.prices]
    by = lcm(*(denominator for _, denominator in ratios))
    times = [numerator * (by // denominator) * 10**prices.digits for numerator, denominator in ratios]
    return exact.divided(of.numbers, [times[which] for which in of.which.tolist()], per * by, prices.rounding)


def shown(of: Costs, per: int) -> list[int]:
    """The quantities, to `DIGITS` digits after the point: for reading, not for computing."""
    return exact.divided(of.numbers, [10**DIGITS] * len(of.numbers), per, "half_up")


def unit_prices(of: Costs) -> list[int]:
    """The prices for a unit, to `DIGITS` digits after the point, which is all that they have."""
    whole = [int(price.scaleb(DIGITS)) for price in of.prices]
    return [whole[which] for which in of.which.tolist()]
