"""Which events meet which conditions, for all events and all alarms together.

Each alarm's cheapest condition finds the events that may be its own: the values of a trait are put in order once, so
that a comparison is a range of them. Only what is found so is compared with the alarm's other conditions. So the work
grows with what matches, not with events times alarms.

If just one of a trait and a condition's value is a text, it is read as the other's type. If it cannot be read so, or if
both are of different types, the two are different: `ne` holds, and no other comparison. So it is with a trait that an
event does not have.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from functools import lru_cache
from re import compile as compiled
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.alarms.definitions.rules.event import Trait
from meterhouse.alarms.definitions.rules.value_types import typed
from meterhouse.timestamps import parse_utc

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

EVENTS_AT_ONCE: Final = 20_000
PAIRS_AT_ONCE: Final = 2_000_000
CELLS: Final = 20_000_000
"""How many values of traits are looked at together."""

TYPES_KEPT: Final = 2_000
"""For how many types of events it is kept which interests are about them."""

PROJECT: Final = "project"
"""The field of an event that has its project: the trait `project_id`, or else `tenant_id`."""

TRAITS: Final = "traits."
NUMBERS: Final = ("integer", "float")


@dataclass(frozen=True)
class Interest:
    """Events that an alarm is about.

    Attributes:
        event_type: a glob.
        query: conditions that all have to hold.
        project_id: the project that the events have to be of; None for any.
    """

    event_type: str
    query: tuple[Trait, ...] = ()
    project_id: str | None = None


Reading = Callable[[str, Any], Any]
"""Reads a value of a trait by its type; None if it cannot be read so."""


def _own_text(dtype: str, value: Any) -> Any:
    return value if dtype == "text" else None


def _own_number(dtype: str, value: Any) -> Any:
    return number(value) if dtype in NUMBERS else None


def _own_time(dtype: str, value: Any) -> Any:
    return instant(value) if dtype == "datetime" else None


def _number(dtype: str, value: Any) -> Any:
    return None if dtype == "datetime" else number(value)


def _instant(dtype: str, value: Any) -> Any:
    return None if dtype in NUMBERS else instant(value)


def _flag(dtype: str, value: Any) -> Any:
    try:
        return typed(value, "boolean") if dtype in ("text", "integer") else None
    except ValueError:
        return None


def number(text: str) -> int | float | None:
    """The number that a text is; None if it is none."""
    for kind in (int, float):
        try:
            found = kind(text)
        except (ValueError, OverflowError):
            continue
        return None if found != found else found
    return None


def instant(value: str | int) -> int | None:
    """The µs since 1970, UTC, of a time; None if the text is none."""
    if isinstance(value, int):
        return value
    try:
        return times.micros(parse_utc(value).replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _readings(condition: Trait) -> list[tuple[Reading, Any]]:
    """How the values are read that a condition compares, and with what they are compared; each value has one reading.

    Raises:
        ValueError, UsageError: the condition's value is not of its type.
    """
    value = typed(condition.value, condition.type)
    match condition.type:
        case "integer" | "float":
            return [] if value != value else [(_number, value)]
        case "boolean":
            return [(_flag, value)]
        case "datetime":
            return [(_instant, times.micros(value))]
    beside = ((_own_number, number(value)), (_own_time, instant(value)))
    return [(_own_text, value), *((reading, other) for reading, other in beside if other is not None)]


_RANGES: Final[Mapping[str, Callable[[int, int, int], tuple[int, int]]]] = {
    "eq": lambda low, high, count: (low, high),
    "lt": lambda low, high, count: (0, low),
    "le": lambda low, high, count: (0, high),
    "gt": lambda low, high, count: (high, count),
    "ge": lambda low, high, count: (low, count),
}
"""Comparison → which of the distinct values meet it, of `count` in order, `low` to `high` of which are the same."""


@dataclass(frozen=True)
class _Ranking:
    """The values of a field, read in one way, in order.

    Attributes:
        values: each once.
        rank: of each event's value, a place in `values`; -1 for none.
        rows: the events that have a value, in its order.
        starts: where those of each value start in `rows`.
    """

    values: list[Any]
    rank: npt.NDArray[np.int32]
    rows: Ints
    starts: Ints

    @classmethod
    def of(cls, column: "_Column", reading: Reading, count: int) -> "_Ranking":
        read = [reading(dtype, value) for dtype, value in column.distinct]
        values = sorted({each for each in read if each is not None})
        places = {value: place for place, value in enumerate(values)}
        of_distinct = np.array([-1 if each is None else places[each] for each in read], np.int32)
        rank = np.full(count, -1, np.int32)
        rank[column.rows] = of_distinct[column.which]
        order = np.argsort(rank, kind="stable")
        rows = order[np.count_nonzero(rank < 0) :]
        return cls(values, rank, rows, np.searchsorted(rank[rows], np.arange(len(values) + 1)))

    def range(self, op: str, value: Any) -> tuple[int, int]:
        """The places in `values` of those that meet a comparison."""
        low = bisect_left(self.values, value)
        return _RANGES[op](low, bisect_right(self.values, value, low), len(self.values))


@dataclass(frozen=True)
class _Column:
    """The values of a field.

    Attributes:
        rows: the events that have one.
        which: which of `distinct` each of these has.
        distinct: type and value.
    """

    rows: Ints
    which: Ints
    distinct: list[tuple[str, Any]]


class _Events:
    """Some events, whose fields are looked up as they are needed."""

    def __init__(self, events: pa.Table) -> None:
        self.count = len(events)
        self._events = events
        self._rankings: dict[tuple[str, Reading], int] = {}
        self.rankings: list[_Ranking] = []
        traits = events["traits"].combine_chunks()
        self._parents: Ints = pc.list_parent_indices(traits).to_numpy()
        flat = pc.list_flatten(traits)
        self._traits = {name: flat.field(place) for place, name in enumerate(("name", "dtype", "value"))}
        self._names = self._traits["name"].dictionary_encode()
        self._codes: npt.NDArray[np.int32] = self._names.indices.to_numpy(zero_copy_only=False)

    def ranking(self, field: str, reading: Reading) -> int:
        """The number of a ranking."""
        key = field, reading
        if key not in self._rankings:
            self._rankings[key] = len(self.rankings)
            self.rankings.append(_Ranking.of(self._column(field), reading, self.count))
        return self._rankings[key]

    def _column(self, field: str) -> _Column:
        if field == PROJECT:
            own = self._trait("project_id", "tenant_id")
            return _Column(own.rows, own.which, [("text", value) for _, value in own.distinct])
        if field.startswith(TRAITS):
            return self._trait(field.removeprefix(TRAITS))
        values, dtype = self._events[field].combine_chunks(), "text"
        if field == "generated":
            values, dtype = values.cast(pa.int64()), "datetime"
        rows = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        encoded = values.drop_null().dictionary_encode()
        return _Column(rows, encoded.indices.to_numpy(), [(dtype, value) for value in encoded.dictionary.to_pylist()])

    def _trait(self, *names: str) -> _Column:
        """The first of these traits that each event has."""
        known = self._names.dictionary.to_pylist()
        places = [np.flatnonzero(self._codes == known.index(name)) for name in names if name in known]
        at = np.concatenate([np.zeros(0, np.int64), *places])
        rows, first = np.unique(self._parents[at], return_index=True)
        taken = pa.array(at[first])
        pairs = [self._traits[name].take(taken).dictionary_encode() for name in ("dtype", "value")]
        dtypes, values = (pair.dictionary.to_pylist() for pair in pairs)
        of_dtype, of_value = (pair.indices.fill_null(-1).to_numpy().astype(np.int64) for pair in pairs)
        there = (of_dtype >= 0) & (of_value >= 0)
        both, which = np.unique(of_dtype[there] * max(len(values), 1) + of_value[there], return_inverse=True)
        distinct = [(dtypes[each // len(values)], values[each % len(values)]) for each in both.tolist()]
        return _Column(rows[there], which, distinct)


class Matcher:
    """Finds the events that interests are about.

    Args:
        interests: what they are about; the pairs name them by their places.

    Raises:
        ValueError, UsageError: a condition's value is not of its type.
    """

    def __init__(self, interests: Sequence[Interest]) -> None:
        self._globs = [interest.event_type for interest in interests]
        self._about: dict[str, Ints] = {}
        known: dict[tuple[str, str, str, str], int] = {}
        self._conditions: list[tuple[str, str, bool, list[tuple[Reading, Any]]]] = []
        self._of: list[list[int]] = []
        for interest in interests:
            wanted = list(interest.query)
            if interest.project_id is not None:
                wanted.insert(0, Trait(PROJECT, "eq", interest.project_id))
            numbers = []
            for each in wanted:
                key = each.field, each.op, each.value, each.type
                if key not in known:
                    known[key] = len(self._conditions)
                    op, negated = ("eq", True) if each.op == "ne" else (each.op, False)
                    self._conditions.append((each.field, op, negated, _readings(each)))
                numbers.append(known[key])
            self._of.append(numbers)
        self._rankings = len({(field, reading) for field, *_, parts in self._conditions for reading, _ in parts})

    def __len__(self) -> int:
        return len(self._globs)

    def pairs(self, events: pa.Table, active: Flags | None = None) -> tuple[Ints, Ints]:
        """The places of events, and of the interests that are about them: by event, then by interest.

        Args:
            events: the columns message_id, event_type, generated and traits.
            active: which interests to look at; default all.
        """
        none = np.zeros(0, np.int64)
        found = [(none, none)]
        step = max(1, min(EVENTS_AT_ONCE, CELLS // max(self._rankings, 1)))
        for start in range(0, len(events), step):
            for event, interest in self._some(events.slice(start, step), active):
                found.append((event + start, interest))
        event = np.concatenate([each for each, _ in found])
        interest = np.concatenate([each for _, each in found])
        order = np.lexsort((interest, event))
        return event[order], interest[order]

    def _some(self, events: pa.Table, active: Flags | None) -> Iterator[tuple[Ints, Ints]]:
        types = events["event_type"].combine_chunks().dictionary_encode()
        names = [name or "" for name in types.dictionary.to_pylist()]
        code = types.indices.fill_null(0).to_numpy()
        of_glob = {glob: _matching(glob, names) for glob in set(self._globs)}
        alive = [
            place for place, glob in enumerate(self._globs) if (active is None or active[place]) and len(of_glob[glob])
        ]
        if alive:
            yield from _Search(self, _Events(events), alive, of_glob, code, len(names)).pairs()

    def about(self, event_type: str) -> Ints:
        """The interests whose glob matches a type of events."""
        found = self._about.get(event_type)
        if found is None:
            matching = {glob for glob in set(self._globs) if _glob(glob)(event_type)}
            found = np.array([place for place, glob in enumerate(self._globs) if glob in matching], np.int64)
            if len(self._about) < TYPES_KEPT:
                self._about[event_type] = found
        return found

    def glob(self, interest: int) -> str:
        """The glob of an interest."""
        return self._globs[interest]

    def conditions(self, interest: int) -> list[int]:
        """The numbers of an interest's conditions."""
        return self._of[interest]

    def condition(self, number: int) -> tuple[str, str, bool, list[tuple[Reading, Any]]]:
        """A condition: its field, its comparison, whether it is negated, and what it compares."""
        return self._conditions[number]


