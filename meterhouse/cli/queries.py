"""Commands that query: statistics, samples, events, meters, sql."""

import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import click

from meterhouse.cli.options import TIMES, Checked, Instant, limit, prints, query, span
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress
from meterhouse.filters import DIMENSIONS, EVENTS, SAMPLES, SERIES, Condition
from meterhouse.queries.aggregates import (
    AGGREGATES,
    CALENDAR,
    GROUPS,
    USUAL,
    checked_aggregates,
    checked_groups,
    checked_period,
)
from meterhouse.scopes import ALL_EVENTS, EVERYTHING

if TYPE_CHECKING:
    from meterhouse.site import Site

_AFTER = ("duration", "period", "period_end", "duration_start", "duration_end")
"""The last columns of a table of statistics."""

_PERIODS = (
    *("unit", "type", "period", "period_start", "period_end", "duration", "duration_start", "duration_end"),
    "groupby",
)


def _site_with(meter: str) -> "Site":
    """The site, which has this meter: an unknown one is said before what reads the lake is loaded.

    Raises:
        UnknownName: it has not.
    """
    from meterhouse.queries.meters import meter_span
    from meterhouse.site import Site

    site = Site.open()
    meter_span(site, EVERYTHING, meter)
    return site


@click.command()
@click.argument("meter")
@query(SERIES)
@span()
@click.option(
    "--period",
    type=Checked("period", checked_period, CALENDAR),
    default="0",
    help=f"Length of a period in seconds, or {', '.join(CALENDAR)}; default 0: the whole span is one period.",
)
@click.option(
    "--timezone", default="UTC", help="Time zone of --period day, week, …, such as Europe/Berlin; default UTC."
)
@click.option("--anchor", type=Instant(), help=f"Where a period of a fixed length starts; default --from. {TIMES}.")
@click.option(
    "--groupby",
    multiple=True,
    type=Checked("group", lambda name: checked_groups([name])[0], GROUPS),
    help=f"Group by {', '.join(GROUPS)}, or metadata.KEY, which came with the samples; may be repeated.",
)
@click.option(
    "--aggregate",
    multiple=True,
    type=Checked("aggregate", lambda name: checked_aggregates([name])[0], AGGREGATES),
    help=f"Compute {', '.join(AGGREGATES)}, or a percentile such as p95; may be repeated. Default {', '.join(USUAL)}.",
)
@click.option(
    "--include-excluded",
    is_flag=True,
    help="Include the points that the quality rules exclude. What no sum can hold is only counted.",
)
@click.option(
    "--explain", is_flag=True, help="Say where the answer comes from and how much is read, in place of the answer."
)
@prints()
def statistics(
    meter: str,
    query: Sequence[Condition],
    start: datetime | None,
    end: datetime | None,
    period: int | str,
    timezone: str,
    anchor: datetime | None,
    groupby: tuple[str, ...],
    aggregate: tuple[str, ...],
    include_excluded: bool,
    explain: bool,
    printer: Printer,
) -> None:
    """Statistics of METER's good points, by period, group, unit and type.

    Periods of a fixed length start at --from, or else at the first point.
    """
    aggregate = aggregate or tuple(name for name in printer.chosen if name in AGGREGATES)
    columns = [*(aggregate or USUAL), *_PERIODS, *groupby]
    if not explain:
        printer.check(columns)
    site = _site_with(meter)
    from meterhouse.queries.statistics import Question, explained

    asked = Question(
        EVERYTHING,
        meter,
        query=query,
        period=period,
        timezone=timezone,
        anchor=anchor,
        groupby=groupby,
        aggregate=aggregate,
        start=start,
        end=end,
        include_excluded=include_excluded,
    )
    with progress("computing statistics"):
        answer, source = explained(site, asked)
    if explain:
        printer.rows(source.rows(), ("source", "rows", "files", "why"))
        note(f"{len(answer):,} row{'s' * (len(answer) != 1)} in {source.seconds:.3f} s")
        return
    found = answer.rows()
    if printer.chosen or not printer.is_json:
        found = [{**row, **(row["groupby"] or {})} for row in found]
    shown = ("period_start", *groupby, *(aggregate or USUAL), "unit", "type", *_AFTER)
    replace(printer, shown=shown).rows(found, columns)


