"""Commands of bills: show (the default), close, list, again."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.groups import ShowsByDefault
from meterhouse.cli.options import Checked, as_json, prints
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress

if TYPE_CHECKING:
    from meterhouse.billing.bill import Bill, Total
    from meterhouse.site import Site

FORMATS = ("table", "html", "csv", "parquet", "json", "focus")

_LINES = ("project", "service", "resource", "description", "quantity", "unit", "unit_price", "amount", "line_id")
_CLOSED = ("month", "time_zone", "closed_at", "closed_by", "lines", "net", "tax", "total", "currency", "digest")


def _month(text: str) -> str:
    from meterhouse.billing import months

    return months.parse(text)


def _person(text: str) -> str:
    from meterhouse.errors import UsageError

    if not text.strip():
        raise UsageError("it is empty")
    return text


MONTH = Checked("month", _month, ())


@click.group(cls=ShowsByDefault)
def bill() -> None:
    """Bills of a month, and closed months; without a command, show a bill."""


@bill.command()
@click.option("--month", type=MONTH, help="The month: YYYY-MM; default the last one that is over.")
@click.option("--project", help="Only this project: its id, or its name.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="How to write it; default by the ending of the --output, otherwise a table.",
)
@as_json
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file.")
@click.option("--explain", metavar="LINE_ID", help="Show what one line comes from.")
@click.option(
    "--limit", type=click.IntRange(0, 10_000_000), default=10_000, show_default=True, help="Lines in the table at most."
)
@click.option("--wide", is_flag=True, help="Print whole values, whatever the terminal's width.")
def show(
    month: str | None,
    project: str | None,
    form: str | None,
    as_json: bool,
    output: Path | None,
    explain: str | None,
    limit: int,
    wide: bool,
) -> None:
    """Show the bill of a month: its lines, what each comes from, and totals.

    The bill of an open month is as of now; that of a closed month is as it was closed. `--json` prints the lines as
    JSON lines, `--format json` the whole bill as one document.
    """
    if as_json and (form or output):
        raise click.UsageError("--json prints JSON lines: give it, or --format and --output")
    if explain and (form or output):
        raise click.UsageError("--explain shows one line: give it without --format and --output")
    form = form or _by_ending(output)
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text: give an --output, or pipe it")
    from meterhouse.billing import closing
    from meterhouse.site import Site

    with progress("making the bill"):
        site = Site.open()
        made = closing.make(site, month or _last_month(site))
        made = made if project is None else made.of_project(project)
    if explain:
        _explain(made.line(explain), wide)
    elif as_json:
        _json_lines(made)
    elif form == "table" and output is None:
        _table(made, limit, wide)
    else:
        _write(made, form, output, site)
    _notes(made)


@bill.command("list")
@prints(*_CLOSED, whole=("month",))
def list_bills(printer: Printer) -> None:
    """List the closed months."""
    from meterhouse.billing import closing
    from meterhouse.site import Site

    rows = []
    for each in closing.closed(Site.open()):
        about = {
            "month": each.month,
            "time_zone": each.time_zone,
            "closed_at": each.closing.closed_at,
            "closed_by": each.closing.closed_by,
            "lines": each.lines,
            "digest": each.closing.digest,
        }
        rows += [{**about, **_sums(total)} for total in each.totals] or [about]
    printer.rows(rows)


@bill.command()
@click.option("--month", type=MONTH, required=True, help="The month: YYYY-MM.")
@click.option("--by", type=Checked("person", _person, ()), help="Who closes it; default your login name.")
@click.option("--first", is_flag=True, help="Bills begin with this month: earlier ones are never closed.")
@click.option("--force", is_flag=True, help="Close it though hours or messages of it are not counted yet.")
@prints(*_CLOSED)
def close(month: str, by: str | None, first: bool, force: bool, printer: Printer) -> None:
    """Close a month that is over: freeze its bill, and keep all that it was made of.

    A month of which hours are not rolled up, or messages not in the periods, is refused without --force. What changes
    later becomes correction lines in the next bill. A closed month cannot be opened again.
    """
    from meterhouse.billing import closing
    from meterhouse.site import Site

    by = by or _login_name()
    with progress(f"closing {month}"):
        made = closing.close(Site.open(), month, by, is_first=first, is_forced=force)
    assert made.closing is not None
    about = {
        "month": made.month,
        "time_zone": made.time_zone,
        "closed_at": made.closing.closed_at,
        "closed_by": made.closing.closed_by,
        "lines": made.lines.num_rows,
        "digest": made.closing.digest,
    }
    totals = [_sums(each) for each in made.totals()]
    if len(totals) <= 1:
        printer.figures("closed", {name: {**about, **(totals or [{}])[0]}.get(name) for name in _CLOSED})
    else:
        printer.rows([{**about, **total} for total in totals])
    for each in made.remarks:
        note(each)


@bill.command()
@click.option("--month", type=MONTH, help="A closed month of the lake: YYYY-MM.")
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A copy of a closed month's folder."
)
@prints("month", "lines", "total", "currency", "same")
def again(month: str | None, folder: Path | None, printer: Printer) -> None:
    """Make the bill of a closed month again, from its files alone, and compare it with the closed one.

    The exit status is 1 if they differ.
    """
    from meterhouse.billing import closing, frozen
    from meterhouse.site import Site

    if (month is None) == (folder is None):
        raise click.UsageError("give --month or --folder")
    with progress("making the bill again"):
        if folder is not None:
            found = closing.again(frozen.in_folder(folder), str(folder))
        else:
            assert month is not None
            found = closing.again_in_lake(Site.open(), month)
    is_same = not found.differences
    about = {"month": found.month.month, "lines": found.made.lines.num_rows, "same": is_same}
    sums = [_sums(each) for each in found.made.totals()] or [{}]
    printer.rows([{**about, **{name: each.get(name) for name in ("total", "currency")}} for each in sums])
    for text in found.differences:
        note(text)
    if not is_same:
        raise SystemExit(1)


# -- what is shown --------------------------------------------------------------------------------------------


def _last_month(site: "Site") -> str:
    """The last month that is over, in the time zone of the prices."""
    from meterhouse import times
    from meterhouse.billing import months
    from meterhouse.definitions import prices

    zone = prices.load(site.settings.config_dir).zone
    return months.preceding(months.of(times.now().astimezone(zone)))


def _by_ending(output: Path | None) -> str:
    """The format that a file's name is for."""
    if output is None:
        return "table"
    ending = output.suffix.lower().removeprefix(".")
    if ending not in ("html", "csv", "parquet", "json"):
        raise click.UsageError(f"--output {output} has no ending that names a format: give --format")
    return ending