class _Search:
    """Looks for the pairs of some events."""

    def __init__(
        self,
        matcher: Matcher,
        events: _Events,
        alive: list[int],
        of_glob: Mapping[str, list[int]],
        code: npt.NDArray[np.int32],
        types: int,
    ) -> None:
        self._matcher, self._events, self._alive, self._of_glob = matcher, events, alive, of_glob
        self._code = code
        self._by_type = np.argsort(code, kind="stable")
        self._type_starts = np.searchsorted(code[self._by_type], np.arange(types + 1))
        self._ranges: dict[int, tuple[bool, list[tuple[int, int, int]]]] = {}
        self._slices: dict[str, list[Ints]] = {}
        self._stacked = np.zeros((0, 0), np.int32)

    def pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """The pairs, in pieces."""
        pieces: list[tuple[int, Ints]] = []
        count = 0
        for place in self._alive:
            for rows in self._candidates(place):
                pieces.append((place, rows))
                count += len(rows)
                if count >= PAIRS_AT_ONCE:
                    yield self._checked(pieces)
                    pieces, count = [], 0
        if pieces:
            yield self._checked(pieces)

    def _candidates(self, place: int) -> list[Ints]:
        """The events that may be an interest's: those that its cheapest condition finds."""
        rows = self._of_types(self._matcher.glob(place))
        best = sum(map(len, rows))
        for condition in self._matcher.conditions(place):
            negated, ranges = self._range(condition)
            if negated:
                continue
            slices = []
            for number, low, high in ranges:
                ranking = self._events.rankings[number]
                slices.append(ranking.rows[ranking.starts[low] : ranking.starts[high]])
            size = sum(map(len, slices))
            if size < best:
                best, rows = size, slices
            if not best:
                return []
        return rows

    def _of_types(self, glob: str) -> list[Ints]:
        """The events whose type a glob matches."""
        if glob not in self._slices:
            bounds = [(self._type_starts[each], self._type_starts[each + 1]) for each in self._of_glob[glob]]
            self._slices[glob] = [np.concatenate([self._by_type[start:end] for start, end in bounds])]
        return self._slices[glob]

    def _range(self, condition: int) -> tuple[bool, list[tuple[int, int, int]]]:
        """Whether a condition is negated, and the ranges that meet it: the ranking's number, from and to."""
        if condition not in self._ranges:
            field, op, negated, readings = self._matcher.condition(condition)
            ranges = []
            for reading, value in readings:
                number = self._events.ranking(field, reading)
                low, high = self._events.rankings[number].range(op, value)
                if low < high:
                    ranges.append((number, low, high))
            self._ranges[condition] = negated, ranges
        return self._ranges[condition]

    def _checked(self, pieces: Sequence[tuple[int, Ints]]) -> tuple[Ints, Ints]:
        """Of candidates, those that meet all conditions."""
        lengths = np.array([len(rows) for _, rows in pieces])
        owner = np.repeat(np.arange(len(pieces)), lengths)
        event = np.concatenate([rows for _, rows in pieces])
        places = [place for place, _ in pieces]
        keep = self._of_type(places, owner, event)
        owner, event = owner[keep], event[keep]
        conditions = [self._matcher.conditions(place) for place in places]
        for slot in range(max(map(len, conditions), default=0)):
            if not len(owner):
                break
            numbers = np.array([each[slot] if slot < len(each) else -1 for each in conditions], np.int64)
            keep = self._meet(numbers, owner, event)
            owner, event = owner[keep], event[keep]
        return event, np.array(places, np.int64)[owner]

    def _of_type(self, places: Sequence[int], owner: Ints, event: Ints) -> Flags:
        globs = list(dict.fromkeys(self._matcher.glob(place) for place in places))
        numbers = {glob: number for number, glob in enumerate(globs)}
        allowed = np.zeros((len(globs), len(self._type_starts)), np.bool_)
        for glob, number in numbers.items():
            allowed[number, self._of_glob[glob]] = True
        of = np.array([numbers[self._matcher.glob(place)] for place in places], np.int64)
        found: Flags = allowed[of[owner], self._code[event]]
        return found

    def _meet(self, numbers: Ints, owner: Ints, event: Ints) -> Flags:
        """Whether each candidate meets one condition: that with the number of its owner; true for -1."""
        distinct, which = np.unique(numbers, return_inverse=True)
        found = [(False, []) if each < 0 else self._range(each) for each in distinct.tolist()]
        most = max((len(ranges) for _, ranges in found), default=0)
        bounds = np.zeros((3, most, len(distinct)), np.int64)
        for place, (_, ranges) in enumerate(found):
            for n, each in enumerate(ranges):
                bounds[:, n, place] = each
        which = which.ravel()[owner]
        held = np.zeros(len(owner), np.bool_)
        if most and self._events.rankings:
            ranks = self._ranks()
            for n in range(most):
                rank = ranks[bounds[0, n][which], event]
                held |= (rank >= bounds[1, n][which]) & (rank < bounds[2, n][which])
        negated = np.array([each for each, _ in found], np.bool_)[which]
        free = (distinct < 0)[which]
        verdict: Flags = (held != negated) | free
        return verdict

    def _ranks(self) -> npt.NDArray[np.int32]:
        """The rank of each event in each ranking; shape (rankings, events)."""
        if len(self._stacked) != len(self._events.rankings):
            self._stacked = np.stack([ranking.rank for ranking in self._events.rankings])
        return self._stacked


def _matching(glob: str, names: Sequence[str]) -> list[int]:
    """The places of the event types that a glob matches."""
    matches = _glob(glob)
    return [place for place, name in enumerate(names) if matches(name)]


@lru_cache(maxsize=1 << 14)
def _glob(glob: str) -> Callable[[str], Any]:
    if not set("*?[") & set(glob):
        return glob.__eq__
    return compiled(translate(glob)).match


def described(events: pa.Table, place: int) -> dict[str, Any]:
    """An event as it is told: message_id, event_type, generated (ISO, UTC) and traits as lists of name, type, value."""
    (row,) = events.slice(place, 1).to_pylist()
    moment: datetime | None = row["generated"]
    return {
        "message_id": row["message_id"],
        "event_type": row["event_type"],
        "generated": None if moment is None else moment.isoformat(),
        "traits": [[each["name"], each["dtype"], each["value"]] for each in row["traits"] or ()],
    }