@click.command()
@click.argument("meter")
@query(SAMPLES)
@span()
@limit
@prints(
    *("id", "meter", "type", "unit", "volume", "user_id", "project_id", "resource_id", "source", "timestamp"),
    *("recorded_at", "reasons"),
    shown=(
        *("timestamp", "volume", "unit", "resource_id", "project_id", "reasons", "user_id", "type", "source"),
        *("recorded_at", "id", "meter"),
    ),
)
def samples(
    meter: str,
    query: Sequence[Condition],
    start: datetime | None,
    end: datetime | None,
    limit: int,
    printer: Printer,
) -> None:
    """METER's samples, newest first, with the quality rules that each breaks."""
    site = _site_with(meter)
    from meterhouse.queries.samples import samples as find

    with progress("reading samples"):
        found = find(site, EVERYTHING, meter, query=query, start=start, end=end, limit=limit).to_pylist()
    printer.rows(found)


@click.command()
@click.option("--type", "event_type", help="Only events of this type; a glob, such as 'compute.instance.*'.")
@query(EVENTS)
@span()
@limit
@prints("message_id", "event_type", "generated", "traits", shown=("generated", "event_type", "message_id", "traits"))
def events(
    event_type: str | None,
    query: Sequence[Condition],
    start: datetime | None,
    end: datetime | None,
    limit: int,
    printer: Printer,
) -> None:
    """Events with their traits, newest first."""
    from meterhouse.queries.events import events as find
    from meterhouse.site import Site

    with progress("reading events"):
        site = Site.open()
        found = find(
            site, ALL_EVENTS, event_type=event_type, query=query, start=start, end=end, limit=limit
        ).to_pylist()
    if not printer.is_json:
        found = [{**row, "traits": {trait["name"]: trait["value"] for trait in row["traits"]}} for row in found]
    printer.rows(found)


@click.command()
@query(DIMENSIONS)
@prints("meter", "type", "unit", "series", "first_seen", "last_seen")
def meters(query: "Sequence[Condition]", printer: Printer) -> None:
    """Meters that have samples, with their type, unit, number of series, and first and last point."""
    from meterhouse.queries.meters import meter_list
    from meterhouse.site import Site

    printer.rows(meter_list(Site.open(), EVERYTHING, query))


class _WithTables(click.Command):
    """A command whose help ends with the tables of both stores. Listing them imports what they are made with."""

    _help = ""

    @property
    def help(self) -> str:
        from meterhouse.stores.lake_tables import TABLES
        from meterhouse.stores.warehouse_tables import metadata

        stores = {"Lake": list(TABLES), "Warehouse": list(metadata.tables)}
        listed = (
            textwrap.fill(" ".join(names), 100, initial_indent=f"{store}: ", subsequent_indent=" " * (len(store) + 2))
            for store, names in stores.items()
        )
        return "\n".join([self._help, "", "\b", *listed])

    @help.setter
    def help(self, text: str | None) -> None:
        self._help = inspect.cleandoc(text or "")


@click.command("sql", cls=_WithTables)
@click.argument("statement")
@click.option("--on", "store", type=click.Choice(["lake", "warehouse"]), default="lake", show_default=True)
@prints()
def sql_command(statement: str, store: str, printer: Printer) -> None:
    """Run a SQL STATEMENT on the lake (DuckDB) or the warehouse: one SELECT, or EXPLAIN of one.

    It reaches the site's tables and nothing else: no file, no server, no setting.
    """
    from meterhouse.queries import sql as ask
    from meterhouse.site import Site

    with progress("running the statement"):
        site = Site.open()
        if store == "lake":
            table = ask.sql_on_lake(site, statement)
            columns, found = table.column_names, table.to_pylist()
        else:
            columns, rows = ask.sql_on_warehouse(site, statement)
            found = [dict(zip(columns, row, strict=True)) for row in rows]
    printer.rows(found, columns)
