"""Commands of prices: list, check, import."""

from pathlib import Path

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, line, note
from meterhouse.untrusted import printable


@click.group(cls=ListsByDefault)
def prices() -> None:
    """Prices, by which bills are made; without a command, list them."""


@prices.command("list")
@prints("name", "service", "for", "costs", "unit", "from", "to", "description", "line")
def list_prices(printer: Printer) -> None:
    """List the prices of the site: what each is for, what it costs and when it is valid."""
    from meterhouse.billing.counting import unit_of
    from meterhouse.definitions.prices import load
    from meterhouse.settings import settings

    loaded = load(settings().config_dir)
    rows = [
        {
            "name": each.name,
            "service": each.service,
            "for": each.is_for,
            "costs": each.costs,
            "unit": f"{loaded.currency}/{unit_of(each)}",
            "from": each.start,
            "to": each.end,
            "description": each.description,
            "line": each.line,
        }
        for each in loaded.prices
    ]
    printer.rows(rows)
    for error in loaded.faults:
        note(printable(f"left out: {error}"))


@prices.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check files of prices (FILES; default: the site's own, or the shipped one, which has none).

    Prints each price, discount, minimum and tax that cannot work, with its file and line. The exit status is 1 if there
    is one. Names times at which a price is not valid, between two at which it is.
    """
    from meterhouse.definitions.prices import gaps, load, read
    from meterhouse.settings import settings

    parts = [read(path) for path in files] or [load(settings().config_dir)]
    faults = [error for part in parts for error in part.faults]
    for error in faults:
        line(printable(str(error)))
    for part in parts:
        for gap in gaps(part.prices):
            note(printable(f"{part.path}: {gap}"))
    rules = sum(len(part.discounts) + len(part.minimums) + len(part.taxes) for part in parts)
    note(f"{sum(len(part.prices) for part in parts)} prices, {rules} rules, {len(faults)} faults")
    if faults:
        raise SystemExit(1)
