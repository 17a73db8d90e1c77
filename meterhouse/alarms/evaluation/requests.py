"""What the windows of many rules ask for, in columns: rules whose conditions have the same form are asked together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.alarms.definitions.wanted import STATISTICS, Wanted
from meterhouse.filters import SERIES, And, Condition, Filter, fields_of, on_lake, parse
from meterhouse.filters.conditions import NUMBER
from meterhouse.filters.fields import METADATA, Field
from meterhouse.stores.duck import quoted

NOTHING: Final = -1
"""The code of an empty `over_series`."""

Form = tuple[str, ...]
"""Conditions in DuckDB's SQL on a series `d` and the values of a rule, `a.v0`, `a.v1` and so on."""


@dataclass(frozen=True)
class Shape:
    """Rules whose conditions differ in their values only.

    Attributes:
        form: the conditions.
        numbers: of the requests.
        values: a column for each value of the conditions, as long as `numbers`.
        by_metadata: whether it reads the metadata of samples.
    """

    form: Form
    by_metadata: bool
    numbers: npt.NDArray[np.int64]
    values: Sequence[pa.Array]


@dataclass(frozen=True)
class Requests:
    """Windows that are asked for, by number.

    Attributes:
        names: of meters, each once.
        meter: of each, a place in `names`.
        statistic: of each, a place in STATISTICS.
        period: of each, in seconds.
        keep: how many of its periods decide.
        look_back: how many more its window has.
        exclude_outliers: whether periods with an unusual number of points are left out.
        aligned: whether its periods begin at multiples of their length.
        over: how the statistics of its series are put together, a place in STATISTICS, or NOTHING.
        shapes: their conditions.
        keys: of metadata that conditions read: the column `k0` of a series has the value of the first one.
        resources: the only resources that can meet the conditions; None if others can.
    """

    names: Sequence[str]
    meter: npt.NDArray[np.int32]
    statistic: npt.NDArray[np.int8]
    period: npt.NDArray[np.int64]
    keep: npt.NDArray[np.int64]
    look_back: npt.NDArray[np.int64]
    exclude_outliers: npt.NDArray[np.bool_]
    aligned: npt.NDArray[np.bool_]
    over: npt.NDArray[np.int8]
    shapes: Sequence[Shape]
    keys: Sequence[str]
    resources: frozenset[str] | None = None

    def __len__(self) -> int:
        return len(self.meter)

    @property
    def meters(self) -> list[str]:
        """The meters that are asked for, each once."""
        return [self.names[place] for place in np.unique(self.meter).tolist()]

    @property
    def length(self) -> npt.NDArray[np.int64]:
        """How far each window reaches back at least, in µs."""
        found: npt.NDArray[np.int64] = self.period * (self.keep + self.look_back) * 1_000_000
        return found

    def some(self, chosen: npt.NDArray[np.int64]) -> "Requests":
        """Some of them, which get new numbers, in their order."""
        number = np.full(len(self), NOTHING, np.int64)
        number[chosen] = np.arange(len(chosen))
        shapes = []
        for shape in self.shapes:
            new = number[shape.numbers]
            at = np.flatnonzero(new >= 0)
            if len(at):
                values = [column.take(pa.array(at)) for column in shape.values]
                shapes.append(Shape(shape.form, shape.by_metadata, new[at], values))
        return replace(self._columns(chosen), shapes=shapes)

    def _columns(self, chosen: npt.NDArray[np.int64]) -> "Requests":
        return replace(
            self,
            meter=self.meter[chosen],
            statistic=self.statistic[chosen],
            period=self.period[chosen],
            keep=self.keep[chosen],
            look_back=self.look_back[chosen],
            exclude_outliers=self.exclude_outliers[chosen],
            aligned=self.aligned[chosen],
            over=self.over[chosen],
        )

    def followed_by(self, others: "Requests") -> "Requests":
        """These, and then others, whose conditions were sorted with the keys of these, see `Conditions`."""
        if not len(others):
            return self
        names = list(dict.fromkeys((*self.names, *others.names)))
        place = np.array([names.index(name) for name in others.names], np.int32)
        count = len(self)
        shifted = [replace(shape, numbers=shape.numbers + count) for shape in others.shapes]
        joint = None
        if self.resources is not None and others.resources is not None:
            joint = self.resources | others.resources
        return Requests(
            names,
            np.concatenate((self.meter, place[others.meter])),
            np.concatenate((self.statistic, others.statistic)),
            np.concatenate((self.period, others.period)),
            np.concatenate((self.keep, others.keep)),
            np.concatenate((self.look_back, others.look_back)),
            np.concatenate((self.exclude_outliers, others.exclude_outliers)),
            np.concatenate((self.aligned, others.aligned)),
            np.concatenate((self.over, others.over)),
            [*self.shapes, *shifted],
            others.keys,
            joint,
        )

    def starts(self, moment: int) -> npt.NDArray[np.int64]:
        """When each window starts that ends at a moment, both in µs since 1970."""
        start, period = moment - self.length, self.period * 1_000_000
        found: npt.NDArray[np.int64] = np.where(self.aligned, start // period * period, start)
        return found


@dataclass
class _Shape:
    """A shape that is being made."""

    form: Form
    by_metadata: bool
    values: list[list[Any]]
    numbers: list[int] = field(default_factory=list)


class Conditions:
    """Sorts the conditions of rules by their form.

    Args:
        keys: of metadata that other requests read already.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys: dict[str, int] = {key: number for number, key in enumerate(keys)}
        self._shapes: dict[Form, _Shape] = {}
        self._of_query: dict[tuple[Any, ...], _Shape] = {}
        self._of_where: dict[str, list[Condition]] = {}
        self._resources: set[str] | None = set()

    def add(self, number: int, query: Sequence[Any], where: str) -> None:
        """Take the conditions of a request.

        Args:
            number: the request's.
            query: conditions with `field`, `op` and `value`.
            where: a further condition as a text; empty for none.

        Raises:
            UsageError: one of them is no condition.
        """
        found = tuple([(each.field, each.op) for each in query])
        shape = None if where else self._of_query.get(found)
        if shape is None:
            self._add_other(number, query, where, found)
        else:
            shape.numbers.append(number)
            for column, each in zip(shape.values, query, strict=True):
                column.append(each.value)
        if self._resources is not None:
            only = next((each.value for each in query if each.op == "eq" and each.field in RESOURCE), None)
            if only is None or len(self._resources) == FEW:
                self._resources = None
            else:
                self._resources.add(only)

    def _add_other(self, number: int, query: Sequence[Any], where: str, found: tuple[Any, ...]) -> None:
        """As `add`, for a form that was not seen before, or one with a `where`."""
        parts: list[str] = []
        values: list[Any] = []
        by_metadata, plain = False, True
        for each in query:
            leaf = Filter(each.field, each.op, each.value, SERIES)
            more, operands = self._compiled(leaf, len(values))
            plain &= operands == [each.value]
            by_metadata |= leaf.target.column == METADATA
            parts.append(more)
            values += operands
        if where:
            for part in self._parts(where):
                more, operands = self._compiled(part, len(values))
                by_metadata |= any(each.column == METADATA for each in fields_of(part))
                parts.append(more)
                values += operands
        form = tuple(parts)
        shape = self._shapes.get(form)
        if shape is None:
            shape = self._shapes[form] = _Shape(form, by_metadata, [[] for _ in values])
        if plain and not where:
            self._of_query[found] = shape
        shape.numbers.append(number)
        for column, value in zip(shape.values, values, strict=True):
            column.append(value)

    def _parts(self, where: str) -> list[Condition]:
        """The conditions of a text, which many rules may share."""
        if where not in self._of_where:
            condition = parse(where, SERIES)
            self._of_where[where] = list(condition.parts) if isinstance(condition, And) else [condition]
        return self._of_where[where]

    def _compiled(self, condition: Condition, first: int) -> tuple[str, list[Any]]:
        """A condition on `d`, and its values, of which the first is `a.v{first}`."""
        if isinstance(condition, Filter) and condition.op == "eq" and condition.target.type == "loose":
            # As a comparison of normal forms, by which a join finds the rows.
            return f"{_normal(self._column(condition.target))} = {_normal(f'a.v{first}')}", [condition.value]
        sql, given = on_lake(condition, self._column)
        values: list[Any] = []
        pieces = sql.split("?")
        made = [pieces[0]]
        for value, piece in zip(given, pieces[1:], strict=True):
            if value == NUMBER:
                made += [quoted(NUMBER), piece]
            else:
                made += [f"a.v{first + len(values)}", piece]
                values.append(value)
        return f"({''.join(made)})", values

    def _column(self, target: Field) -> str:
        if target.column != METADATA:
            return f"d.{target.column}"
        return f"d.k{self.keys.setdefault(target.key, len(self.keys))}"

    @property
    def shapes(self) -> list[Shape]:
        """The forms that were found."""
        return [
            Shape(each.form, each.by_metadata, np.array(each.numbers, np.int64), [pa.array(v) for v in each.values])
            for each in self._shapes.values()
        ]

    @property
    def resources(self) -> frozenset[str] | None:
        """The only resources that can meet the conditions, if they are few; otherwise None."""
        return frozenset(self._resources) if self._resources else None


RESOURCE: Final = ("resource_id", "resource")
"""The names of the field whose value is the resource."""

FEW: Final = 500
"""Up to so many resources are asked for by their ids."""


def _normal(text: str) -> str:
    """An expression that is the same for loose values that are equal: numbers as numbers, others as texts."""
    number = f"'n' || (try_cast({text} AS DOUBLE) + 0.0)"
    return f"CASE WHEN regexp_matches({text}, {quoted(NUMBER)}) THEN {number} ELSE 't' || {text} END"


def requests_of(wanted: Iterable[Wanted]) -> Requests:
    """What these windows ask for.

    Raises:
        UsageError: a condition is none.
    """
    listed = list(wanted)
    conditions = Conditions()
    for number, each in enumerate(listed):
        conditions.add(number, each.query, each.where)
    return gathered((), listed, conditions)


class Rule(Protocol):
    """What is read of a threshold rule; see there."""

    @property
    def meter_name(self) -> str: ...
    @property
    def statistic(self) -> str: ...
    @property
    def period(self) -> int: ...
    @property
    def evaluation_periods(self) -> int: ...
    @property
    def exclude_outliers(self) -> bool: ...


def gathered(rules: Sequence[Rule], wanted: Sequence[Wanted], conditions: Conditions) -> Requests:
    """The windows of rules, and then others.

    Args:
        rules: threshold rules.
        wanted: further windows.
        conditions: those of all of them, in this order.
    """
    codes = {name: code for code, name in enumerate(STATISTICS)}

    def column(of_rules: Iterable[Any], of_others: Iterable[Any], kind: Any) -> npt.NDArray[Any]:
        return np.array([*of_rules, *of_others], kind)

    meters = [*(r.meter_name for r in rules), *(w.meter_name for w in wanted)]
    named = pa.array(meters, pa.string()).dictionary_encode()
    keep = column((r.evaluation_periods for r in rules), (w.evaluation_periods for w in wanted), np.int64)
    outliers = column((r.exclude_outliers for r in rules), (w.exclude_outliers for w in wanted), np.bool_)
    one = np.ones(len(rules), np.int64)
    return Requests(
        named.dictionary.to_pylist(),
        named.indices.to_numpy().astype(np.int32),
        column((codes[r.statistic] for r in rules), (codes[w.statistic] for w in wanted), np.int8),
        column((r.period for r in rules), (w.period for w in wanted), np.int64),
        keep,
        column(np.where(outliers[: len(rules)], keep[: len(rules)], one), (w.look_back for w in wanted), np.int64),
        outliers,
        column((False for _ in rules), (w.aligned for w in wanted), np.bool_),
        column((NOTHING for _ in rules), (codes[w.over_series] if w.over_series else NOTHING for w in wanted), np.int8),
        conditions.shapes,
        list(conditions.keys),
        conditions.resources,
    )
