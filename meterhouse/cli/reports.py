"""The command of reports."""

from datetime import date, datetime, timedelta

import click

from meterhouse import times
from meterhouse.cli.options import Day, Name, prints, span
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress
from meterhouse.queries import reports


@click.command()
@click.argument("name", required=False, type=Name("report", reports.names))
@click.option("--day", type=Day(), help="The day: YYYY-MM-DD, today or yesterday; default yesterday.")
@span(to_alone=False)
@click.option("--export", "export_it", is_flag=True, help="Also write it beside the lake's tables, as Parquet and CSV.")
@prints(prose=("question",))
def report(
    name: str | None,
    day: date | None,
    start: datetime | None,
    end: datetime | None,
    export_it: bool,
    printer: Printer,
) -> None:
    """Run the report NAME on the warehouse. Without NAME, list the reports and the questions they answer."""
    if name is None:
        if day or start or export_it:
            raise click.UsageError("--day, --from, --to and --export need the NAME of a report")
        printer.rows([{"report": each, "question": reports.question(each)} for each in reports.names()])
        return
    if day and start:
        raise click.UsageError("give --day, or --from and --to, not both")
    if export_it and start:
        raise click.UsageError("--export takes a --day, not --from and --to")
    from meterhouse.site import Site

    day = day or (times.now() - timedelta(days=1)).date()
    with progress(f"running {name}"):
        site = Site.open()
        if export_it:
            from meterhouse.queries.report_exports import export

            made = export(site, name, day)
            columns = made.rows.to_pydict()
        else:
            first = start or times.day_start(day)
            until = end or first + times.DAY
            held = reports.holds_until(site, first, until)  # before the report: what follows meanwhile is in it
            columns = reports.columns(site, name, first, until)
    if export_it:
        for uri in made.uris:
            note(f"wrote {uri}")
        held, until = made.holds_until, times.day_start(day) + times.DAY
    later = "; later points are not rolled up, or have not come" if held < until else ""
    note(f"holds up to {times.text(held)}{later}")
    printer.rows([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], list(columns))
