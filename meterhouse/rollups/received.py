"""Of which derived meters samples were received: there nothing is derived, for that resource and day."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from meterhouse.rollups.targets import METER, RESOURCE, Codes, Targets
from meterhouse.sample_quality.series_table import Flags, Ints

_DAYS = 1 << 27
"""More days than a time in µs can be from 1970."""

_NO_INTS: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Received:
    """Days, meters and resources of which samples were received.

    Attributes:
        day: days since 1970.
        meter: texts.
        resource: texts; empty if the samples have no resource.
    """

    day: Ints = field(default_factory=lambda: _NO_INTS)
    meter: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    resource: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))

    @classmethod
    def of(cls, rows: Iterable[tuple[int, str, str]]) -> "Received":
        """Those of these rows: day, meter and resource."""
        day, meter, resource = list(zip(*rows, strict=True)) or ((), (), ())
        return cls(np.array(day, np.int64), pa.array(meter, pa.string()), pa.array(resource, pa.string()))

    @classmethod
    def of_series(cls, targets: Targets, numbers: Codes, days: Ints) -> "Received":
        """Those of series on days, each once.

        Args:
            targets: the series.
            numbers: of the series that samples were received of.
            days: since 1970, one for each of the numbers.
        """
        meter, resource = (targets.texts[n].of(targets.codes[numbers, n]).fill_null("") for n in (METER, RESOURCE))
        return cls(days, meter, resource).without(cls())

    def __len__(self) -> int:
        return len(self.day)

    def without(self, others: "Received") -> "Received":
        """Those that are not among the others, each once."""
        both = self.together([self, others])
        key = np.zeros(len(both), np.int64)
        for column in (pa.array(both.day), both.meter, both.resource):
            encoded = column.dictionary_encode()
            _, key = np.unique(key << 32 | encoded.indices.to_numpy(), return_inverse=True)
        mine = key[: len(self)]
        distinct, first = np.unique(mine, return_index=True)
        rows = np.sort(first[~np.isin(distinct, key[len(self) :])])
        return Received(self.day[rows], self.meter.take(pa.array(rows)), self.resource.take(pa.array(rows)))

    @classmethod
    def together(cls, parts: "Sequence[Received]") -> "Received":
        """All of these."""
        return cls(
            np.concatenate([part.day for part in parts]),
            pa.concat_arrays([part.meter for part in parts]),
            pa.concat_arrays([part.resource for part in parts]),
        )


class Withheld:
    """Where nothing is derived, for the series of `Targets`. It can be pickled.

    Args:
        targets: the series; it gets the texts of what was received, so that series that come later are found too.
        received: of which nothing is derived; what is there twice counts once.
    """

    def __init__(self, targets: Targets, received: Received) -> None:
        meters = targets.texts[METER].codes(received.meter)
        resources = targets.texts[RESOURCE].codes(received.resource)
        number = targets.resource_numbers(meters, resources) if len(received) else _NO_INTS
        order = np.lexsort((received.day, number))
        number, day = number[order], received.day[order]
        distinct = np.append(True, (number[1:] != number[:-1]) | (day[1:] != day[:-1]))[: len(number)]
        number, self._days = number[distinct], day[distinct]
        self._numbers, self._starts = np.unique(number, return_index=True)
        self._ends = np.append(self._starts[1:], len(number))
        self._keys = np.repeat(np.arange(len(self._starts)), self._ends - self._starts) * (2 * _DAYS)
        self._keys += self._days + _DAYS

    def __bool__(self) -> bool:
        return bool(len(self._numbers))

    def days(self, targets: Targets, numbers: Codes) -> tuple[Ints, Ints]:
        """On which days nothing is derived for some series: the place of each among them, and the day since 1970."""
        at, there = self._found(targets, numbers)
        rows = np.flatnonzero(there)
        lengths = (self._ends - self._starts)[at[rows]]
        of_day = np.repeat(self._starts[at[rows]] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        return np.repeat(rows, lengths), self._days[of_day]

    def hold(self, targets: Targets, numbers: Codes, days: Ints) -> Flags:
        """Whether nothing is derived, for each of these series on a day since 1970."""
        at, there = self._found(targets, numbers)
        found: Flags = there & np.isin(at * (2 * _DAYS) + days + _DAYS, self._keys)
        return found

    def _found(self, targets: Targets, numbers: Codes) -> tuple[Ints, Flags]:
        if not self:
            return np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.bool_)
        wanted = targets.resources(numbers)
        at = np.minimum(np.searchsorted(self._numbers, wanted), len(self._numbers) - 1)
        return at, self._numbers[at] == wanted
