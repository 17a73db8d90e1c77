"""Points of derived meters, from the good points of a computation, in columns.

`rate`, `delta` and `convert` give one point for each good source point; for the other kinds see `bucket_meters`. A
derived point is judged like a received one; only good ones are the source of further meters.

`Derivation.take` is called for each shard of received points, in several threads. After each pass,
`Derivation.finish_some` gives the points of series that are complete by then, so that memory need not hold them;
`Derivation.finish` gives the others. Points without metadata of their own that is of use wait for `finish`: only then
that of other series is known.

Each pass has a derivation of its own, by `fork`, perhaps in another process; the whole one gets what is `left` of it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.definitions.column_expressions import Expression
from meterhouse.definitions.derived_meters import OF_POINTS, Derived, path_of
from meterhouse.definitions.quality_rules import Rules
from meterhouse.rollups.bucket_meters import BucketMeters, values_of_buckets
from meterhouse.rollups.derived_points import (
    Judged,
    NewPoints,
    Source,
    Taken,
    Values,
    Waiting,
    finite,
    mixed,
    some,
    together,
)
from meterhouse.rollups.described import History
from meterhouse.rollups.described_values import DescribedValues, HistoryOf, MetadataOf, Path, without_any
from meterhouse.rollups.received import Received, Withheld
from meterhouse.rollups.targets import DIMENSIONS, METER, TYPE, UNIT, Codes, NewTargets, Targets
from meterhouse.sample_quality.carrying import carried_to
from meterhouse.sample_quality.series_table import (
    CUMULATIVE,
    DELTA,
    Flags,
    Floats,
    Ints,
    Places,
    SeriesRules,
    SeriesTable,
)
from meterhouse.sample_quality.verdicts import (
    HOUR,
    NOTHING_CARRIED,
    Carried,
    Good,
    Points,
    carried_before,
    judge,
)
from meterhouse.stores.lake_tables import TIME

DAY = 24 * HOUR

MAX_ROUNDS = 8
"""How long a chain of derived meters may be."""

POINTS_AT_ONCE = 500_000
"""About how many derived points are judged together."""

_DAYS = 1 << 27
"""More days than a time in µs can be from 1970."""

_NO_INTS: Ints = np.zeros(0, np.int64)
_FUTURE = 1 << 62
"""A time after all others, µs."""

Describe = Callable[[Ints], pa.Table]
"""Ids of series → their DIMENSIONS, in the same order."""

Carry = Callable[[SeriesTable, Flags, bool], Carried]
"""A table of series, which of them are wanted, and whether they were received → their last points before the hours."""


@dataclass(frozen=True)
class _Applied:
    """What is derived from the series of a table, by place: numbers of `Targets`, -1 for none."""

    table: SeriesTable
    of_points: tuple[tuple[Derived, npt.NDArray[np.int32]], ...]
    in_buckets: npt.NDArray[np.int32] | None  # the series itself, if an arithmetic or aggregate takes it
    received: npt.NDArray[np.int32] | None  # the series itself, if it has the name of a derived meter
    compared: Flags | None = None  # gauges and deltas of which a rate or delta is made
    of_day: Flags | None = None  # those of them that are only compared within a day, see `_compared`
    carried: Carried = NOTHING_CARRIED  # of `compared`
    withheld: tuple[Ints, ...] = ()  # for each of `of_points`: where the meter was received, see `_at_day`; in order

    def __bool__(self) -> bool:
        return bool(self.of_points) or self.in_buckets is not None or self.received is not None


@dataclass(frozen=True)
class Left:
    """What a derivation of one pass leaves to the whole one; see `Derivation`. It can be pickled.

    Points that wait have the number of their definition: the definition itself becomes another object on its way.
    """

    targets: NewTargets
    made: list[NewPoints]
    waiting: list[tuple[int, Waiting]]
    values: list[Values]
    compared: list[Ints]
    made_by: dict[str, Derived]


class Derivation:
    """The derivation of all meters from the points of one computation.

    Args:
        definitions: in the order of the file.
        rules: the site's quality rules.
        table: the series of the received points.
        describe: gives their dimensions.
        hold: which of the times (µs) are in the hours that are computed.
        metadata_of: gives values of resource metadata.
        received_on: gives, for series of the table (flags by place), the places and days since 1970 of their samples.
        known: of which derived meters samples were received, as far as it is known already.
        history_of: gives the changes of metadata of resources; it is called by `finish`.
        carried: gives the points of series before the hours.
        carry_hours: how far a previous point is carried.
        days: since 1970, the days that have points in the hours that are computed, as far as they are known.

    Attributes:
        compared: ids of the gauges and deltas of which a rate or delta is made, also derived ones.
        received: of which derived meters samples are among the points.
    """

    def __init__(
        self,
        definitions: Sequence[Derived],
        rules: Rules,
        table: SeriesTable,
        describe: Describe,
        hold: Callable[[Ints], Flags],
        metadata_of: MetadataOf,
        received_on: Callable[[Flags], tuple[Ints, Ints]],
        known: Received | None = None,
        history_of: HistoryOf = lambda resources: History.nothing(),
        carried: Carry = lambda table, wanted, received: NOTHING_CARRIED,
        carry_hours: int = 48,
        days: Ints | None = None,
    ) -> None:
        self.targets = Targets()
        self.definitions = tuple(definitions)
        self._rules, self._hold = rules, hold
        self._carried, self._carry_hours = carried, carry_hours
        self._read = DescribedValues(self.targets, metadata_of, history_of)
        self._of_buckets = BucketMeters(self.targets, self._read)
        self.made_by: dict[str, Derived] = {}
        self.compared: list[Ints] = []
        self._made: list[NewPoints] = []
        self._waiting: list[Waiting] = []
        self._values: list[Values] = []
        applied = self._applied(table, describe, received=True)
        self.received = self._days(applied, received_on)
        self._without = Withheld(self.targets, Received.together([known or Received(), self.received]))
        self._of_received = self._withheld(applied, days)
        self._alone = self._complete_alone(applied)

    def __getstate__(self) -> dict[str, Any]:
        """All but what reads the stores: a copy can only be forked."""
        reading = ("_read", "_of_buckets", "_carried")
        return {name: value for name, value in vars(self).items() if name not in reading}

    def fork(self, metadata_of: MetadataOf, carried: Carry) -> "Derivation":
        """The derivation of one pass: nothing yet, of the same series. Call `finish_some` and not `finish`.

        Args:
            metadata_of: gives values of resource metadata.
            carried: gives the points of series before the hours.
        """
        made = copy.copy(self)
        made.targets = self.targets.fork()
        made._read = DescribedValues(made.targets, metadata_of, lambda resources: History.nothing())
        made._of_buckets = BucketMeters(made.targets, made._read)
        made._carried = carried
        made.made_by, made.compared = {}, []
        made._made, made._waiting, made._values = [], [], []
        made._alone = self._alone.copy()
        return made

    def left(self, base: "Derivation") -> Left:
        """What this derivation of a pass leaves, beyond what it has been forked from."""
        numbers = {id(each): n for n, each in enumerate(self.definitions)}
        waiting = [(numbers[id(each.definition)], each) for each in self._waiting]
        new = self.targets.since(base.targets)
        return Left(new, self._made, waiting, self._values, self.compared, self.made_by)

    def join(self, left: Left) -> None:
        """Add what the derivation of a later pass leaves."""
        numbers = self.targets.join(left.targets)
        self._made += [replace(each, target=numbers[each.target]) for each in left.made]
        self._waiting += [
            replace(w, definition=self.definitions[n], made=replace(w.made, target=numbers[w.made.target]))
            for n, w in left.waiting
        ]
        self._values += [replace(each, series=numbers[each.series]) for each in left.values]
        self.compared += left.compared
        for meter, definition in left.made_by.items():
            self.made_by.setdefault(meter, definition)

    def __bool__(self) -> bool:
        """Whether any series matters here; if not, `take` need not be called."""
        return bool(self._of_received)

    def take(self, source: Source) -> Taken:
        """What the points of a shard give. May be called in several threads at once."""
        return self._taken(self._of_received, source)

    def answers(self, ids: Ints) -> list[Flags]:
        """Which of these ids of metadata have what definitions read: one column for each thing that is read alone."""
        there = np.ones(len(ids), np.bool_)
        found = []
        for definition in self.definitions:
            paths = {each.meter: list[Path]() for each in definition.inputs}
            for each in definition.inputs:
                paths[each.meter].append(each.path)
            for alternatives in paths.values():
                found.append(~without_any({path: self._read.numbers_of(path, ids, there) for path in alternatives}))
            for by in definition.by:
                if by != "project_id":
                    texts = self._read.texts_of(path_of(by), ids, there)
                    found.append(np.array([text is not None for text in texts], np.bool_))
        return found

    def add(self, taken: Taken) -> None:
        """Keep what a shard gave."""
        self._made += taken.made
        self._waiting += taken.waiting
        for each in taken.waiting:  # the other points of their series wait with them
            self._alone[np.minimum(each.made.target, len(self._alone) - 1)] = False
        self._values += taken.values

    def finish_some(self) -> Iterator[Judged]:
        """Judge the derived points so far whose series are complete with them; yields these, in parts."""
        parts, self._made = self._made, []
        complete = []
        for made in parts:
            alone = self._alone[np.minimum(made.target, len(self._alone) - 1)]
            if alone.all():
                complete.append(made)
                continue
            complete.append(some(made, alone))
            self._made.append(some(made, ~alone))
        if complete:
            yield from self._judged_and_taken(together(complete))

    def finish(self) -> Iterator[Judged]:
        """Judge what else was derived, and derive further meters from it; yields these points, in parts."""
        waiting = self._in_order([each for each in self.definitions if each.kind not in OF_POINTS])
        yield from self._rounds(waiting)
        while waiting:
            definition = waiting.pop(0)
            made = self._made_of_buckets(definition)
            if made is not None:
                self.made_by.setdefault(definition.name, definition)
                self._made.append(made)
            yield from self._rounds(waiting)

    def _rounds(self, waiting: Sequence[Derived]) -> Iterator[Judged]:
        """Judge derived points, and those that are derived from them; a series when all its points are there.

        Args:
            waiting: definitions that will make further points.
        """
        further = [each.name for each in waiting]
        for _ in range(MAX_ROUNDS):
            parts, self._made = [*self._made, *self._described()], []
            if not parts:
                return
            made = together(parts)
            numbers = np.unique(made.target)
            meters = {name or "" for name in self.targets.distinct(METER, numbers)[0]}
            to_come = set(further).union(*(self._reached(name) - {name} for name in (*meters, *further)))
            held = self.targets.texts[METER].among(to_come)
            later = held[self.targets.codes[made.target, METER]]
            if later.all():  # meters that are made of each other
                if waiting:
                    self._made.append(made)
                    return
                later[:] = False
            if later.any():
                self._made.append(some(made, later))
                made = some(made, ~later)
            yield from self._judged_and_taken(made)

    def _reached(self, meter: str) -> set[str]:
        """The meters of which each point is made of one point of this meter, or of another one that is made so."""
        found: set[str] = set()
        names = {meter}
        for _ in range(MAX_ROUNDS):
            names = {e.named(name) for e in self.definitions if e.kind in OF_POINTS for name in names if e.takes(name)}
            if names <= found:
                break
            found |= names
        return found

    def _in_order(self, definitions: Sequence[Derived]) -> list[Derived]:
        """Definitions of buckets so that each comes after those that it is made of, also by way of points."""
        ordered: list[Derived] = []
        waiting = list(definitions)
        makes = {id(each): {each.name, *self._reached(each.name)} for each in definitions}
        while waiting:
            ready = [
                each
                for each in waiting
                if not any(each.takes(name) for other in waiting if other is not each for name in makes[id(other)])
            ]
            ready = ready or waiting[:1]
            ordered += ready
            waiting = [each for each in waiting if each not in ready]
        return ordered

    def _judged_and_taken(self, made: NewPoints) -> Iterator[Judged]:
        """Judge derived points, and derive further ones from them, which `_made` gets."""
        for judged in self._judged(made):
            yield judged
            self.add(
                self._taken(self._applied(judged.table, self.targets.describe, received=False), _source_of(judged))
            )

    def _applied(self, table: SeriesTable, describe: Describe, *, received: bool) -> _Applied:
        """Which definitions take which series of a table."""
        names = table.meter_names
        taking = [[each for each in self.definitions if each.takes(name)] for name in names]
        named = [received and any(each.may_make(name) for each in self.definitions) for name in names]
        wanted = np.array([bool(taking[n]) or named[n] for n in range(len(names))], np.bool_)
        places = np.flatnonzero(wanted[table.meters]) if len(table) else np.zeros(0, np.int64)
        if not len(places):
            return _Applied(table, (), None, None)
        codes = self.targets.coded(describe(table.ids[places]))
        meters = table.meters[places]
        of_points = []
        in_buckets, of_name = (np.full(len(table), -1, np.int32) for _ in range(2))
        for definition in self.definitions:
            takes = np.flatnonzero(np.array([definition in each for each in taking], np.bool_)[meters])
            if not len(takes):
                continue
            made = self._made_of(definition, codes[takes])
            taken = made[:, METER] >= 0
            if definition.kind not in OF_POINTS:
                in_buckets[places[takes[taken]]] = self.targets.numbers(codes[takes[taken]])
                continue
            target = np.full(len(table), -1, np.int32)
            target[places[takes[taken]]] = self.targets.numbers(made[taken])
            of_points.append((definition, target))
        own = np.flatnonzero(np.array(named, np.bool_)[meters])
        of_name[places[own]] = self.targets.numbers(codes[own])
        return _Applied(
            table,
            tuple(of_points),
            in_buckets if (in_buckets >= 0).any() else None,
            of_name if (of_name >= 0).any() else None,
            *self._compared(table, of_points, received=received),
        )

    def _made_of(self, definition: Derived, codes: Codes) -> Codes:
        """The codes of the series that a definition makes of others, by theirs; -1 in METER if it takes one not.

        What is made depends on meter and unit, which few are different of.
        """
        made = codes.copy()
        texts = self.targets.texts

        def text_of(dimension: int, code: int) -> str | None:
            found: str | None = texts[dimension].of(np.array([code]))[0].as_py()
            return found

        pairs, of = np.unique(codes[:, METER].astype(np.int64) << 32 | codes[:, UNIT], return_inverse=True)
        meters, units = (np.full(len(pairs), -1, np.int32) for _ in range(2))
        for n, pair in enumerate(pairs.tolist()):
            meter, unit = text_of(METER, pair >> 32) or "", text_of(UNIT, pair & 0xFFFFFFFF)
            if not definition.takes(meter, unit):
                continue
            name = definition.named(meter)
            meters[n], units[n] = texts[METER].code(name), texts[UNIT].code(definition.unit_of(unit))
            if definition.kind in OF_POINTS:
                self.made_by.setdefault(name, definition)
        made[:, METER], made[:, UNIT] = meters[of], units[of]
        if definition.type:
            made[:, TYPE] = texts[TYPE].code(definition.type)
        return made

    def _compared(
        self, table: SeriesTable, of_points: Sequence[tuple[Derived, npt.NDArray[np.int32]]], *, received: bool
    ) -> tuple[Flags | None, Flags | None, Carried]:
        """The last fields of `_Applied`.

        A series that may be received on one day and derived on another is only compared within a day: on each day it is
        of one kind, whatever is computed together.
        """
        compared = np.zeros(len(table), np.bool_)
        for definition, target in of_points:
            if definition.kind != "convert":
                compared |= target >= 0
        compared &= table.kinds != CUMULATIVE
        if not compared.any():
            return None, None, NOTHING_CARRIED
        self.compared.append(table.ids[compared])
        of_day = np.array([any(each.may_make(name) for each in self.definitions) for name in table.meter_names])
        return compared, of_day[table.meters], self._carried(table, compared, received)

    def _taken(self, applied: _Applied, source: Source) -> Taken:
        taken = Taken()
        good = source.good
        if not len(good):
            return taken
        described: list[tuple[Ints, Flags] | None] = []

        def metadata() -> tuple[Ints, Flags] | None:
            if not described:
                described.append(source.metadata())
            return described[0]

        first, last = int(good.place[0]), int(good.place[-1]) + 1
        for n, (definition, target) in enumerate(applied.of_points):
            if (target[first:last] >= 0).any():
                withheld = applied.withheld[n] if applied.withheld else _NO_INTS
                a, b = np.searchsorted(withheld, (_at_day(first, -_DAYS), _at_day(last, -_DAYS)))
                made, waiting = self._of_points(definition, target, applied, source, metadata, withheld[a:b])
                taken.made.append(made)
                if waiting is not None:
                    taken.waiting.append(waiting)
        if applied.in_buckets is not None and (applied.in_buckets[first:last] >= 0).any():
            found = metadata() if any(e.metadata for e in self.definitions if e.kind not in OF_POINTS) else None
            taken.values.append(values_of_buckets(applied.in_buckets, applied.table, source, found, self._hold))
        return taken

    def _days(self, applied: _Applied, received_on: Callable[[Flags], tuple[Ints, Ints]]) -> Received:
        """Of which derived meters samples are among the points."""
        if applied.received is None:
            return Received()
        places, days = received_on(applied.received >= 0)
        return Received.of_series(self.targets, applied.received[places], days)

    def _withheld(self, applied: _Applied, days: Ints | None) -> _Applied:
        """The same with where no points are made, because the derived meter itself was received.

        Series of which none is made on any of the days are left out.
        """
        found, of_points = [], []
        for definition, target in applied.of_points:
            places = np.flatnonzero(target >= 0)
            at, day = self._without.days(self.targets, target[places])
            found.append(_at_day(places[at], day))
            if days is not None:
                withheld = np.bincount(at[np.isin(day, days)], minlength=len(places)) == len(days)
                target = target.copy()
                target[places[withheld]] = -1
            of_points.append((definition, target))
        return replace(applied, of_points=tuple(of_points), withheld=tuple(found))

    def _complete_alone(self, applied: _Applied) -> Flags:
        """Which targets, by number, get points of one received series only; the last one stands for all others."""
        numbers = np.concatenate([_NO_INTS, *(target[target >= 0] for _, target in applied.of_points)])
        alone: Flags = np.bincount(numbers, minlength=len(self.targets) + 1) == 1
        of_buckets = {each.name for each in self.definitions if each.kind not in OF_POINTS}
        derived = of_buckets.union(*(self._reached(name) for name in applied.table.meter_names))
        shared = of_buckets.union(*(self._reached(name) for name in derived))
        alone[:-1] &= ~self.targets.texts[METER].among(shared)[self.targets.codes[:, METER]]
        alone[-1] = False
        return alone

    def _of_points(
        self,
        definition: Derived,
        target_of: npt.NDArray[np.int32],
        applied: _Applied,
        source: Source,
        metadata: Callable[[], tuple[Ints, Flags] | None],
        withheld: Ints,
    ) -> tuple[NewPoints, Waiting | None]:
        """One point for each good point of the definition's sources in the computed hours, if it has a value."""
        good, table = source.good, applied.table
        target = target_of[good.place]
        keep = target >= 0
        keep &= self._hold(good.time)
        rows = np.flatnonzero(keep)
        if len(withheld):
            at = _at_day(good.place[rows].astype(np.int64), good.time[rows] // DAY)
            heads = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1]))[: len(at)])
            rows = rows[np.repeat(~np.isin(at[heads], withheld), np.diff(np.append(heads, len(at))))]
        if definition.kind == "convert":
            value = good.volume[rows]
        else:
            value, seconds = _changes(good, rows, applied, self._carry_hours)
            if definition.growth_only:
                value = np.where(value < 0, np.nan, value)
            if definition.kind == "rate":
                with np.errstate(all="ignore"):
                    value = value / seconds
            fine = np.isfinite(value)
            rows, value = rows[fine], value[fine]
        is_delta = table.kinds[good.place[rows]] == DELTA
        sample = good.time[rows].copy()
        if is_delta.any():
            sample[is_delta] ^= source.identify(rows[is_delta])
        made = NewPoints(target[rows], good.time[rows], value, source.recorded[rows], mixed(sample))
        volume = good.volume[rows]
        if not definition.metadata:
            return self._scaled(definition, made, volume, {}), None
        found = metadata()
        none = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        ids, there = none if found is None else (found[0][rows], found[1][rows])
        columns = {path: self._read.numbers_of(path, ids, there) for path in definition.metadata}
        lacking = without_any(columns)
        if not lacking.any():
            return self._scaled(definition, made, volume, columns), None
        waiting = Waiting(definition, some(made, lacking), volume[lacking], ids[lacking], there[lacking])
        columns = {path: column[~lacking] for path, column in columns.items()}
        return self._scaled(definition, some(made, ~lacking), volume[~lacking], columns), waiting

    def _made_of_buckets(self, definition: Derived) -> NewPoints | None:
        """The points of an arithmetic or aggregated meter, from all values that there are."""
        if not self._values:
            return None
        self._values = [together(self._values)]
        return self._of_buckets.made(definition, self._values[0])

    def _described(self) -> Iterator[NewPoints]:
        """The points that waited, with the metadata of their resources."""
        waiting, self._waiting = self._waiting, []
        for definition in dict.fromkeys(each.definition for each in waiting):
            parts = [each for each in waiting if each.definition is definition]
            made = together([each.made for each in parts])
            volume, ids, there = (
                np.concatenate([getattr(each, name) for each in parts]) for name in ("volume", "metadata", "described")
            )
            columns = self._read.numbers(definition.metadata, made.target, made.time, ids, there)
            yield self._scaled(definition, made, volume, columns)

    def _scaled(
        self, definition: Derived, made: NewPoints, volume: Floats, columns: Mapping[Path, Floats]
    ) -> NewPoints:
        """The points with their volumes times the scale, or by the expression of the source's volume and metadata."""
        how: Expression | float = definition.scale if definition.expression is None else definition.expression
        value = made.volume
        if isinstance(how, Expression):
            given = {each: columns[each.path] if each.path else volume for each in how.inputs}
            factor = how.compute(given, len(value))
            value = factor if definition.expression is not None else value * factor
        elif how != 1.0:
            value = value * how
        if definition.maximum is not None:
            value = np.minimum(value, definition.maximum)
        return finite(replace(made, volume=value))

    def _judged(self, made: NewPoints) -> Iterator[Judged]:
        """The derived points that stay, judged."""
        made = self._kept(made)
        if not len(made.target):
            return
        numbers = np.unique(made.target)
        table, targets = self.targets.table(numbers)
        place_of = np.zeros(int(numbers[-1]) + 1, np.int32)
        place_of[targets] = np.arange(len(targets), dtype=np.int32)
        place = place_of[made.target]
        order = np.lexsort((made.time, place))
        place, made = place[order], some(made, order)
        rules = SeriesRules.of(self._rules, table)
        counters = table.kinds == CUMULATIVE
        carried = self._carried(table, counters, False) if counters.any() else NOTHING_CARRIED
        edges = _edges(place, POINTS_AT_ONCE)
        for first, last in pairwise(edges):
            part, places = some(made, slice(first, last)), place[first:last]
            is_delta = table.kinds[places] == DELTA

            def identify(rows: Ints, part: NewPoints = part, is_delta: Flags = is_delta) -> tuple[Ints, Flags]:
                return part.sample[rows], is_delta[rows]

            points = Points(places, part.time, part.volume, part.recorded, identify)
            inside = (carried.place >= places[0]) & (carried.place <= places[-1])
            before = Carried(carried.place[inside], carried.time[inside], carried.volume[inside])
            yield Judged(table, points, judge(table, rules, points, before, self._carry_hours), part.sample, targets)

    def _kept(self, made: NewPoints) -> NewPoints:
        """The points without those of a day, meter and resource of which samples were received."""
        if not self._without:
            return made
        day = made.time // DAY
        heads = np.ones(len(day), np.bool_)  # of runs of points of a series and day
        heads[1:] = (made.target[1:] != made.target[:-1]) | (day[1:] != day[:-1])
        kept = ~self._without.hold(self.targets, made.target[heads], day[heads])
        return made if kept.all() else some(made, kept[np.cumsum(heads) - 1])

    def rows(self, judged: Judged) -> pa.Table:
        """Derived points as rows of the lake's table `derived`; `metadata_id` and `origin` are left out.

        Texts are dictionaries.
        """
        points = judged.points
        at = pa.array(points.place)
        columns: dict[str, Any] = {
            "event_day": pa.array((points.time // DAY).astype(np.int32)).cast(pa.date32()),
            "series_id": judged.table.ids[points.place],
            "timestamp": pa.array(points.time).cast(TIME),
            "volume": points.volume + 0.0,
            "sample_id": pa.array(judged.sample, mask=judged.table.kinds[points.place] != DELTA),
            "recorded_at": pa.array(points.recorded).cast(TIME),
        }
        for i, name in enumerate(DIMENSIONS):
            texts = self.targets.column(i, judged.targets)
            columns[name] = pa.DictionaryArray.from_arrays(texts.indices.take(at), texts.dictionary)
        return pa.table(columns)


def _source_of(judged: Judged) -> Source:
    """Derived points as the source of further ones."""
    good = judged.verdicts.good
    rows = slice(None) if good.rows is None else good.rows
    recorded, sample = judged.points.recorded[rows], judged.sample[rows]
    return Source(judged.table, good, recorded, lambda: None, lambda at: sample[at])


def _changes(good: Good, rows: Ints, applied: _Applied, carry_hours: int) -> tuple[Floats, Floats]:
    """By how much these points are above the previous ones of their series, and how many seconds these are before.

    A counter's change is its increase. A gauge's is the difference, and a delta's its volume. NaN where there is no
    previous point within the carry time, or where it has the same time.
    """
    kind = applied.table.kinds[good.place[rows]]
    change, since = np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
    counters = kind == CUMULATIVE
    if good.increase is not None and good.since is not None:
        at = rows[counters]
        change[counters], since[counters] = good.increase[at], good.since[at]
    others = np.flatnonzero(~counters)
    if len(others):
        at = rows[others]
        volume, time = _previous(good, applied)
        since[others] = good.time[at] - time[at]
        since[others[since[others] > carry_hours * HOUR]] = 0
        change[others] = np.where(kind[others] == DELTA, good.volume[at], good.volume[at] - volume[at])
    nothing = since <= 0
    change[nothing] = np.nan
    return change, np.where(nothing, np.nan, since / 1e6)


def _at_day(place: Any, day: Any) -> Any:
    """A number for a place and a day since 1970, in the order of places and then of days."""
    return place * (2 * _DAYS) + day + _DAYS


def _previous(good: Good, applied: _Applied) -> tuple[Floats, Ints]:
    """Volume and time of the point before each one of its series; the time is in the future if there is none."""
    place, time = good.place, good.time
    volume, at = np.empty(len(good)), np.empty(len(good), np.int64)
    head = np.concatenate(([True], place[1:] != place[:-1]))
    volume[1:], at[1:] = good.volume[:-1], time[:-1]
    volume[head], at[head] = np.nan, _FUTURE
    carried = carried_to(applied.carried, place)
    if len(carried.place):
        rows, before = carried_before(place, time, head, carried)
        volume[rows], at[rows] = carried.volume[before], carried.time[before]
    if applied.of_day is not None:
        at[applied.of_day[place] & (at // DAY != time // DAY)] = _FUTURE
    return volume, at


def _edges(place: Places, size: int) -> list[int]:
    """Cuts between series, about every `size` points."""
    heads = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
    wanted = np.arange(size, len(place), size)
    cuts = heads[np.minimum(np.searchsorted(heads, wanted), len(heads) - 1)]
    return sorted({0, *cuts.tolist(), len(place)})
