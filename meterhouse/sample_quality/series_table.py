"""The series of a computation as arrays, with the quality rules that apply to each.

The *place* of a series is its position in the table, which is sorted by meter and series_id, as data files are. The
computation knows series by their places, and reads no texts with the points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
import numpy.typing as npt

from meterhouse.definitions.quality_rules import TYPES, Rules

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

GAUGE, DELTA, CUMULATIVE = (TYPES.index(name) for name in ("gauge", "delta", "cumulative"))
"""A series' kind: the place of its type in TYPES."""

UNKNOWN = -1
"""The place of a series that is not in the table."""


@dataclass(frozen=True)
class SeriesTable:
    """Series by place.

    Attributes:
        ids: their ids.
        kinds: GAUGE, DELTA or CUMULATIVE.
        meters: their meters, as places in `meter_names`.
        meter_names: distinct names in order.
    """

    ids: Ints
    kinds: npt.NDArray[np.int8]
    meters: Places
    meter_names: tuple[str, ...]

    @classmethod
    def of(cls, ids: Sequence[int] | Ints, meters: Sequence[str], types: Sequence[str]) -> "SeriesTable":
        """The table of these series, which may come in any order, each once.

        Raises:
            ValueError: a type is none of TYPES.
        """
        names, of_name = np.unique(np.asarray(meters, dtype=object), return_inverse=True)
        known, of_type = np.unique(np.asarray(types, dtype=object), return_inverse=True)
        return cls.coded(np.asarray(ids, np.int64), of_name, names.tolist(), of_type, known.tolist())

    @classmethod
    def coded(cls, ids: Ints, meters: Ints, names: Sequence[str], types: Ints, known: Sequence[str]) -> "SeriesTable":
        """The table of series whose texts are given by their places among the different ones.

        Args:
            ids: of the series, each once.
            meters: their meters, as places in `names`.
            names: of meters.
            types: their types, as places in `known`.
            known: types.

        Raises:
            ValueError: a type is none of TYPES.
        """
        if unknown := set(known) - set(TYPES):
            raise ValueError(f"unknown sample type: {min(unknown)!r}")
        distinct = sorted(set(names))
        rank = {name: place for place, name in enumerate(distinct)}
        of_meter = np.array([rank[name] for name in names] or [0], np.int32)[meters]
        kinds = np.array([TYPES.index(name) for name in known] or [0], np.int8)[types]
        order = np.lexsort((ids, of_meter))
        return cls(ids[order], kinds[order], of_meter[order], tuple(distinct))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _by_id(self) -> tuple[Ints, Places]:
        order = np.argsort(self.ids)
        return self.ids[order], order.astype(np.int32)

    def places(self, ids: Ints) -> Places:
        """The place of each of these ids; UNKNOWN for a series that is not in the table.

        It looks up each run of equal ids once.
        """
        if not len(ids):
            return np.zeros(0, np.int32)
        known, at = self._by_id
        if not len(known):
            return np.full(len(ids), UNKNOWN, np.int32)
        heads = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        wanted = ids[heads]
        found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        places = np.where(known[found] == wanted, at[found], np.int32(UNKNOWN)).astype(np.int32)
        if len(heads) == len(ids):
            return places
        return np.repeat(places, np.diff(np.append(heads, len(ids))))


@dataclass(frozen=True)
class SeriesRules:
    """The rules of a site, compiled for the series of a table.

    Attributes:
        rules: the site's.
        low: the smallest finite volume that breaks no range rule, by place.
        high: the largest one.
        tolerance: how many µs a point may be ahead of its arrival, by place.
        applies: by the rule's bit, whether it applies to the series, by place.
    """

    rules: Rules
    low: Floats
    high: Floats
    tolerance: Ints
    applies: dict[int, Flags] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Rules, table: SeriesTable) -> "SeriesRules":
        """Compile the rules: each glob is matched once for each meter."""
        largest = np.finfo(np.float64).max
        made = cls(
            rules,
            np.full(len(table), -largest),
            np.full(len(table), largest),
            np.full(len(table), np.iinfo(np.int64).max),
        )
        for rule in rules.rules:
            matches = [any(fnmatchcase(name, glob) for glob in rule.meters) for name in table.meter_names]
            of_meter = np.array(matches, np.bool_)
            kinds = np.array([name in rule.types for name in TYPES], np.bool_)
            on = of_meter[table.meters] & kinds[table.kinds] if len(table) else np.zeros(0, np.bool_)
            made.applies[rule.bit] = on
            if rule.check == "range":
                if rule.minimum > -math.inf:
                    np.maximum(made.low, rule.minimum, out=made.low, where=on)
                if rule.maximum < math.inf:
                    np.minimum(made.high, rule.maximum, out=made.high, where=on)
            elif rule.check == "future":
                np.minimum(made.tolerance, round(rule.tolerance_seconds * 1e6), out=made.tolerance, where=on)
        return made

    def of_points(self, place: Places, time: Ints, volume: Floats, recorded: Ints) -> npt.NDArray[np.int32]:
        """The bits of the rules that each of these points breaks by itself: finite, range and future.

        It is exact, and meant for the few points that may break one.
        """
        bits = np.zeros(len(place), np.int32)
        finite = np.isfinite(volume)
        for rule in self.rules.rules:
            if rule.check == "finite":
                broken = ~finite
            elif rule.check == "range":
                broken = finite & ((volume < rule.minimum) | (volume > rule.maximum))
            elif rule.check == "future":
                broken = time > recorded + round(rule.tolerance_seconds * 1e6)
            else:
                continue
            bits[broken & self.applies[rule.bit][place]] |= 1 << rule.bit
        return bits

    def bits_of(self, check: str, place: Places) -> npt.NDArray[np.int32]:
        """The bits of all rules of a check that apply to the series of these places."""
        bits = np.zeros(len(place), np.int32)
        for rule in self.rules.of(check):
            bits[self.applies[rule.bit][place]] |= 1 << rule.bit
        return bits
