"""Closing a month: its bill is frozen with all that it was made of, and what changes later is billed as corrections.

The files in the lake decide what is closed (see `frozen`); the warehouse's table `closed_bills` is an index of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import delete, insert, select

from meterhouse import times
from meterhouse.billing import compared, differences, figures, frozen, months
from meterhouse.billing import lines as billed
from meterhouse.billing.bill import Bill
from meterhouse.billing.frozen import Month
from meterhouse.billing.inputs import Amounts, Inputs, amounts, bill, definition, gather, not_counted, rated, read_units
from meterhouse.definitions import prices as price_lists
from meterhouse.errors import Damaged, MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import closed_bills

LEASE: Final = "bill-close"
"""The lease of the process that closes a month."""


_NO_AMOUNTS: Final = frozenset(
    {
        *("start_witness", "start_evidence", "end_witness", "end_evidence"),
        *("confirmed_until", "confirmed_by", "unconfirmed", "goes_on"),
    }
)
"""The columns of periods that decide on no amount."""


@dataclass(frozen=True)
class Again:
    """A closed month's bill, made again from its files alone.

    Attributes:
        month: the month.
        made: the bill that was made.
        differences: how it differs from the closed one, one sentence each; empty if it is the same.
    """

    month: Month
    made: Bill
    differences: tuple[str, ...]


def make(site: Site, month: str) -> Bill:
    """The bill of a month: the frozen one if it is closed, otherwise as of now.

    The first month that is open gets the corrections of those that are closed.

    Raises:
        DefinitionError: the prices as a whole cannot be used.
        UsageError: it is not a month.
        Damaged: a file of a closed month is missing or changed.
    """
    month = months.parse(month)
    found = read(site, month)
    if found is not None:
        return found
    done = closed(site)
    _refuse_lost(site, [each for each in lost(site, done) if each <= month])
    made = bill(_inputs(site, month, done))
    if done and month > (first := months.following(done[-1].month)):
        note = f"corrections of closed months are in the bill of {first}, the first that is open"
        return replace(made, notes=(*made.notes, note))
    return made


def closed(site: Site) -> list[Month]:
    """The closed months, in their order.

    Raises:
        Damaged: a manifest cannot be read.
    """
    found = []
    for name in frozen.closed_months(site.lake):
        month = frozen.read_month(frozen.in_lake(site.lake, name), folder_of(site, name))
        if month is not None:
            found.append(month)
    return found


def read(site: Site, month: str) -> Bill | None:
    """The bill of a closed month, as it was; None if the month is open.

    Raises:
        Damaged: a file is missing or changed.
    """
    source, where = frozen.in_lake(site.lake, month), folder_of(site, month)
    found = frozen.read_month(source, where)
    return None if found is None else frozen.read_bill(source, found, where)


def close(site: Site, month: str, by: str, *, is_first: bool = False, is_forced: bool = False) -> Bill:
    """Close a month: write its bill and what it is made of; the manifest, which is written last, closes it.

    Args:
        site: the site.
        month: the month, `2026-11`.
        by: who closes it.
        is_first: bills begin with this month: earlier ones are never closed.
        is_forced: close it though what came of it is not all counted yet.

    Raises:
        UsageError: it is not a month.
        MeterhouseError: it is closed, not over, not the next to be closed, or not complete; nothing was done.
        Damaged: files of closed months are missing or changed; nothing was done.
        AlreadyRunning: another process is closing a month.
    """
    month = months.parse(month)
    start, end = price_lists.load(site.settings.config_dir).span(month)
    with site.warehouse.lease(LEASE) as lease:
        done = closed(site)
        index(site, done)
        _refuse_lost(site, lost(site, done))
        _check_is_next(site, month, (start, end), done, is_first)
        if not is_forced and (lacking := not_counted(site, start, end)):
            raise MeterhouseError(
                f"{month} is not complete: {' and '.join(lacking)}",
                hint="Run `meterhouse rollup` first; or, to bill it as it is, give --force",
            )
        given = _inputs(site, month, done, is_last=True)
        made = bill(given)
        written = frozen.files(given, made)
        folder = f"{frozen.FOLDER}/{month}"
        for name, content in written.items():
            with lease.begin():  # a process that was paused meanwhile changes nothing of what another one has closed
                site.lake.put(f"{folder}/{name}", content)
        manifest = frozen.manifest(made, written, times.now().replace(microsecond=0), by)
        with lease.begin():
            site.lake.put(f"{folder}/{frozen.MANIFEST}", manifest)
        done = closed(site)
        index(site, done)
    return replace(made, closing=done[-1].closing)


def again(source: frozen.Read, where: str) -> Again:
    """Make the bill of a closed month again, from its files alone, and compare it with the closed one.

    Args:
        source: reads the files of the month's folder.
        where: the folder, for errors.

    Raises:
        MeterhouseError: the folder has no closed month.
        Damaged: a file is missing or changed.
    """
    month = frozen.read_month(source, where)
    if month is None:
        raise MeterhouseError("this month is not closed: it has no manifest", where=where, hint="Run `bill list`")
    was = frozen.read_bill(source, month, where)
    made = bill(frozen.read_inputs(source, month, where))
    return Again(month, replace(made, closing=month.closing), tuple(_differences(was, made)))


def again_in_lake(site: Site, month: str) -> Again:
    """Make the bill of a closed month of the lake again; see `again`."""
    return again(frozen.in_lake(site.lake, month), folder_of(site, month))


def index(site: Site, done: Sequence[Month]) -> None:
    """Let the table `closed_bills` have the months that are closed."""
    rows = [
        {
            "month": each.month,
            "time_zone": each.time_zone,
            "closed_at": each.closing.closed_at,
            "closed_by": each.closing.closed_by,
            "digest": each.closing.digest,
            "totals": json.dumps(
                [
                    {"currency": total.currency, "net": figures.money(total.net), "tax": figures.money(total.tax)}
                    for total in each.totals
                ]
            ),
        }
        for each in done
    ]
    with site.warehouse.begin() as connection:
        for row in rows:
            connection.execute(delete(closed_bills).where(closed_bills.c.month == row["month"]))
            connection.execute(insert(closed_bills), [row])


def lost(site: Site, done: Sequence[Month]) -> list[str]:
    """The months that the table `closed_bills` says are closed, and that the lake has no files of."""
    with site.warehouse.read() as connection:
        indexed = connection.execute(select(closed_bills.c.month).order_by(closed_bills.c.month)).scalars().all()
    return sorted(set(indexed) - {each.month for each in done})


def _refuse_lost(site: Site, months_lost: Sequence[str]) -> None:
    """Refuse to take a month for open that was closed.

    Raises:
        Damaged: there is such a month.
    """
    for month in months_lost:
        raise Damaged(
            f"{month} was closed, but its files are gone",
            where=folder_of(site, month),
            hint="Restore the folder from a backup; nothing is billed from it meanwhile",
        )


def _check_is_next(site: Site, month: str, span: times.Span, done: Sequence[Month], is_first: bool) -> None:
    """Make sure that the month can be closed.

    Raises:
        MeterhouseError: it cannot.
    """
    for each in done:
        if each.month == month:
            by = f"by {each.closing.closed_by} at {times.text(each.closing.closed_at)}"
            raise MeterhouseError(
                f"{month} is closed already, {by}", hint="Nothing was done. What changed since is in the next bill"
            )
    start, end = span
    if end > times.now():
        raise MeterhouseError(f"{month} is not over before {times.text(end)}", hint="Close it after that")
    if done:
        expected = months.following(done[-1].month)
        if month < expected:
            raise MeterhouseError(
                f"{month} cannot be closed: {done[-1].month}, a later month, is closed",
                hint="Bills began after it",
            )
        if month > expected:
            raise MeterhouseError(f"{expected}, an earlier month, is open", hint=f"Close {expected} first")
        if start != done[-1].end:
            raise MeterhouseError(
                f"{month} begins at {times.text(start)}, but {done[-1].month} ended at {times.text(done[-1].end)}",
                where=price_lists.FILE,
                hint=f"Set `time_zone` to that of {done[-1].month}, {done[-1].time_zone}",
            )
    elif not is_first and bill(gather(site, months.preceding(month))).lines.num_rows:
        raise MeterhouseError(
            f"{months.preceding(month)}, an earlier month, is open and has something to bill",
            hint=f"Close it first; or, if bills begin with {month}, give --first",
        )


def _inputs(site: Site, month: str, done: Sequence[Month], *, is_last: bool = False) -> Inputs:
    """What the bill of an open month is made of; its last one compares all closed months, see `compared`."""
    is_next = bool(done) and month == months.following(done[-1].month)
    return gather(site, month, _corrections(site, month, done, compare_all=is_last) if is_next else None)


def _corrections(site: Site, month: str, done: Sequence[Month], *, compare_all: bool) -> pa.Table:
    """What changed in the closed months, beyond what later closed months have corrected."""
    resources = definition(site, "resources.yaml")
    billed_since = [
        (each, frozen.read_corrections(frozen.in_lake(site.lake, each.month), each, folder_of(site, each.month)))
        for each in done
    ]
    found = [billed.SCHEMA.empty_table()]
    for each in done:
        since = [(by, part.filter(pc.equal(part["corrects"], each.month))) for by, part in billed_since]
        since = [(by, part) for by, part in since if part.num_rows]
        state = compared.state(site, each, resources, [by for by, _ in since])  # before the amounts
        if not compare_all and state == compared.kept(site, each.month):
            continue
        changed = _changed(site, each, [part for _, part in since], month)
        found.append(changed)
        if not compare_all and changed.num_rows == 0:
            compared.keep(site, each.month, state)
    return pa.concat_tables(found)


def _changed(site: Site, closed_month: Month, since: Sequence[pa.Table], month: str) -> pa.Table:
    """What changed in a closed month, beyond corrections that were billed since."""
    source, where = frozen.in_lake(site.lake, closed_month.month), folder_of(site, closed_month.month)
    was = frozen.read_inputs(source, closed_month, where)
    now = amounts(site, closed_month.start, closed_month.end, read_units(was.definitions))
    lines = frozen.read_bill(source, closed_month, where).lines
    own = lines.filter(pc.is_null(lines["corrects"]))
    now_lines = own if _is_same(now, was.amounts) else rated(now, was.definitions, closed_month.month).lines
    return differences.corrections(now_lines, [own, *since], month, closed_month.month)


def _is_same(one: Amounts, other: Amounts) -> bool:
    """Whether amounts are the same, whatever else is known of their evidence by now."""
    periods, before = (
        each.periods.select([name for name in each.periods.column_names if name not in _NO_AMOUNTS])
        for each in (one, other)
    )
    return bool(periods.equals(before) and one.counters.equals(other.counters))


def _differences(was: Bill, made: Bill) -> list[str]:
    """How a bill differs from a closed one, by line."""
    found = []
    columns = ["line_id", "amount", "currency"]
    before, after = (
        {row["line_id"]: (row["amount"], row["currency"]) for row in each.lines.select(columns).to_pylist()}
        for each in (was, made)
    )
    for line_id in sorted(before.keys() | after.keys()):
        one, other = (
            f"{figures.money(each[line_id][0])} {each[line_id][1]}" if line_id in each else "no line"
            for each in (before, after)
        )
        if one != other:
            found.append(f"line {line_id}: {one} when it was closed, {other} now")
    if not found and not was.lines.equals(made.lines):
        found.append("the amounts are the same, but not all that the lines say about them")
    return found


def folder_of(site: Site, month: str) -> str:
    """The folder of a month in the lake, whether it is closed or not."""
    return f"{site.lake.url}/{frozen.FOLDER}/{month}"
