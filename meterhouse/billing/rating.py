"""Rates a month: amounts of what existed and of what counters counted become the lines of bills."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.billing import counting, exact, rules, slices
from meterhouse.billing.counting import Counted, Entry, Instants, Units
from meterhouse.billing.lines import EVIDENCE, KINDS, NOT_PRICED, SCHEMA, TIME, Rated, line_id, line_ids
from meterhouse.billing.matching import Classes, Codes, Column, Mask, Rows, combined
from meterhouse.definitions.prices import DIGITS, Prices, matches, shown_names
from meterhouse.errors import DefinitionError, shown
from meterhouse.verification import VERIFY

_GONE: Final = "deleted"
"""The state of a resource that is not there any more: it costs nothing."""

_ORDER: Final = (
    "resource_type",
    "resource_id",
    "started_at",
    "ended_at",
    "project_id",
    "start_evidence",
    "end_evidence",
)

_ABOUT: Final = ("project_id", "resource_type", "resource_id", "name", "flavor", "zone")
"""The columns of periods and counters that lines have."""

_BY_PLACE: Final = ("metadata", "evidence")
"""The columns of lines that are looked up at last: they may be large, and are copied once."""

Use = tuple[Entry, Mask]
"""A price in a part of the month, and the classes of rows that it is for then."""


class Amounts(Protocol):
    """What existed in a month, and what was counted; `meterhouse.usage.amounts.of_span` makes it."""

    @property
    def periods(self) -> pa.Table:
        """One row a stretch of a resource: the columns of resource_periods, and `metadata` (JSON text)."""

    @property
    def counters(self) -> pa.Table:
        """One row a counter and hour: meter, unit, resource_type, resource_id, project_id, metadata, hour, amount."""


@dataclass
class _Made:
    """The priced lines so far: a list or array for each name."""

    row: list[Codes] = field(default_factory=list)
    last: list[Codes] = field(default_factory=list)
    start: list[Instants] = field(default_factory=list)
    end: list[Instants] = field(default_factory=list)
    cut: list[Instants] = field(default_factory=list)
    entry: list[Codes] = field(default_factory=list)
    band: list[Codes] = field(default_factory=list)
    evidence: list[Codes] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    tier: list[str | None] = field(default_factory=list)
    quantity: list[int] = field(default_factory=list)
    unit_price: list[int] = field(default_factory=list)
    amount: list[int] = field(default_factory=list)
    pieces: list[Codes] = field(default_factory=list)
    piece_row: list[Codes] = field(default_factory=list)
    piece_start: list[Instants] = field(default_factory=list)
    piece_end: list[Instants] = field(default_factory=list)


def rate(amounts: Amounts, prices: Prices, month: str, units: Units) -> Rated:
    """The lines of all projects for a month.

    Args:
        amounts: what existed and was counted in the month; what lies outside is left out. Neither the order of the rows
            nor a further cut of a stretch changes the lines.
        prices: the prices.
        month: `2026-11`, in the time zone of the prices.
        units: the table of units.

    Raises:
        UsageError: the month is not one.
    """
    return _Rating(prices, month, units).of(amounts)


class _Rating:
    def __init__(self, prices: Prices, month: str, units: Units) -> None:
        self.prices, self.units = prices, units
        span = prices.span(month)
        self.month = f"{span[0].astimezone(prices.zone):%Y-%m}"
        self.start, self.end = times.micros(span[0]), times.micros(span[1])
        self.faults, self.notes = list(prices.faults), list[str]()
        self.entries = [
            made
            for number, price in enumerate(prices.prices)
            if (made := counting.entry(price, number, prices, span)) is not None and self._can_be_converted(number)
        ]
        self.made = _Made()

    def _can_be_converted(self, number: int) -> bool:
        what = counting.unconvertible(self.prices.prices[number], self.units)
        if what is not None:
            self._fault(number, what, "Write a unit that units.yaml has, or leave unit out")
        return what is None

    def _fault(self, number: int, what: str, hint: str) -> None:
        where = f"{self.prices.path}:{self.prices.prices[number].line}"
        self.faults.append(DefinitionError(what, where=where, hint=hint))

    def of(self, amounts: Amounts) -> Rated:
        periods, not_priced = self._periods(amounts.periods)
        counters = self._counters(amounts.counters)
        of_time = [each for each in self.entries if each.price.per is not None]
        of_counters = [each for each in self.entries if each.price.per is None]
        of_periods, of_hours = Rows(periods), Rows(counters)
        if len(of_periods):
            not_priced += self._price_periods(of_periods, of_time)
        if len(of_hours):
            self._price_counters(of_hours, of_counters, len(of_periods))
        subjects = pa.concat_tables([_subjects(periods), _subjects(counters)]).combine_chunks()
        made = self._lines(subjects, [each.carried(self.prices.metadata) for each in (of_periods, of_hours)])
        listed = pa.concat_tables(not_priced).sort_by(
            [(key, "ascending") for key in ("resource_type", "resource_id", "started_at", "ended_at", "reason")]
        )
        faults = {str(each): each for each in self.faults}
        return Rated(self.month, made, listed.combine_chunks(), tuple(faults.values()), tuple(sorted(set(self.notes))))

    # -- what comes in ----------------------------------------------------------------------------------------

    def _periods(self, table: pa.Table) -> tuple[pa.Table, list[pa.Table]]:
        """The periods that can be priced, in one order, clipped to the month; and those of unknown projects."""
        table = _with_codes(table)
        start, end = _instant(self.start), _instant(self.end)
        kept = pc.and_(pc.less(table["started_at"], end), pc.greater(table["ended_at"], start))
        kept = pc.and_(kept, pc.less(table["started_at"], table["ended_at"]))
        for name, value in (("state", _GONE), ("source", VERIFY)):
            if name in table.column_names:
                kept = pc.and_(kept, pc.fill_null(pc.not_equal(table[name], value), True))
        table = table.filter(kept)
        for name, bound, better in (
            ("started_at", self.start, pc.max_element_wise),
            ("ended_at", self.end, pc.min_element_wise),
        ):
            clipped = better(table[name].cast(TIME).cast(pa.int64()), bound).cast(TIME)
            table = table.set_column(table.column_names.index(name), name, clipped)
        order = [(name, "ascending") for name in _ORDER if name in table.column_names]
        table = table.take(pc.sort_indices(table, sort_keys=order)).combine_chunks()
        owned = pc.is_valid(table["project_id"])
        return table.filter(owned), [_not_priced(table.filter(pc.invert(owned)), "its project is not known")]

    def _counters(self, table: pa.Table) -> pa.Table:
        """The hours of counters that can be priced."""
        table = _with_codes(table)
        meters = pc.unique(table["meter"])
        globs = [each.price.meter for each in self.entries if each.price.per is None]
        priced = pa.array([any(matches(each, meter) for each in globs) for meter in meters.to_pylist()], pa.bool_())
        table = table.filter(pc.is_in(table["meter"], meters.filter(priced)))
        hours, start, end = table["hour"].cast(TIME), _instant(self.start), _instant(self.end)
        table = table.filter(pc.and_(pc.greater_equal(hours, start), pc.less(hours, end)))
        if "source" in table.column_names:
            table = table.filter(pc.fill_null(pc.not_equal(table["source"], VERIFY), True))
        amount = pc.fill_null(table["amount"].cast(pa.float64()), float("nan"))
        good = pc.and_(pc.greater_equal(amount, 0), pc.less_equal(amount, counting.LARGEST))
        for reason, part in (
            (f"an amount that is not a number from 0 to {counting.LARGEST:g}", table.filter(pc.invert(good))),
            ("no known project", table.filter(pc.and_(good, pc.is_null(table["project_id"])))),
        ):
            for row in part.group_by("meter").aggregate([([], "count_all")]).to_pylist():
                self.notes.append(f"{row['count_all']:,} hours of {row['meter']} have {reason}: they are not priced")
        return table.filter(pc.and_(good, pc.is_valid(table["project_id"]))).combine_chunks()

    # -- what it costs ----------------------------------------------------------------------------------------

    def _price_periods(self, rows: Rows, entries: Sequence[Entry]) -> list[pa.Table]:
        starts, ends = _micros(rows.table["started_at"]), _micros(rows.table["ended_at"])
        classes = Classes(rows, [each.price.where for each in entries])
        uses = self._uses(entries, [classes.of(each.price.where) for each in entries])
        groups, resources = self._groups(rows)
        for of in _by_name(uses):
            masks = [(each, mask[classes.codes]) for each, mask in of]
            counted = counting.of_periods(
                masks, rows, starts, ends, groups, resources, (self.start, self.end), self.units
            )
            if counted is not None:
                self._add(counted, rows, 0)
        unpriced = self._without_price(rows, uses, classes.codes, starts, ends)
        return [*unpriced, *self._without_measure(rows, uses, classes.codes)]

    def _price_counters(self, rows: Rows, entries: Sequence[Entry], offset: int) -> None:
        wanted = [
            replace(each.price.where, texts=(*each.price.where.texts, ("meter", each.price.meter))) for each in entries
        ]
        classes = Classes(rows, wanted)
        uses = self._uses(entries, [classes.of(each) for each in wanted])
        hours = _micros(rows.table["hour"].cast(TIME))
        amounts = rows.table["amount"].cast(pa.float64()).to_numpy()
        groups, _ = self._groups(rows)
        for of in _by_name(uses):
            masks = [(each, self._convertible(each, rows, mask[classes.codes])) for each, mask in of]
            counted = counting.of_counters(masks, rows, hours, amounts, groups, self.units)
            if counted is not None:
                self._add(counted, rows, offset)

    def _groups(self, rows: Rows) -> tuple[Codes, Codes]:
        """What must not be in one line, and the project and resource, as codes of each row."""
        names = ["project_id", "resource_type", "resource_id"]
        resources, _ = combined([rows.column(name).codes for name in names])
        more = [rows.column(name).codes for name in ("flavor", "zone")]
        if self.prices.metadata is not None:
            more.append(rows.carried(self.prices.metadata)[0])
        groups, _ = combined([resources, *more])
        return groups, resources

    def _uses(self, entries: Iterable[Entry], matched: Iterable[Mask]) -> list[Use]:
        """The prices with the classes that each is for.

        If two of one name are for the same at the same time, the first in the file counts, and the other is left what
        remains of its time.
        """
        of_name: dict[str, list[Use]] = {}
        taken: dict[str, Mask] = {}
        for each, mask in zip(entries, matched, strict=True):
            name = each.price.name
            parts = [(each, mask)]
            if name in taken and (mask & taken[name]).any():
                for before in of_name[name]:
                    parts = [left for part in parts for left in self._left(part, before)]
            of_name.setdefault(name, []).extend(parts)
            taken[name] = taken[name] | mask if name in taken else mask
        return [use for uses in of_name.values() for use in uses]

    def _left(self, use: Use, before: Use) -> list[Use]:
        """What is left of the use of a price beside one that comes before it."""
        (entry, mask), (other, taken) = use, before
        both = mask & taken
        if entry.end <= other.start or other.end <= entry.start or not both.any():
            return [use]
        price, first = entry.price, other.price
        if (price.where, price.meter) != (first.where, first.meter):  # otherwise the file has that fault already
            what = (
                f"'{price.name}' is also on line {first.line}, for the same and at the same time; that one counts then"
            )
            self._fault(entry.number, what, "Exclude one from the other with `where`, or give it another name")
        left = [(entry, mask & ~both)] if (mask & ~both).any() else []
        for low, high in ((entry.start, other.start), (other.end, entry.end)):
            if low < high:
                left.append((entry.within(low, high), both))
        return left

    def _convertible(self, entry: Entry, rows: Rows, mask: Mask) -> Mask:
        """Those of a price's rows whose unit can be converted into that of the price."""
        column = rows.column("unit")
        good = np.array([self.units.factor(unit, entry.price.unit) is not None for unit in column.values], np.bool_)
        bad = mask & ~good[column.codes]
        if bad.any():
            names = shown_names({shown(column.values[code]) for code in np.unique(column.codes[bad]).tolist()})
            what = f"{int(bad.sum()):,} hours in {names} cannot be converted into {shown(entry.price.unit)}"
            self.notes.append(f"'{entry.price.name}': {what}: they are not priced")
        return mask & ~bad

    def _add(self, counted: Counted, rows: Rows, offset: int) -> None:
        """Append the lines of the prices of one name."""
        parts = slices.costs(counted, self.prices.prices, rows.column("project_id").codes)
        made, before = self.made, sum(map(len, self.made.pieces))
        of = parts.group
        if not len(of):
            return
        made.row.append(counted.first[of] + offset)
        made.last.append(counted.last[of] + offset)
        made.start.append(counted.start[of])
        made.end.append(counted.end[of])
        made.cut.append(counted.cut[of])
        made.entry.append(counted.entry[of])
        made.band.append(counted.band[of])
        made.evidence.append(of + before)
        made.part += parts.part
        made.tier += parts.tier
        made.quantity += slices.shown(parts, counted.per)
        made.unit_price += slices.unit_prices(parts)
        made.amount += slices.amounts(parts, counted.per, self.prices)
        made.pieces.append(np.diff(counted.pieces))
        made.piece_row.append(counted.piece_row + offset)
        made.piece_start.append(counted.piece_start)
        made.piece_end.append(counted.piece_end)

    # -- what has no price ------------------------------------------------------------------------------------

    def _without_price(
        self,
        rows: Rows,
        uses: Sequence[Use],
        codes: Codes,
        starts: Instants,
        ends: Instants,
    ) -> list[pa.Table]:
        """The stretches for which no price is valid."""
        spans = sorted({(each.start, each.end) for each, _ in uses})
        covered = np.zeros((len(spans), int(codes.max()) + 1), np.int64)
        for each, mask in uses:
            covered[spans.index((each.start, each.end))] |= mask
        kinds, first = combined([np.zeros(covered.shape[1], np.int64), *covered])
        found = []
        for kind, code in enumerate(first.tolist()):
            part = np.flatnonzero(kinds[codes] == kind)
            valid = [span for span, some in zip(spans, covered[:, code].tolist(), strict=True) if some]
            reason = "no price is valid at that time" if valid else "no price is for it"
            for low, high in _gaps(valid, self.start, self.end):
                start, end = np.maximum(starts[part], low), np.minimum(ends[part], high)
                inside = end > start
                found.append(_not_priced(rows.table.take(part[inside]), reason, start[inside], end[inside]))
        return found

    def _without_measure(self, rows: Rows, uses: Sequence[Use], codes: Codes) -> list[pa.Table]:
        """The stretches for which there is a price, but not what it multiplies."""
        found = []
        for each, mask in uses:
            of = np.flatnonzero(mask[codes])
            unknown = of[~counting.known(rows.measure(each.price.measure)[of])]
            if len(unknown):
                reason = f"'{each.price.name}': its {each.price.measure} is not known"
                found.append(_not_priced(rows.table.take(unknown), reason))
        return found

    # -- lines ------------------------------------------------------------------------------------------------

    def _lines(self, subjects: pa.Table, metadata: Sequence[tuple[Codes, pa.Array]]) -> pa.Table:
        """All lines in their order.

        Args:
            subjects: what lines say of the resource of each row: of periods, then of counters.
            metadata: the same of their metadata, see `Rows.carried`.
        """
        if not self.made.row:
            return SCHEMA.empty_table()
        (first, texts), (second, more) = metadata
        texts = pa.concat_arrays([texts, more])
        usage, sums = self._usage(subjects, np.concatenate([first, second + len(texts) - len(more)]), texts)
        others = self._others(rules.computed(sums, self.prices, self.start, self.end))
        made = pa.concat_tables([usage, others]).combine_chunks()
        rank = pc.index_in(made["kind"], pa.array(KINDS))
        order = ("service", "price", "resource_type", "resource_id", "started_at", "flavor", "zone", "tier", "line_id")
        keys = [("project_id", "ascending"), ("rank", "ascending"), *((name, "ascending") for name in order)]
        made = made.take(pc.sort_indices(made.append_column("rank", rank), sort_keys=keys)).combine_chunks()
        for name, values in zip(_BY_PLACE, (texts, self._evidence(subjects)), strict=True):
            places = made[name].combine_chunks()
            made = made.set_column(made.column_names.index(name), SCHEMA.field(name), values.take(places))
        return made.cast(SCHEMA)

    def _usage(self, subjects: pa.Table, metadata: Codes, texts: pa.Array) -> tuple[pa.Table, list[rules.Sum]]:
        """The priced lines, with places in the texts of the metadata and in the evidence."""
        made, prices = self.made, self.prices.prices
        row, entry, band, cut, start, end = (
            np.concatenate(parts) for parts in (made.row, made.entry, made.band, made.cut, made.start, made.end)
        )
        of = subjects.take(row)
        last_row = np.concatenate(made.last)
        names = subjects["name"].combine_chunks().take(pa.array(last_row))
        carried = metadata[last_row]
        of_prices = {
            "price": [each.name for each in prices],
            "service": [each.service for each in prices],
            "description": [each.description or each.name for each in prices],
            "unit": [counting.unit_of(each) for each in prices],
            "is_for": [each.is_for for each in prices],
        }
        by_price = {name: pa.array(values, pa.string()).take(entry) for name, values in of_prices.items()}
        bands = [[None, *(each.name for each in price.times)] for price in prices]
        of_band = [bands[number][place] for number, place in zip(entry.tolist(), band.tolist(), strict=True)]
        about = [
            *(by_price[name] for name in ("price", "is_for")),
            *(of[name] for name in ("project_id", "resource_type", "resource_id", "flavor", "zone")),
            pa.nulls(len(row), pa.string()) if self.prices.metadata is None else texts.take(pa.array(carried)),
            *(pa.array(numbers).cast(pa.string()) for numbers in (cut, made.part)),
            pa.array(of_band, pa.string()),
        ]
        count = len(row)
        tier = pa.array(made.tier, pa.string())
        described = pc.binary_join_element_wise(by_price["description"], tier, ", ", null_handling="skip")
        columns = {
            "line_id": line_ids(_same(self.month, count), _same("usage", count), *about),
            "month": _same(self.month, count),
            "project_id": of["project_id"],
            "price": by_price["price"],
            "service": by_price["service"],
            "resource_type": of["resource_type"],
            "resource_id": of["resource_id"],
            "resource_name": self._names(of["resource_id"].combine_chunks(), names, subjects),
            "flavor": of["flavor"],
            "zone": of["zone"],
            "description": described,
            "kind": _same("usage", count),
            "started_at": pa.array(start).cast(TIME),
            "ended_at": pa.array(end).cast(TIME),
            "quantity": exact.column(made.quantity, DIGITS),
            "unit": by_price["unit"],
            "unit_price": exact.column(made.unit_price, DIGITS),
            "amount": exact.column(made.amount, self.prices.digits),
            "currency": _same(self.prices.currency, count),
            "tier": tier,
            "metadata": pa.array(carried),
            "evidence": pa.array(np.concatenate(made.evidence)),
            "corrects": pa.nulls(count, pa.string()),
        }
        return pa.table(columns), self._sums(columns, cut, start, end)

    def _names(self, ids: pa.Array, names: pa.Array, subjects: pa.Table) -> pa.Array:
        """The names of resources: hours of counters have none, so theirs are the last ones that periods have."""
        if names.null_count == 0:
            return names
        named = subjects.filter(pc.is_valid(subjects["name"])).select(["resource_id", "name"]).combine_chunks()
        backwards = named.take(pa.array(np.arange(named.num_rows)[::-1].copy()))
        places = pc.index_in(ids, backwards["resource_id"].combine_chunks())
        return pc.coalesce(names, backwards["name"].combine_chunks().take(places))

    def _evidence(self, subjects: pa.Table) -> pa.Array:
        """The pieces of each group."""
        made = self.made
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(made.pieces))]).astype(np.int32)
        of = subjects.select(["start_evidence", "end_evidence"]).take(np.concatenate(made.piece_row)).combine_chunks()
        pieces = pa.StructArray.from_arrays(
            [
                pa.array(np.concatenate(made.piece_start)).cast(TIME),
                pa.array(np.concatenate(made.piece_end)).cast(TIME),
                *(of[name].combine_chunks() for name in of.column_names),
            ],
            fields=list(EVIDENCE.value_type),
        )
        return pa.ListArray.from_arrays(offsets, pieces, type=EVIDENCE)

    def _sums(self, columns: dict[str, Any], cut: Instants, start: Instants, end: Instants) -> list[rules.Sum]:
        keys = [Column.of(pa.table(columns)[name]) for name in ("project_id", "price", "service")]
        codes, _ = combined([*(each.codes for each in keys), cut - cut.min()])
        order = np.argsort(codes, kind="stable")
        firsts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        at = order[firsts]
        texts = [[each.values[code] or "" for code in each.codes[at].tolist()] for each in keys]
        numbers = [
            cut[at].tolist(),
            np.minimum.reduceat(start[order], firsts).tolist(),
            np.maximum.reduceat(end[order], firsts).tolist(),
            exact.sums(exact.integers(self.made.amount)[order], firsts),
        ]
        return [rules.Sum(*about) for about in zip(*texts, *numbers, strict=True)]

    def _others(self, of: Sequence[rules.Computed]) -> pa.Table:
        count = len(of)
        nulls = pa.nulls(count, pa.string())
        columns = {
            **dict.fromkeys(("resource_type", "resource_id", "resource_name", "flavor", "zone", "tier"), nulls),
            "line_id": pa.array(
                [line_id(self.month, each.kind, each.project, each.price, each.service, *each.about) for each in of],
                pa.string(),
            ),
            "month": _same(self.month, count),
            "project_id": pa.array([each.project for each in of], pa.string()),
            "price": pa.array([each.price for each in of], pa.string()),
            "service": pa.array([each.service for each in of], pa.string()),
            "description": pa.array([each.description for each in of], pa.string()),
            "kind": pa.array([each.kind for each in of], pa.string()),
            "started_at": pa.array([each.start for each in of], pa.int64()).cast(TIME),
            "ended_at": pa.array([each.end for each in of], pa.int64()).cast(TIME),
            "quantity": exact.column([each.base for each in of], self.prices.digits),
            "unit": pa.array([self.prices.currency if each.kind == "tax" else None for each in of], pa.string()),
            "unit_price": exact.column(
                [None if each.percent is None else int(each.percent.scaleb(DIGITS - 2)) for each in of], DIGITS
            ),
            "amount": exact.column([each.amount for each in of], self.prices.digits),
            "currency": _same(self.prices.currency, count),
            **dict.fromkeys(_BY_PLACE, pa.nulls(count, pa.int64())),
            "corrects": nulls,
        }
        return pa.table({name: columns[name] for name in SCHEMA.names})


