"""Quantities by price and resource: exact sums of time × measure, and of what counters counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from meterhouse import times
from meterhouse.billing import clock, exact
from meterhouse.billing.matching import Codes, Mask, Rows
from meterhouse.definitions.prices import UNITS, Price, Prices
from meterhouse.errors import shown

Instants = NDArray[np.int64]

HOUR: Final = 3_600_000_000
"""Microseconds."""

LARGEST: Final = 1e15
"""No measure or hour of a counter is larger than this."""

_OF_TIME: Final = {"hour": "h", "day": "d", "month": "month"}


class Units(Protocol):
    """A table of units, see `meterhouse.definitions.units`."""

    def factor(self, unit: str | None, to: str | None, /) -> Fraction | None:
        """What an amount in a unit is multiplied by to be in another; None if it cannot be converted."""


@dataclass(frozen=True)
class Entry:
    """A price in a month.

    Attributes:
        price: the price.
        number: its place in the file.
        start, end: when it is valid within the month, in microseconds since the UNIX epoch.
        cuts: the instants within these at which lines are cut, because a discount or tax starts or ends.
        clock: its times of day.
    """

    price: Price
    number: int
    start: int
    end: int
    cuts: Instants
    clock: clock.Bands

    def within(self, start: int, end: int) -> "Entry":
        """The same, valid for a part of that time only."""
        return replace(self, start=start, end=end, cuts=self.cuts[(self.cuts > start) & (self.cuts < end)])


@dataclass(frozen=True)
class Counted:
    """Quantities: one element a group of rows with the same price, resource, flavor, zone, cut and time of day.

    Attributes:
        entry: the number of the price.
        cut: the start of the part of the price's validity that it lies in.
        band: the time of day, 0 for none.
        first, last: the first and the last of its rows in time.
        start, end: the first and the last instant.
        numbers: the quantities as multiples of 1 / `per`.
        per: see `numbers`.
        pieces: for each group the place of its first piece, and after them the number of pieces.
        piece_row, piece_start, piece_end: the stretches that it was counted from.
    """

    entry: NDArray[np.int64]
    cut: Instants
    band: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    start: Instants
    end: Instants
    numbers: list[int]
    per: int
    pieces: NDArray[np.int64]
    piece_row: NDArray[np.int64]
    piece_start: Instants
    piece_end: Instants


def entry(price: Price, number: int, prices: Prices, span: tuple[datetime, datetime]) -> Entry | None:
    """A price in a month; None if it is not valid in it."""
    start = max(filter(None, (price.start, span[0])))
    end = min(filter(None, (price.end, span[1])))
    if start >= end:
        return None
    cuts = {
        times.micros(edge)
        for rule in (*prices.discounts, *prices.taxes)
        if rule.scope.may_have(price.name, price.service)
        for edge in (rule.start, rule.end)
        if edge is not None and start < edge < end
    }
    of_day = clock.bands(price.times, start, end, prices.zone)
    return Entry(price, number, times.micros(start), times.micros(end), np.array(sorted(cuts), np.int64), of_day)


def unconvertible(price: Price, units: Units) -> str | None:
    """Why a price of time cannot work with a table of units; None if it can."""
    of = UNITS.get(price.measure)
    if price.per is None or units.factor(of, price.unit) is not None:
        return None
    return f"'{price.name}': {of} cannot be converted into {shown(price.unit)}"


def unit_of(price: Price) -> str:
    """The unit of a price's quantities: `vCPU·h`, `GiB·month`, `instance·begun h`, `GiB`."""
    if price.per is None:
        return price.unit or ""
    types = dict(price.where.texts).get("resource_type", ())
    thing = types[0] if len(types) == 1 and types[0].isidentifier() else "resource"
    of = thing if price.measure == "count" else price.unit or UNITS.get(price.measure) or price.measure
    return f"{of}·{'begun ' if price.begun else ''}{_OF_TIME[price.per]}"


