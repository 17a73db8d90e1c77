"""What a bill is made of, and the bill made of it: nothing else decides what it says."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.billing import lines as billed
from meterhouse.billing.bill import UNCONFIRMED, Bill, count
from meterhouse.billing.lines import Rated
from meterhouse.billing.rating import rate
from meterhouse.definitions import prices as price_lists
from meterhouse.definitions import units
from meterhouse.definitions.prices import Prices
from meterhouse.definitions.site_files import in_use
from meterhouse.definitions.units import Units
from meterhouse.errors import DefinitionError
from meterhouse.shipped import DEFAULTS
from meterhouse.site import Site
from meterhouse.verification import VERIFY

DEFINITIONS: Final = (price_lists.FILE, "resources.yaml", units.FILE)
"""The definition files that decide what a bill says."""


@dataclass(frozen=True)
class Amounts:
    """What existed in a month, and what was counted; see `usage.amounts.of_span` for the columns.

    Attributes:
        periods: one row a stretch of a resource in which it was the same.
        counters: one row a counter and hour.
        refused: what could not be counted, one sentence each.
    """

    periods: pa.Table
    counters: pa.Table
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """What the bill of a month is made of.

    Attributes:
        month: the billing month, `2026-11`.
        amounts: what existed in it, and what the counters counted.
        definitions: the definition files of that time: name → content.
        projects: names of projects at the end of the month, by id.
        corrections: `lines.SCHEMA`: what changed in months that were closed before.
        holds_until: up to which event time the amounts have everything that came.
        open_hours: the number of its hours that are not rolled up.
        behind: how many commits of the lake the periods have not taken yet.
        point_corrections: corrections of points that were in effect in the month, see `meterhouse correct`.
    """

    month: str
    amounts: Amounts
    definitions: Mapping[str, bytes]
    projects: Mapping[str, str]
    corrections: pa.Table
    holds_until: datetime
    open_hours: int = 0
    behind: int = 0
    point_corrections: tuple[Mapping[str, Any], ...] = ()

    @property
    def prices(self) -> Prices:
        """The prices.

        Raises:
            DefinitionError: the file as a whole cannot be used.
        """
        return read_prices(self.definitions)


def gather(site: Site, month: str, corrections: pa.Table | None = None) -> Inputs:
    """What the bill of a month is made of now.

    Args:
        site: the site.
        month: the billing month, `2026-11`.
        corrections: what changed in months that were closed before; default none.

    Raises:
        DefinitionError: a definition file as a whole cannot be used.
        UsageError: it is not a month.
    """
    definitions = {name: definition(site, name) for name in DEFINITIONS}
    start, end = read_prices(definitions).span(month)
    held, opened, lag = _held(site, start, end)  # before the amounts: what is rolled up meanwhile is in them
    found = amounts(site, start, end)
    corrections = billed.SCHEMA.empty_table() if corrections is None else corrections
    return Inputs(
        month=month,
        amounts=found,
        definitions=definitions,
        projects=_project_names(site, end - timedelta(microseconds=1), (found.periods, found.counters, corrections)),
        corrections=corrections,
        holds_until=held,
        open_hours=opened,
        behind=lag,
        point_corrections=_point_corrections(site, start, end),
    )


def amounts(site: Site, start: datetime, end: datetime, table: Units | None = None) -> Amounts:
    """What existed and was counted in [start, end), without what the functional suite sent; in an order of its own.

    Args:
        site: the site.
        start, end: the span, aware.
        table: the units that counters are converted by; None for the site's.
    """
    from meterhouse.usage.amounts import of_span

    found = of_span(site, start, end, units=table)
    periods, counters = found.periods, found.counters
    if "source" in periods.column_names:
        periods = periods.filter(pc.fill_null(pc.not_equal(periods["source"], VERIFY), True))
    return Amounts(
        periods=_sorted(periods, "resource_type", "resource_id", "started_at"),
        counters=_sorted(counters, "meter", "unit", "resource_id", "project_id", "user_id", "hour", "metadata"),
        refused=tuple(found.refused),
    )


def bill(given: Inputs) -> Bill:
    """The bill of a month: rated lines, and the corrections of earlier months.

    Raises:
        DefinitionError: the prices as a whole cannot be used.
    """
    prices = given.prices
    start, end = prices.span(given.month)
    found = rated(given.amounts, given.definitions, given.month)
    notes = [_without_folder(each) for each in found.faults]
    notes += [*given.amounts.refused, *found.notes]
    if given.open_hours:
        notes.append(f"{count(given.open_hours, 'hour')} not rolled up yet: counters may still grow")
    if given.behind:
        notes.append(f"{count(given.behind, 'commit')} not in the periods yet: run `meterhouse rollup`")
    if given.holds_until < end:
        notes.append(f"the bill holds up to {times.text(given.holds_until)}: what comes later is not in it")
    lines = pa.concat_tables([found.lines, given.corrections.cast(billed.SCHEMA)])
    return Bill(
        month=given.month,
        time_zone=prices.time_zone,
        start=start,
        end=end,
        lines=_in_order(lines) if given.corrections.num_rows else lines,
        not_priced=found.not_priced,
        unconfirmed=_unconfirmed(given.amounts.periods),
        notes=tuple(notes),
        holds_until=given.holds_until,
        projects=given.projects,
    )


def read_prices(definitions: Mapping[str, bytes]) -> Prices:
    """The prices of definition files' contents.

    Raises:
        DefinitionError: the file as a whole cannot be used.
    """
    return _read(definitions, price_lists.FILE, price_lists.read)


def rated(amounts: Amounts, definitions: Mapping[str, bytes], month: str) -> Rated:
    """A month, rated by the prices and units of definition files' contents.

    Raises:
        DefinitionError: a file as a whole cannot be used.
    """
    return rate(amounts, read_prices(definitions), month, read_units(definitions))


def read_units(definitions: Mapping[str, bytes]) -> Units:
    """The table of units of definition files' contents.

    Raises:
        DefinitionError: the file as a whole cannot be used.
    """
    return _read(definitions, units.FILE, units.read)


def definition(site: Site, name: str) -> bytes:
    """The content of a definition file of the site now: its own, or the shipped one."""
    return in_use(site.settings.config_dir, name, DEFAULTS / name).read_bytes()


_T = TypeVar("_T")


def _read(definitions: Mapping[str, bytes], name: str, read: Callable[[Path], _T]) -> _T:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(definitions[name])
        return read(path)


def not_counted(site: Site, start: datetime, end: datetime) -> list[str]:
    """What came of [start, end) and is not in its amounts yet, in words.

    What came after `end` may be about anything: if it is not in the periods yet, that is no reason to wait for it.
    """
    from meterhouse.usage.keeping_up import behind

    opened, lag = _open_hours(site, start, end), behind(site)
    found = [f"{count(opened, 'hour')} not rolled up"] if opened else []
    if lag.since is not None and lag.since < end:
        found.append("messages that came before its end are not in the periods")
    return found


def _held(site: Site, start: datetime, end: datetime) -> tuple[datetime, int, int]:
    """How complete the amounts of [start, end) are: see `Inputs.holds_until`, `open_hours` and `behind`."""
    from meterhouse.queries.reports import holds_until
    from meterhouse.usage.keeping_up import behind

    return holds_until(site, start, end), _open_hours(site, start, end), behind(site).commits


def _open_hours(site: Site, start: datetime, end: datetime) -> int:
    """How many hours of [start, end) are not rolled up."""
    from sqlalchemy import func, select

    from meterhouse.stores.warehouse_tables import open_hours

    within = open_hours.c.hour >= times.hour_of(start), open_hours.c.hour < end
    with site.warehouse.read() as connection:
        return connection.execute(select(func.count()).select_from(open_hours).where(*within)).scalar_one()


def _point_corrections(site: Site, start: datetime, end: datetime) -> tuple[Mapping[str, Any], ...]:
    from meterhouse.corrections.recorded import active

    return tuple(
        {
            name: times.text(value) if isinstance(value, datetime) else value
            for name, value in asdict(each).items()
            if value is not None
        }
        for each in active(site, [(start, end)])
    )


def _project_names(site: Site, moment: datetime, tables: Iterable[pa.Table]) -> dict[str, str]:
    """The names that the projects of tables have at a time, by id."""
    from meterhouse.usage.names import names_at

    there = {each for table in tables for each in table["project_id"].unique().to_pylist()}
    return {each: name for each, name in sorted(names_at(site, "project", moment).items()) if each in there}


def _unconfirmed(periods: pa.Table) -> pa.Table:
    """The resources that are known by events alone, and whose end is not known; see `UNCONFIRMED`."""
    keys = ["resource_type", "resource_id"]
    last = periods.filter(periods["unconfirmed"]).sort_by(
        [*((key, "ascending") for key in keys), ("started_at", "ascending")]
    )
    ordered = last.group_by(keys, use_threads=False).aggregate(
        [("project_id", "last"), ("name", "last"), ("flavor", "last"), ("started_at", "last")]
    )
    return (
        ordered.rename_columns([name.removesuffix("_last") for name in ordered.column_names])
        .select(UNCONFIRMED.names)
        .cast(UNCONFIRMED)
    )


def _in_order(lines: pa.Table) -> pa.Table:
    """Lines by project and kind; those of one kind stay in their order."""
    kinds = pc.index_in(lines["kind"], pa.array(billed.KINDS))
    return lines.take(
        pc.sort_indices(
            pa.table({"project": lines["project_id"], "kind": kinds}),
            [("project", "ascending"), ("kind", "ascending")],
        )
    )


def _sorted(rows: pa.Table, *names: str) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in names if name in rows.column_names])


def _without_folder(fault: DefinitionError) -> str:
    """A fault of a definition file, without the folder that the file was read from."""
    return str(fault).replace(fault.where, Path(fault.where).name) if fault.where else str(fault)
