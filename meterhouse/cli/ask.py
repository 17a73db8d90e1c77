"""Commands that ask: statistics, samples, events, resources, meters, report, sql."""

from datetime import date, datetime, timedelta
from typing import Any

import click

from meterhouse import times
from meterhouse.cli import output
from meterhouse.cli.options import Day, as_json, limit, query, span


def _filters(given: tuple[tuple[str, str, str], ...]) -> list[Any]:
    from meterhouse.filters import Filter

    return [Filter(*condition) for condition in given]


@click.command()
@click.argument("meter")
@query
@span
@click.option(
    "--period",
    type=click.IntRange(0, 10 * 366 * 86400),
    default=0,
    help="Length of a period in seconds; 0: one of all.",
)
@click.option("--groupby", multiple=True, help="resource_id, project_id, user_id or source; may be repeated.")
@click.option("--aggregate", multiple=True, help="count, sum, avg, min, max or stddev; may be repeated.")
@click.option("--include-excluded", is_flag=True, help="Count the points too that the quality rules exclude.")
@as_json
def statistics(
    meter: str,
    query: tuple[tuple[str, str, str], ...],
    start: datetime | None,
    end: datetime | None,
    period: int,
    groupby: tuple[str, ...],
    aggregate: tuple[str, ...],
    include_excluded: bool,
    as_json: bool,
) -> None:
    """Statistics of METER's good points, by period and group. Periods start at --from, else at the first point."""
    from meterhouse.queries.statistics import statistics as compute
    from meterhouse.site import Site

    found = compute(
        Site.open(),
        meter,
        query=_filters(query),
        period=period,
        groupby=groupby,
        aggregate=aggregate,
        start=start,
        end=end,
        include_excluded=include_excluded,
    )
    output.rows(found, as_json)


@click.command()
@click.argument("meter")
@query
@span
@limit
@as_json
def samples(
    meter: str,
    query: tuple[tuple[str, str, str], ...],
    start: datetime | None,
    end: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """METER's samples, newest first, with the quality rules that each breaks."""
    from meterhouse.queries.samples import samples as find
    from meterhouse.site import Site

    found = find(Site.open(), meter, query=_filters(query), start=start, end=end, limit=limit)
    output.rows(found.to_pylist(), as_json)


@click.command()
@click.option("--type", "event_type", help="Only events of this type; a glob, such as 'compute.instance.*'.")
@span
@limit
@as_json
def events(event_type: str | None, start: datetime | None, end: datetime | None, limit: int, as_json: bool) -> None:
    """Events with their traits, newest first."""
    from meterhouse.queries.events import events as find
    from meterhouse.site import Site

    found = find(Site.open(), event_type=event_type, start=start, end=end, limit=limit).to_pylist()
    if not as_json:
        found = [{**row, "traits": " ".join(f"{t['name']}={t['value']}" for t in row["traits"])} for row in found]
    output.rows(found, as_json)


@click.command()
@limit
@as_json
def resources(limit: int, as_json: bool) -> None:
    """Resources as their newest sample shows them, the latest first."""
    import json

    from meterhouse.queries.resources import resource_list
    from meterhouse.site import Site

    found = resource_list(Site.open(), limit)
    for row in found:
        row["metadata"] = json.loads(row["metadata"]) if row["metadata"] else None
    if not as_json:
        found = [{name: value for name, value in row.items() if name != "metadata"} for row in found]
    output.rows(found, as_json)


@click.command()
@as_json
def meters(as_json: bool) -> None:
    """Meters that there are, with type, unit, number of series and times."""
    from meterhouse.queries.meters import meter_list
    from meterhouse.site import Site

    output.rows(meter_list(Site.open()), as_json)


@click.command()
@click.argument("name", required=False)
@click.option("--day", type=Day(), help="The day; default yesterday.")
@span
@click.option("--export", "export_it", is_flag=True, help="Put it beside the lake's tables, as Parquet and CSV, too.")
@as_json
def report(
    name: str | None, day: date | None, start: datetime | None, end: datetime | None, export_it: bool, as_json: bool
) -> None:
    """Run the report NAME on the warehouse; without NAME, list the reports and the questions they answer."""
    from meterhouse.queries import reports
    from meterhouse.site import Site

    if name is None:
        output.rows([{"report": each, "question": reports.question(each)} for each in reports.names()], as_json)
        return
    if export_it and (start or end):
        raise click.UsageError("--export takes a --day, not --from and --to")
    site = Site.open()
    day = day or (times.now() - timedelta(days=1)).date()
    first = start or times.day_start(day)
    last = end or (start or times.day_start(day)) + times.DAY
    if export_it:
        from meterhouse.queries.report_exports import export

        made = export(site, name, day)
        for uri in made.uris:
            output.note(f"wrote {uri}")
        found = made.rows.to_pylist()
    else:
        found = reports.run(site, name, first, last)
    output.rows(found, as_json)


@click.command("sql")
@click.argument("statement")
@click.option("--on", "store", type=click.Choice(["lake", "warehouse"]), default="lake", show_default=True)
@as_json
def sql_command(statement: str, store: str, as_json: bool) -> None:
    """Run a SQL STATEMENT on the lake (DuckDB) or the warehouse.

    \b
    Lake: notifications samples events rollups quarantine dead_letters
    Warehouse: series resources resource_metadata rollup_1h rollup_1d alarms alarm_history deliveries
               dirty_hours quality_daily archive_manifest runs leases followed
    """
    from meterhouse.queries import sql as ask
    from meterhouse.site import Site

    site = Site.open()
    if store == "lake":
        output.rows(ask.sql_on_lake(site, statement).to_pylist(), as_json)
    else:
        columns, found = ask.sql_on_warehouse(site, statement)
        output.rows([dict(zip(columns, row, strict=True)) for row in found], as_json)


COMMANDS: list[click.Command] = [statistics, samples, events, resources, meters, report, sql_command]