def of_periods(
    entries: Sequence[tuple[Entry, Mask]],
    rows: Rows,
    starts: Instants,
    ends: Instants,
    groups: Codes,
    resources: Codes,
    month: tuple[int, int],
    units: Units,
) -> Counted | None:
    """Measure × time of the prices of one name.

    Args:
        entries: the prices, each with the rows that it is for.
        rows: the periods.
        starts, ends: their stretches within the month.
        groups: what must not be in one line: the code of each row's project, resource, flavor, zone and metadata.
        resources: the code of each row's project and resource.
        month: its first instant, and that of the next one, in microseconds since the UNIX epoch.
        units: the table of units; every price's unit can be converted.

    Returns:
        The quantities; None if there are none.
    """
    found: list[tuple[NDArray[np.int64], ...]] = []
    measures: list[NDArray[np.float64]] = []
    for each, mask in entries:
        of = np.flatnonzero(mask)
        values = rows.measure(each.price.measure)[of]
        of, values = of[known(values)], values[known(values)]
        for low, high in pairwise([each.start, *each.cuts.tolist(), each.end]):
            start, end = np.maximum(starts[of], low), np.minimum(ends[of], high)
            inside = end > start
            row, start, end, value = of[inside], start[inside], end[inside], values[inside]
            for part in range(each.clock.count):
                length = each.clock.within(part, start, end)
                some = length > 0
                first, last = each.clock.clipped(part, start[some], end[some])
                same = [np.full(len(first), one, np.int64) for one in (each.number, low, part)]
                found.append((row[some], first, last, length[some], *same))
                measures.append(value[some])
    if not sum(map(len, measures)):
        return None
    row, start, end, length, number, cut, band = (np.concatenate(parts) for parts in zip(*found, strict=True))
    value = np.concatenate(measures)
    begun = np.isin(number, [each.number for each, _ in entries if each.price.begun])
    if begun.any():
        whole_hours = _begun(resources[row[begun]], start[begun], end[begun], value[begun], month[0])
        length[begun] = whole_hours
    order = np.lexsort((row, start, band, cut, number, groups[row]))
    row, start, end, length, number, cut, band = (each[order] for each in (row, start, end, length, number, cut, band))
    firsts = _changes(groups[row], number, cut, band)
    whole, digits = exact.decimals(value[order])
    sums = exact.sums(exact.product(whole, length), firsts)
    spans = {"hour": HOUR, "day": 24 * HOUR, "month": month[1] - month[0]}
    factors = {
        each.number: (units.factor(UNITS.get(each.price.measure), each.price.unit) or Fraction(1))
        / (10**digits * spans[each.price.per or "hour"])
        for each, _ in entries
    }
    per = _per(entries, factors.values())
    times_of = {key: int(factor * per) for key, factor in factors.items()}
    numbers_of = [total * times_of[key] for total, key in zip(sums, number[firsts].tolist(), strict=True)]
    return _counted(firsts, number, cut, band, row, start, end, numbers_of, per)


def of_counters(
    entries: Sequence[tuple[Entry, Mask]],
    rows: Rows,
    hours: Instants,
    amounts: NDArray[np.float64],
    groups: Codes,
    units: Units,
) -> Counted | None:
    """What counters counted in the hours that start while a price of one name is valid.

    Args:
        entries: the prices, each with the rows that it is for: their units can be converted, their amounts are finite.
        rows: the hours of counters.
        hours: their starts.
        amounts: what was counted in each.
        groups: what must not be in one line: the code of each row's project, resource and metadata.
        units: the table of units.
    """
    found: list[tuple[NDArray[np.int64], ...]] = []
    for each, mask in entries:
        of = np.flatnonzero(mask & (amounts != 0) & (hours >= each.start) & (hours < each.end))
        edges = np.concatenate([[each.start], each.cuts])
        cut = edges[np.searchsorted(edges, hours[of], side="right") - 1]
        found.append((of, np.full(len(of), each.number, np.int64), cut, each.clock.at(hours[of])))
    row, number, cut, band = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(row):
        return None
    order = np.lexsort((rows.column("metadata").codes[row], hours[row], band, cut, number, groups[row]))
    row, number, cut, band = (each[order] for each in (row, number, cut, band))
    firsts = _changes(groups[row], number, cut, band)
    wanted = {each.number: each.price.unit for each, _ in entries}
    column = rows.column("unit")
    totals = [Fraction(0)] * len(firsts)
    of_group = number[firsts].tolist()
    for code in np.unique(column.codes[row]).tolist():
        sums, digits = exact.sums_of_floats(np.where(column.codes[row] == code, amounts[row], 0.0), firsts)
        for place, (total, key) in enumerate(zip(sums, of_group, strict=True)):
            if total:
                factor = units.factor(column.values[code], wanted[key]) or Fraction(1)
                totals[place] += factor * Fraction(total, 10**digits)
    per = _per(entries, totals)
    numbers_of = [int(total * per) for total in totals]
    start = hours[row]
    counted = _counted(firsts, number, cut, band, row, start, start + HOUR, numbers_of, per)
    return _with_hours_joined(counted, firsts)


