"""Times of day in a month: which stretches of it are night, and how much of a stretch of a resource lies in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray

from meterhouse import times
from meterhouse.definitions.prices import TimeOfDay

Instants = NDArray[np.int64]
"""Microseconds since the UNIX epoch."""


@dataclass(frozen=True)
class Bands:
    """A span of time, cut where the time of day changes.

    Attributes:
        edges: the start of each part, and the end of the last.
        bands: which time of day each part is: 0 for none, 1 for the first of the price, and so on.
        count: the number of bands, with 0.
    """

    edges: Instants
    bands: NDArray[np.int64]
    count: int

    def at(self, instants: Instants) -> NDArray[np.int64]:
        """The time of day of each instant in the span."""
        places = np.searchsorted(self.edges, instants, side="right") - 1
        return self.bands[np.clip(places, 0, len(self.bands) - 1)]

    def within(self, band: int, starts: Instants, ends: Instants) -> Instants:
        """How many microseconds of each stretch in the span are of a time of day."""
        return self._before(band, ends) - self._before(band, starts)

    def clipped(self, band: int, starts: Instants, ends: Instants) -> tuple[Instants, Instants]:
        """The first and the last instant of a time of day in each stretch, which has some of it."""
        of = np.flatnonzero(self.bands == band)
        begins, closes = self.edges[of], self.edges[of + 1]
        first = np.maximum(begins[np.searchsorted(closes, starts, side="right")], starts)
        last = np.minimum(closes[np.searchsorted(begins, ends, side="left") - 1], ends)
        return first, last

    def _before(self, band: int, instants: Instants) -> Instants:
        of_band = self.bands == band
        lengths = np.where(of_band, np.diff(self.edges), 0)
        before = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.clip(np.searchsorted(self.edges, instants, side="right") - 1, 0, len(self.bands) - 1)
        return before[places] + np.where(of_band[places], instants - self.edges[places], 0)


def bands(of: Sequence[TimeOfDay], start: datetime, end: datetime, zone: tzinfo) -> Bands:
    """The times of day of a span. Where several match, the first counts.

    They are those of the clock on the wall: a night in which the clock is put back is an hour longer.
    """
    first, last = times.micros(start), times.micros(end)
    if not of:
        return Bands(np.array([first, last], np.int64), np.zeros(1, np.int64), 1)
    spans = list[tuple[int, int, int]]()
    day = start.astimezone(zone).date() - timedelta(days=1)
    while day <= end.astimezone(zone).date():
        for number, each in enumerate(of, 1):
            if day.weekday() in each.days:
                until = each.end if each.end > each.start else each.end + 24 * 60
                spans.append((_instant(day, each.start, zone), _instant(day, until, zone), number))
        day += timedelta(days=1)
    inner = {edge for one, other, _ in spans for edge in (one, other) if first < edge < last}
    edges = np.array(sorted({first, last, *inner}), np.int64)
    found = np.zeros(len(edges) - 1, np.int64)
    for one, other, number in sorted(spans, key=lambda each: -each[2]):
        low, high = np.searchsorted(edges, [max(one, first), min(other, last)])
        found[low:high] = number
    return Bands(edges, found, len(of) + 1)


def _instant(day: date, minutes: int, zone: tzinfo) -> int:
    on = day + timedelta(days=minutes // (24 * 60))
    clock = time(minutes // 60 % 24, minutes % 60)
    return times.micros(datetime.combine(on, clock, zone).astimezone(UTC))