def _write(made: "Bill", form: str, output: Path | None, site: "Site") -> None:
    from meterhouse.billing.formats import write

    settings = site.settings
    in_parquet = output is not None and output.suffix.lower() == ".parquet"
    content = write(made, form, settings.bill_issuer, settings.bill_region, in_parquet=in_parquet)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"--output {output} cannot be written: {error.strerror}") from None
    note(f"wrote {output}")


def _table(made: "Bill", limit: int, wide: bool) -> None:
    """Lines, then totals by project."""
    from meterhouse.billing.bill import descriptions

    printer = Printer("table", whole=("line_id",), wide=wide)
    lines = made.lines.slice(0, limit)
    shown = descriptions(lines).to_pylist()
    rows = lines.drop_columns(["evidence"]).to_pylist()
    printer.rows([_row(made, line, text) for line, text in zip(rows, shown, strict=True)], _LINES)
    if (all_lines := made.lines.num_rows) > limit:
        note(f"not shown: {all_lines - limit:,} of {all_lines:,} lines. See --limit, --project and --format")
    totals = [{"project": made.name(each.of), **_sums(each)} for each in made.totals("project_id")]
    if len({row["project"] for row in totals}) > 1:
        totals += [{"project": "all projects", **_sums(each)} for each in made.totals()]
    if totals:
        click.echo()
        printer.rows(totals)


def _row(made: "Bill", line: dict[str, Any], described: str) -> dict[str, Any]:
    from meterhouse.billing import figures

    return {
        "project": made.name(line["project_id"]),
        "service": line["service"],
        "resource": line["resource_name"] or line["resource_id"],
        "description": described,
        "quantity": line["quantity"],
        "unit": line["unit"],
        "unit_price": line["unit_price"],
        "amount": f"{figures.money(line['amount'])} {line['currency']}",
        "line_id": line["line_id"],
    }


def _explain(line: dict[str, Any], wide: bool) -> None:
    evidence = line.pop("evidence") or []
    printer = Printer("table", wide=wide)
    printer.figures(f"line {line.pop('line_id')}", {name: value for name, value in line.items() if value is not None})
    rows = [
        {
            "from": each["started_at"],
            "to": each["ended_at"],
            "seconds": (each["ended_at"] - each["started_at"]).total_seconds(),
            "begins_with": each["start_evidence"],
            "ends_with": each["end_evidence"],
        }
        for each in evidence
    ]
    if rows:
        click.echo()
        printer.rows(rows)


def _json_lines(made: "Bill") -> None:
    from meterhouse.billing.formats.json_document import objects
    from meterhouse.cli.output import line
    from meterhouse.untrusted import json_text

    for each in objects(made.lines):
        line(json_text(each))


def _sums(total: "Total") -> dict[str, Any]:
    from meterhouse.billing import figures

    return {
        "net": figures.money(total.net),
        "tax": figures.money(total.tax),
        "total": figures.money(total.gross),
        "currency": total.currency,
    }


def _notes(made: "Bill") -> None:
    """What the reader has to know about the bill."""
    from meterhouse import times

    if made.closing is not None:
        note(f"closed at {times.text(made.closing.closed_at)} by {made.closing.closed_by}")
    else:
        note("preliminary: the month is not closed")
    for each in made.remarks:
        note(each)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise click.UsageError("you have no login name: give --by") from None