def known(values: NDArray[np.float64]) -> Mask:
    """Which measures are numbers that a quantity can be made of: from 0 to `LARGEST`."""
    found: Mask = (values >= 0) & (values <= LARGEST)
    return found


def _begun(resource: Codes, start: Instants, end: Instants, value: NDArray[np.float64], first: int) -> Instants:
    """How long each stretch counts if a begun hour counts whole, once for each resource, with its largest size.

    Args:
        resource: the code of each stretch's project and resource; the stretches of one do not overlap.
        start, end: the stretches.
        value: their sizes.
        first: the start of the month; hours are counted from it.
    """
    low, high = (start - first) // HOUR, (end - 1 - first) // HOUR
    places = np.arange(len(start))
    edges = high > low
    place = np.concatenate([places, places[edges]])
    hour = np.concatenate([low, high[edges]])
    order = np.lexsort((start[place], -value[place], hour, resource[place]))
    winners = order[_changes(resource[place][order], hour[order])]
    made: Instants = np.maximum(high - low - 1, 0)
    np.add.at(made, place[winners], 1)
    return made * HOUR


def _changes(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows, of at least one, at which a value differs from that of the row before; the first is one."""
    made = np.zeros(len(columns[0]), np.bool_)
    made[0] = True
    for each in columns:
        made[1:] |= each[1:] != each[:-1]
    return np.flatnonzero(made)


def _per(entries: Sequence[tuple[Entry, Mask]], factors: Iterable[Fraction]) -> int:
    """A number of which all quantities and limits are multiples when multiplied by it."""
    prices = [each.price for each, _ in entries]
    limits = [price.included for price in prices]
    limits += [part.up_to for price in prices for part in price.tiers if part.up_to is not None]
    return lcm(*{each.denominator for each in factors}, *(Fraction(limit).denominator for limit in limits))


def _counted(
    firsts: NDArray[np.int64],
    number: Codes,
    cut: Instants,
    band: Codes,
    row: NDArray[np.int64],
    start: Instants,
    end: Instants,
    numbers: list[int],
    per: int,
) -> Counted:
    after = np.append(firsts[1:], len(row))
    return Counted(
        entry=number[firsts],
        cut=cut[firsts],
        band=band[firsts],
        first=row[firsts],
        last=row[after - 1],
        start=start[firsts],
        end=np.maximum.reduceat(end, firsts),
        numbers=numbers,
        per=per,
        pieces=np.append(firsts, len(row)),
        piece_row=row,
        piece_start=start,
        piece_end=end,
    )


def _with_hours_joined(counted: Counted, firsts: NDArray[np.int64]) -> Counted:
    """The same, with adjoining hours of a group as one piece."""
    starts = counted.piece_start
    new = np.zeros(len(starts), np.bool_)
    new[firsts] = True
    new[1:] |= (starts[1:] != starts[:-1]) & (starts[1:] != starts[:-1] + HOUR)
    at = np.flatnonzero(new)
    after = np.append(at[1:], len(starts))
    return replace(
        counted,
        pieces=np.append(np.searchsorted(at, firsts), len(at)),
        piece_row=counted.piece_row[at],
        piece_start=starts[at],
        piece_end=counted.piece_end[after - 1],
    )
