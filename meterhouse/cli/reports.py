"""The command of reports."""

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import click

from meterhouse import times
from meterhouse.cli.options import Day, Month, Name, config_dir, prints, span
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress
from meterhouse.queries import report_files, reports

if TYPE_CHECKING:
    from meterhouse.site import Site


@click.command()
@click.argument("name", required=False, type=Name("report", lambda: reports.names(config_dir())))
@click.option("--day", type=Day(), help="The day: YYYY-MM-DD, today or yesterday; default yesterday.")
@click.option("--month", type=Month(), help="The month: YYYY-MM; for a report by month, default the last month.")
@span(to_alone=False)
@click.option("--export", "export_it", is_flag=True, help="Also write it beside the lake's tables, as Parquet and CSV.")
@click.option("--list", "list_it", is_flag=True, help="List its exports, and why they are stale if they are.")
@prints(prose=("question", "stale"))
def report(
    name: str | None,
    day: date | None,
    month: date | None,
    start: datetime | None,
    end: datetime | None,
    export_it: bool,
    list_it: bool,
    printer: Printer,
) -> None:
    """Run the report NAME on the warehouse. Without NAME, list the reports and the questions they answer.

    A report that is exported by month runs over the last month, the others over yesterday.
    """
    if name is None:
        if day or month or start or export_it or list_it:
            raise click.UsageError("--day, --month, --from, --to, --export and --list need the NAME of a report")
        _list_reports(printer)
        return
    if (day or month) and start:
        raise click.UsageError(f"give --{'day' if day else 'month'}, or --from and --to, not both")
    if day and month:
        raise click.UsageError("give --day or --month, not both")
    if list_it and (day or month or start or export_it):
        raise click.UsageError("--list takes no --day, --month, --from, --to and --export")
    by = report_files.listed(config_dir())[name].checked().partition
    if export_it and start:
        raise click.UsageError(f"--export takes a --{by}, not --from and --to")
    if export_it and (month if by == "day" else day):
        raise click.UsageError(f"{name} is exported by {by}: --export takes a --{by}")
    from meterhouse.site import Site

    site = Site.open()
    if list_it:
        _list_exports(site, name, printer)
        return
    yesterday = (times.now() - timedelta(days=1)).date()
    last = (times.now().date().replace(day=1) - timedelta(days=1)) if by == "month" else yesterday
    if start is None or end is None:
        whole = day or month or last
        _, start, end = report_files.partition_of("day" if day else "month" if month else by, whole)
    with progress(f"running {name}"):
        if export_it:
            from meterhouse.queries.report_exports import export

            made = export(site, name, start.date())
            columns, held = made.rows.to_pydict(), made.holds_until
        else:
            held = reports.holds_until(site, start, end)  # before the report: what follows meanwhile is in it
            columns = reports.columns(site, name, start, end)
    if export_it:
        for uri in made.uris:
            note(f"wrote {uri}")
        if not made.uris:
            note("there is nothing to export: the report has no rows")
    later = "; later points are not rolled up, or have not come" if held < end else ""
    note(f"holds up to {times.text(held)}{later}")
    printer.rows([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], list(columns))


def _list_reports(printer: Printer) -> None:
    listed = report_files.listed(config_dir())
    for each in listed.values():
        if each.fault:
            line, reason = each.fault
            note(f"meterhouse: {each.error(reason, line)}")
    printer.rows(
        [
            {"report": name, "exported_by": each.partition, "question": each.question}
            for name, each in listed.items()
            if not each.fault
        ]
    )


def _list_exports(site: "Site", name: str, printer: Printer) -> None:
    from sqlalchemy import select

    from meterhouse.queries.export_states import note_stale
    from meterhouse.stores.warehouse_tables import report_exports as table

    stale = {each.partition: each.why for each in note_stale(site) if each.report == name}
    with site.warehouse.read() as connection:
        found = connection.execute(select(table).where(table.c.report == name).order_by(table.c.start_at)).all()
    shown = ("partition", "rows", "made_at", "holds_until")
    printer.rows(
        [{**{column: getattr(each, column) for column in shown}, "stale": stale.get(each.partition)} for each in found],
        [*shown, "stale"],
    )
