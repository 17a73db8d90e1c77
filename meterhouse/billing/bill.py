"""A bill: the rated lines of a month, their totals, and what the reader has to know about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.billing import lines as billed
from meterhouse.errors import UnknownName

UNCONFIRMED: Final = pa.schema(
    [
        pa.field("resource_type", pa.string()),
        pa.field("resource_id", pa.string(), nullable=False),
        pa.field("project_id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("flavor", pa.string()),
        pa.field("started_at", billed.TIME, nullable=False),
    ]
)
"""One row a resource that is known by events alone, and whose end is not known: it is billed until its delete event."""

ZERO: Final = Decimal(0)


@dataclass(frozen=True)
class Closing:
    """When a month was closed, and by whom.

    Attributes:
        closed_at: when, UTC.
        closed_by: the person who closed it.
        digest: SHA-256 over the hashes of the files that the bill is made of, 64 hexadecimal digits.
    """

    closed_at: datetime
    closed_by: str
    digest: str


@dataclass(frozen=True)
class Total:
    """A sum of lines in one currency.

    Attributes:
        of: what the lines have in common: a project, service or price; empty for all lines.
        currency: ISO 4217.
        lines: how many lines.
        net: the sum of all lines but taxes.
        tax: the sum of the taxes.
    """

    of: str
    currency: str
    lines: int
    net: Decimal
    tax: Decimal

    @property
    def gross(self) -> Decimal:
        """What is to be paid."""
        return self.net + self.tax


@dataclass(frozen=True)
class Bill:
    """The bill of a month, for all projects or some.

    Attributes:
        month: the billing month, `2026-11`.
        time_zone: that of the month, by name.
        start: its start, UTC.
        end: its end, UTC, exclusive.
        lines: `lines.SCHEMA`.
        not_priced: `lines.NOT_PRICED`.
        unconfirmed: `UNCONFIRMED`.
        notes: for the operator, what could not be counted or rated, and what is not complete yet, one sentence each.
            The bill of one project has none.
        holds_until: up to which event time the bill has everything that came; at best, its end.
        projects: names of projects at the end of the month, by id.
        closing: when it was closed; None if the month is open.
    """

    month: str
    time_zone: str
    start: datetime
    end: datetime
    lines: pa.Table
    not_priced: pa.Table
    unconfirmed: pa.Table
    notes: tuple[str, ...]
    holds_until: datetime
    projects: Mapping[str, str] = field(default_factory=dict)
    closing: Closing | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it has everything of the month that came."""
        return self.holds_until >= self.end

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reader has to know about the bill, one sentence each."""
        found = list(self.notes)
        if self.not_priced.num_rows:
            resources = len(self.not_priced["resource_id"].unique())
            found.append(f"{count(resources, 'resource')} not priced, wholly or in part")
        if self.unconfirmed.num_rows:
            known = f"{count(self.unconfirmed.num_rows, 'resource')} known by events alone"
            found.append(f"{known}: billed until a delete event")
        return tuple(found)

    def name(self, project: str) -> str:
        """The name of a project; its id if no name is known."""
        return self.projects.get(project) or project

    def of_project(self, project: str) -> "Bill":
        """The bill of one project.

        Args:
            project: its id, or a name that only one project has.

        Raises:
            UnknownName: no project of the bill is called so, or several are.
        """
        there = set(self.lines["project_id"].unique().to_pylist())
        there |= set(self.not_priced["project_id"].unique().to_pylist()) - {None}
        chosen = project if project in there else self._by_name(project, there)

        def rows(table: pa.Table) -> pa.Table:
            return table.filter(pc.equal(table["project_id"], chosen))

        return replace(
            self,
            lines=rows(self.lines),
            not_priced=rows(self.not_priced),
            unconfirmed=rows(self.unconfirmed),
            notes=(),
            projects={each: name for each, name in self.projects.items() if each == chosen},
        )

    def _by_name(self, project: str, there: set[str]) -> str:
        called = sorted(each for each in there if self.projects.get(each) == project)
        if len(called) == 1:
            return called[0]
        if called:
            raise UnknownName("project", project, called, hint=f"Name one by its id: {', '.join(called)}")
        known = {*there, *(self.projects[each] for each in there if each in self.projects)}
        raise UnknownName("project", project, sorted(known))

    def line(self, line_id: str) -> dict[str, Any]:
        """One line, with its evidence.

        Raises:
            UnknownName: the bill has no such line.
        """
        found = self.lines.filter(pc.equal(self.lines["line_id"], line_id))
        if found.num_rows == 0:
            known = self.lines["line_id"].to_pylist() if self.lines.num_rows <= _SEARCHED else []
            raise UnknownName("line", line_id, known, hint="" if known else "Print the lines of its project")
        return dict(found.slice(0, 1).to_pylist()[0])

    def totals(self, column: str | None = None) -> list[Total]:
        """Sums by project, service or price, in this order of their names; without a column, of the whole bill.

        Args:
            column: `project_id`, `service` or `price`.
        """
        return totals(self.lines, column)


_SEARCHED: Final = 20_000
"""Among how many lines near misses of an id are looked for."""


def totals(lines: pa.Table, column: str | None = None) -> list[Total]:
    """Sums of lines by a column and currency; see `Bill.totals`."""
    is_tax = pc.equal(lines["kind"], "tax")
    nothing = pa.scalar(ZERO, billed.DECIMAL)
    given: dict[str, Any] = {
        "of": lines[column] if column else pa.array([""] * lines.num_rows, pa.string()),
        "currency": lines["currency"],
        "net": pc.if_else(is_tax, nothing, lines["amount"]),
        "tax": pc.if_else(is_tax, lines["amount"], nothing),
    }
    keys = ["of", "currency"]
    summed = (
        pa.table(given).group_by(keys, use_threads=False).aggregate([("net", "sum"), ("tax", "sum"), ([], "count_all")])
    )
    rows: Sequence[dict[str, Any]] = summed.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return [
        Total(row["of"], row["currency"], row["count_all"], row["net_sum"] or ZERO, row["tax_sum"] or ZERO)
        for row in rows
    ]


def count(number: int, of: str) -> str:
    """`1 hour is`, `2 hours are`."""
    return f"1 {of} is" if number == 1 else f"{number:,} {of}s are"


def descriptions(lines: pa.Table) -> pa.ChunkedArray:
    """What each line is for, in words: of a discount, also the price that it reduces; of a correction, the month."""
    price = pc.fill_null(lines["price"], "")
    is_discount = pc.and_(pc.equal(lines["kind"], "discount"), pc.not_equal(price, lines["description"]))
    reduced = pc.binary_join_element_wise(lines["description"], price, " on ")
    shown = pc.if_else(is_discount, reduced, lines["description"])
    corrected = pc.binary_join_element_wise("correction of ", pc.fill_null(lines["corrects"], ""), ": ", shown, "")
    return pc.if_else(pc.is_valid(lines["corrects"]), corrected, shown)