def _by_name(uses: Iterable[Use]) -> list[list[Use]]:
    of: dict[str, list[Use]] = {}
    for use in uses:
        of.setdefault(use[0].price.name, []).append(use)
    return list(of.values())


def _with_codes(table: pa.Table) -> pa.Table:
    """The table with metadata as codes of its distinct texts: these are large, and rows are copied several times."""
    if "metadata" not in table.column_names:
        return table
    place = table.column_names.index("metadata")
    metadata = table["metadata"].combine_chunks()
    if not pa.types.is_dictionary(metadata.type):
        metadata = metadata.cast(pa.string()).dictionary_encode()
    return table.set_column(place, "metadata", metadata)


def _subjects(table: pa.Table) -> pa.Table:
    """What lines say of their resources."""
    count = table.num_rows
    of_counters = "meter" in table.column_names
    columns = {name: table[name] if name in table.column_names else pa.nulls(count, pa.string()) for name in _ABOUT}
    for name in ("start_evidence", "end_evidence"):
        known = table["meter"] if of_counters else table[name] if name in table.column_names else None
        columns[name] = pa.nulls(count, pa.string()) if known is None else known
    made = pa.table(columns)
    return made.cast(pa.schema([pa.field(name, pa.string()) for name in made.column_names]))


def _not_priced(table: pa.Table, reason: str, start: Instants | None = None, end: Instants | None = None) -> pa.Table:
    count = table.num_rows
    known = {
        name: table[name] if name in table.column_names else pa.nulls(count, pa.string()) for name in NOT_PRICED.names
    }
    if start is not None and end is not None:
        known |= {"started_at": pa.array(start).cast(TIME), "ended_at": pa.array(end).cast(TIME)}
    known["reason"] = _same(reason, count)
    return pa.table(known).cast(NOT_PRICED)


def _gaps(spans: Iterable[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """What of a month is in none of the spans."""
    found, reached = [], start
    for low, high in sorted(spans):
        if low > reached:
            found.append((reached, low))
        reached = max(reached, high)
    return [*found, (reached, end)] if reached < end else found


def _same(text: str, count: int) -> pa.Array:
    return pa.array([text], pa.string()).take(pa.array(np.zeros(count, np.int64)))


def _instant(micros: int) -> pa.Scalar:
    return pa.scalar(micros, pa.int64()).cast(TIME)


def _micros(column: pa.ChunkedArray) -> Instants:
    found: Instants = column.cast(pa.int64()).to_numpy()
    return found
